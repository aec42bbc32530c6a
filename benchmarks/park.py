"""What parking a conversation costs: bytes for a loss, seconds, and what survives a fault.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.park [MODEL] [--calibrations DIR] [--tokens 3000 7800]
                                [--codecs learned turboquant ggml] [--steps 0.1 0.2] [--faults 1000]
                                [--picture FILE] [--threads N] [--no-repack]

Calibrate the model first, unless only ``turboquant`` and ``ggml`` are measured. Seconds are those of the
processor, of all threads together: they hardly depend on what else the machine does. ``--faults`` flips bits,
cuts files and kills a writing process. ``--picture`` draws KLD against size for the first number of tokens.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import process_time

import llama_cpp.llama_cpp as L
import numpy as np
from numpy.typing import NDArray

from app import paths
from benchmarks.park_picture import Point, Wanted, draw
from models.geometry import read_shape
from models.header import read_header
from models.resolve import resolve
from quantize.buffers import allocate
from quantize.errors import StateError
from quantize.lab.divergence import log_softmax
from quantize.lab.text import built_in_text
from quantize.llama import Context, Model, send_log_to
from quantize.park import rans
from quantize.park.codec import CODECS, Setting, codec, spans
from quantize.park.coded import Coded
from quantize.park.facts import facts_of
from quantize.park.file import ParkReader
from quantize.park.parking import ModelFacts, park, unpark
from quantize.park.transform import TransformCodec
from quantize.state import SavedState, read_state

AFTER = 384
F16 = 1
WANTED = (Wanted(6.5, 0.0005), Wanted(12, 0.0035))
STEPS = np.geomspace(0.015, 0.4, 11)
BITS = (4, 3, 2, 1)
TYPES = ("q8_0", "q5_0", "q4_0", "iq4_nl")


class Text:
    """A text in an f16 cache, and the answers that follow it."""

    def __init__(
        self, model: Model, tokens: list[int], n: int, n_after: int = AFTER, n_threads: int = 2
    ) -> None:
        self.context = Context(model, n_ctx=n + n_after, n_outputs_max=n_after, n_threads=n_threads)
        self.before, self.after = tokens[:n], tokens[n : n + n_after]
        self.prefill()
        data = allocate(self.context.state_size())
        self.state = read_state(data[: self.context.save_state(data)])
        self.reference = self.answers(self.state.data)

    def prefill(self) -> float:
        """Processor seconds of reading the text."""
        began = process_time()
        self.context.clear()
        for at in range(0, len(self.before), 512):
            assert self.context.decode(self.before[at : at + 512], at, logits="none") == 0
        return process_time() - began

    def answers(self, data: NDArray[np.uint8]) -> NDArray[np.float64]:
        self.context.clear()
        assert self.context.load_state(data)
        assert self.context.decode(self.after, len(self.before), logits="all") == 0
        pointer = L.llama_get_logits(self.context.handle)
        return log_softmax(np.ctypeslib.as_array(pointer, (len(self.after), self.context.model.n_vocab)))

    def kld(self, state: SavedState) -> float:
        """Mean KLD of the answers."""
        p, q = self.reference, self.answers(state.data)
        return float(np.maximum(np.einsum("ij,ij->i", np.exp(p), p - q), 0).mean())


def parked(text: Text, facts: ModelFacts, setting: Setting, path: Path) -> tuple[float, float]:
    """Ratio and KLD of one setting."""
    done = park(text.state, text.before, facts, setting, path)
    assert done is not None
    with ParkReader(path) as reader:
        return done.ratio, text.kld(unpark(reader, facts, F16, F16, allocate))


def settings_of(name: str, steps: Iterable[float] = STEPS) -> list[Setting]:
    """Settings of a codec from fine to coarse; only the codecs with a quantizer of their own have steps."""
    found = codec(name)
    if isinstance(found, TransformCodec):
        return [found.check(Setting(name, float(step))) for step in steps]
    if name == "turboquant":
        return [found.check(Setting(name, bits)) for bits in BITS]
    return [found.check(Setting(name, type_name=type_name)) for type_name in TYPES]


def sizes(
    text: Text, facts: ModelFacts, name: str, path: Path, least: float, steps: Iterable[float]
) -> list[Point]:
    """How small the codec is at each setting, and at each of the losses that are asked for, as they are and
    above ``least``, the KLD of a change that is none."""
    points = []
    for setting in settings_of(name, steps):
        ratio, kld = parked(text, facts, setting, path)
        points.append(Point(name, setting.label, ratio, kld))
        print(f"  {setting.label:<19} {ratio:5.1f}x, KLD {kld:.5f}, {kld - least:+.5f}", flush=True)
    for wanted in WANTED:
        for more, what in ((0.0, ""), (least, " above the floor")):
            good = [(p.ratio, p.kld) for p in points if p.kld <= wanted.kld + more]
            best = f"{max(good)[0]:5.1f}x (KLD {max(good)[1]:.5f})" if good else "    -"
            print(f"  {name:<11} KLD <= {wanted.kld:g}{what}: {best}", flush=True)
    return points


def floor(text: Text) -> float:
    """KLD of a change that is none: noise on V of 1/4000 of every value, half a rounding step of f16.

    What it costs is what the engine's own rounding makes of any change at all; ten times the noise costs the
    same.
    """
    data = text.state.data.copy()
    rng = np.random.default_rng(2)
    for part in text.state.parts:
        for rows in part.v:
            at = slice(rows.offset, rows.offset + rows.size)
            values = data[at].copy().view(np.float16).astype(np.float32)
            values *= 1 + 2.5e-4 * rng.standard_normal(values.shape, np.float32)
            data[at] = values.astype(np.float16).view(np.uint8)
    return text.kld(read_state(data))


def seconds(text: Text, facts: ModelFacts, setting: Setting, path: Path, rounds: int) -> None:
    """Parking and resuming beside reading the text, in turns."""
    prefill, away, back, f16 = [], [], [], 1
    for _ in range(rounds):
        prefill.append(text.prefill())
        began = process_time()
        done = park(text.state, text.before, facts, setting, path)
        assert done is not None
        f16 = done.f16_bytes
        away.append(process_time() - began)
        began = process_time()
        with ParkReader(path) as reader:
            state = unpark(reader, facts, F16, F16, allocate)
        text.context.clear()
        assert text.context.load_state(state.data)
        back.append(process_time() - began)
    read, parking, resuming = (statistics.median(x) for x in (prefill, away, back))
    print(
        f"  {setting.label}: prefill {read:.2f} s, park {parking:.2f} s "
        f"({f16 / 1e6 / parking:.0f} MB/s of f16 cache per core), resume {resuming:.2f} s = "
        f"{resuming / read:.3f} of the prefill",
        flush=True,
    )


def entropy(text: Text, facts: ModelFacts, path: Path) -> None:
    """What zstd would make of the numbers of a file in place of rANS."""
    zstd = importlib.import_module("zstandard")
    for step in (0.03, 0.05, 0.09):
        done = park(text.state, text.before, facts, Setting("learned", step), path)
        assert done is not None
        blocks = [b for b in _blocks(path, facts) if len(b.z)]
        n = sum(b.z.size for b in blocks) / 1e6
        began = process_time()
        codes = [b.pack() for b in blocks]
        coded = process_time()
        for b, code in zip(blocks, codes, strict=True):
            Coded.unpack(code, b.z.shape[1], len(b.z))
        read = process_time()
        size = sum(len(code) for code in codes)
        speed = f"{n / (coded - began):.0f} million a second written, {n / (read - coded):.0f} read"
        print(f"  learned:{step:g}: {n:.1f} million numbers, {8e-6 * size / n:.2f} bits with rANS, {speed}")
        plain = [_as_bytes(b.z) for b in blocks]
        for level in (3, 19):
            write, back = zstd.ZstdCompressor(level=level), zstd.ZstdDecompressor()
            began = process_time()
            codes = [write.compress(b) for b in plain]
            coded = process_time()
            for code in codes:
                back.decompress(code)
            read = process_time()
            other = sum(len(code) for code in codes)
            sizes = f"{other / size:.2f} of that, the file {1 + (other - size) / done.n_bytes:.2f}"
            speed = f"{n / (coded - began):.0f} written, {n / (read - coded):.0f} read"
            print(f"    zstd {level}: {sizes}; {speed}", flush=True)


def _blocks(path: Path, facts: ModelFacts) -> Iterator[Coded]:
    """The blocks of a file behind its exact tokens."""
    learned = CODECS["learned"]
    assert isinstance(learned, TransformCodec)
    groups = learned.groups(facts.frame)
    with ParkReader(path) as reader:
        for layers in facts.frame.geometry.parts:
            for _ in range(1 + 2 * len(layers)):
                reader.block()
        for group in groups:
            for span in spans(reader.about.cells[group.part]):
                yield Coded.unpack(reader.block(), span.end - span.start, group.width(facts.frame))


def _as_bytes(z: rans.Numbers) -> bytes:
    """One byte a number, two (the low ones first) where one is too few."""
    if np.abs(z).max() < 128:
        return z.astype(np.int8).tobytes()
    return z.astype("<i2").view(np.uint8).reshape(-1, 2).T.tobytes()


def faults(text: Text, facts: ModelFacts, setting: Setting, path: Path, n: int) -> None:
    """Flip bits, cut files, kill writers; count what comes out wrong."""
    assert park(text.state, text.before, facts, setting, path) is not None
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    wrong = found = 0
    n_kills = min(n // 10, 100)
    for i in range(n - n_kills):
        changed = bytearray(whole)
        if i % 2:
            changed[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        else:
            del changed[rng.integers(len(whole)) :]
        path.write_bytes(changed)
        try:
            with ParkReader(path) as reader:
                unpark(reader, facts, F16, F16, allocate)
            wrong += 1
        except StateError:
            found += 1
    path.write_bytes(whole)
    lost = kills(path, whole, n_kills)
    print(
        f"  {n - n_kills} flips and cuts: {found} found, {wrong} wrong restores; {n_kills} kills: {lost} lost"
    )


_WRITER = """
import sys, pathlib
from quantize.park.file import ParkReader, ParkWriter
path = pathlib.Path(sys.argv[1])
with ParkReader(path) as reader:
    blocks, about, tokens = [], reader.about, reader.tokens
    try:
        while True:
            blocks.append(reader.block())
    except Exception:
        pass
