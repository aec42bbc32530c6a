"""What conversations that share a beginning take on the disk, and what parking does to a pruned cache.

    python -m benchmarks.park_shared [MODEL] [--calibrations DIR] [--codecs auto turboquant:4] [--faults 1000]

Shared: conversations with a beginning in common and 400 tokens of their own are parked one after the other;
their bytes together, beside those of each alone, and the KLD of what follows the last one both ways. Pruned:
half of the cells stay, other ones in every head (``lagkv``); the KLD of what follows is to the pruned cache
as it was in memory.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np

from app import paths
from benchmarks.park import AFTER, F16, Text
from models.geometry import read_shape
from models.header import read_header
from models.resolve import resolve
from quantize.buffers import allocate
from quantize.errors import StateError, UsageError
from quantize.lab.text import built_in_text
from quantize.llama import Model, send_log_to
from quantize.park.auto import choose
from quantize.park.codec import Setting, parse
from quantize.park.facts import facts_of
from quantize.park.file import ParkReader
from quantize.park.parking import Cut, ModelFacts, park, unpark
from quantize.park.shared import park_shared
from quantize.prune.policy import policy
from quantize.prune.prune import plan_prune, write_pruned
from quantize.prune.selection import Request
from quantize.state import SavedState, read_state

CELLS = (
    "ggml:q8_0",
    "turboquant:4",
    "turboquant:3",
    "ggml:q4_0",
    "lowrank:0.02",
    "lowrank:0.045",
    "lowrank:0.05",
    "crosslayer:0.02",
    "crosslayer:0.03",
    "crosslayer:0.045",
    "learned:0.02",
    "learned:0.045",
)


def back(path: Path, facts: ModelFacts) -> SavedState:
    """What comes out of a file, as f16."""
    with ParkReader(path) as reader:
        return unpark(reader, facts, F16, F16, allocate)


def shared(model: Model, tokens: list[int], n: int, facts: ModelFacts, setting: Setting, most: int) -> None:
    """Conversations with ``n`` tokens in common and 400 of their own."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        alone = 0
        for i in range(1, most + 1):
            at = n + i * 800
            text = Text(model, [*tokens[:n], *tokens[at : at + 400 + AFTER]], n + 400)
            done = park(text.state, text.before, facts, setting, folder / "alone")
            assert done is not None
            one = text.kld(back(folder / "alone", facts))
            alone += done.n_bytes
            (folder / "alone").unlink()
            park_shared(text.state, text.before, facts, setting, folder / f"{i}.park", allocate)
            together = sum(p.stat().st_size for p in folder.iterdir())
            kld = text.kld(back(folder / f"{i}.park", facts))
            print(
                f"  {setting.label}, {n:,} tokens in common, {i} conversations: {together / alone:.2f} of "
                f"the bytes ({together:,} and {alone:,}); KLD of the last {kld:.5f}, alone {one:.5f}",
                flush=True,
            )
            if i == most:
                first = Text(model, [*tokens[:n], *tokens[n + 800 : n + 1200 + AFTER]], n + 400)
                kld = first.kld(back(folder / "1.park", facts))
                print(f"  the first one after all that: KLD {kld:.5f}", flush=True)
                first.context.close()
            text.context.close()


def faults(model: Model, tokens: list[int], n: int, facts: ModelFacts, setting: Setting, most: int) -> None:
    """Flip bits of two conversations and of what they share, cut these files, remove them; count what comes
    out wrong."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        for i in (1, 2):
            text = Text(model, [*tokens[:n], *tokens[n + i * 800 : n + i * 800 + 400 + AFTER]], n + 400)
            park_shared(text.state, text.before, facts, setting, folder / f"{i}.park", allocate)
            text.context.close()
        right = {i: back(folder / f"{i}.park", facts).data.tobytes() for i in (1, 2)}
        files = sorted(folder.iterdir())
        found = good = wrong = 0
        for _ in range(most):
            path = files[rng.integers(len(files))]
            whole = path.read_bytes()
            changed = bytearray(whole)
            kind = rng.integers(5)
            if kind < 3:
                changed[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
            elif kind < 4:
                del changed[rng.integers(len(whole)) :]
            path.write_bytes(changed)
            if kind == 4:
                path.unlink()
            for i, expected in right.items():
                try:
                    same = back(folder / f"{i}.park", facts).data.tobytes() == expected
                    good, wrong = good + same, wrong + (not same)
                except (StateError, OSError):
                    found += 1
            path.write_bytes(whole)
    print(f"  {most} faults: {good} right restores, {found} found, {wrong} wrong", flush=True)


def pruned(model: Model, tokens: list[int], n: int, facts: ModelFacts) -> None:
    """Half of the cells of ``n`` tokens, parked with every codec that can."""
    text = Text(model, tokens, n)
    geometry = facts.frame.geometry
    plan = plan_prune(text.state, geometry, policy("lagkv"), Request(0.5))
    data = allocate(plan.size)
    write_pruned(text.state, geometry, plan, data)
    print(
        f"  {plan.n_kept:,} of {n:,} cells; KLD to the whole cache {text.kld(read_state(data)):.5f}",
        flush=True,
    )
    text.state = read_state(data)
    text.reference = text.answers(data)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "pruned.park"
        for name in CELLS:
            try:
                setting = choose(name, facts)
            except UsageError:
                continue
            cut = Cut(n - plan.n_kept, plan.whole_from, True)
            done = park(text.state, text.before, facts, setting, path, cut=cut)
            assert done is not None
            print(f"  {name:<14} {done.ratio:5.1f}x, KLD {text.kld(back(path, facts)):.5f}", flush=True)
    text.context.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", default="builtin")
    parser.add_argument("--calibrations", type=Path, default=paths.calibrations_dir())
    parser.add_argument("--codecs", nargs="+", default=["turboquant:4"])
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--conversations", type=int, default=3)
    parser.add_argument(
        "--faults", type=int, default=0, help="faults to make in files that share a beginning"
    )
    args = parser.parse_args()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    send_log_to(lambda _level, _text: None)
    path = resolve(args.model)
    geometry = read_shape(read_header(path)).geometry()
    with Model(path) as model:
        facts = facts_of(model, geometry, args.calibrations)
        tokens = model.tokenize(built_in_text(), add_special=True, parse_special=False)
        if args.faults:
            faults(model, tokens, args.tokens, facts, parse(args.codecs[0]), args.faults)
            return
        print(f"{args.model}, {facts.profile.digest if facts.profile else 'not calibrated'}", flush=True)
        pruned(model, tokens, args.tokens, facts)
        for name in args.codecs:
            setting = choose(name, facts) if name == "auto" else parse(name)
            shared(model, tokens, args.tokens, facts, setting, args.conversations)


if __name__ == "__main__":
    main()