print("ready", flush=True)
while True:
    with ParkWriter(path, about, tokens) as writer:
        for block in blocks:
            writer.block(block)
        writer.finish()
"""


def kills(path: Path, whole: bytes, n: int) -> int:
    """Kill a process that writes the same file again and again; how often it was not whole after."""
    rng = np.random.default_rng(1)
    lost = 0
    for _ in range(n):
        process = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(float(rng.uniform(0, 0.1)))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        lost += path.read_bytes() != whole
        for left in path.parent.glob(".*.tmp"):
            left.unlink()
    return lost


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", default="builtin")
    parser.add_argument("--calibrations", type=Path, default=paths.calibrations_dir())
    parser.add_argument("--tokens", type=int, nargs="+", default=[3000, 7800])
    parser.add_argument("--codecs", nargs="+", default=["learned", "crosslayer", "lowrank"])
    parser.add_argument("--step", type=float, default=0.09, help="of the first codec, if it has steps")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--faults", type=int, default=0)
    parser.add_argument("--picture", metavar="FILE", type=Path, help="an SVG file to write")
    parser.add_argument(
        "--after", type=int, default=AFTER, help="tokens whose answers are compared, at most 512"
    )
    parser.add_argument("--steps", type=float, nargs="+", help="of the codecs that have steps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-repack", action="store_true", help="no second, faster copy of the weights")
    parser.add_argument("--zstd", action="store_true", help="compare with zstd (pip install zstandard)")
    args = parser.parse_args()
    send_log_to(lambda _level, _text: None)
    steps = args.steps or STEPS
    path = resolve(args.model)
    geometry = read_shape(read_header(path)).geometry()
    with Model(path, repack=not args.no_repack) as model, tempfile.TemporaryDirectory() as directory:
        facts = facts_of(model, geometry, args.calibrations)
        tokens = model.tokenize(built_in_text(), add_special=True, parse_special=False)
        file = Path(directory) / "text.park"
        usual = settings_of(args.codecs[0])[0]
        if isinstance(codec(usual.codec), TransformCodec):
            usual = Setting(usual.codec, args.step)
        for n in args.tokens:
            first = n == args.tokens[0]
            n = min(n, len(tokens) - args.after)
            print(f"{args.model}, {n:,} tokens", flush=True)
            text = Text(model, tokens, n, args.after, args.threads)
            least = floor(text)
            print(f"  floor (noise of half a rounding step of f16 on V): KLD {least:.2g}", flush=True)
            points = [point for name in args.codecs for point in sizes(text, facts, name, file, least, steps)]
            if args.picture and first:
                subtitle = f"{args.after} tokens after {n:,} parked ones; everything in the file counted"
                drawn = draw(points, f"{args.model}: what parking costs", subtitle, least, WANTED)
                args.picture.write_text(drawn, encoding="utf-8")
            if args.rounds:
                seconds(text, facts, usual, file, args.rounds)
            if args.zstd:
                entropy(text, facts, file)
            if args.faults and first:
                faults(text, facts, usual, file, args.faults)
            text.context.close()


if __name__ == "__main__":
    main()
