"""The temperature at which a model is neither too sure nor too timid, folded into its weights.

A network that reads its text several times becomes too sure of itself. Dividing its logits by a temperature that is
fitted on held-out text repairs that (Guo et al., arXiv 1706.04599) and changes no greedy answer. The logits are linear in
the scale of the last norm, so the division costs nothing.

``python -m models.training.temperature MODEL.gguf --divide T`` divides those of a finished file, and
``... MODEL.gguf --fit CORPUS`` prints the bits per byte that held-out documents need at each temperature.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from random import Random

LAST_NORM = "output_norm.weight"
CANDIDATES = (1.0, 1.05, 1.1, 1.15, 1.2, 1.3)
AROUND = (0.9, 0.95, *CANDIDATES)
"""Of a finished file, whose logits may have been divided."""


def divide(path: Path, temperature: float) -> None:
    """Divide the logits of the model in ``path`` (F32 norms, as ``export`` writes them) by ``temperature``."""
    import gguf

    reader = gguf.GGUFReader(path, "r+")
    norm = next(t for t in reader.tensors if t.name == LAST_NORM)
    if norm.tensor_type != gguf.GGMLQuantizationType.F32:
        raise SystemExit(f"{LAST_NORM} of {path.name} is {norm.tensor_type.name}, not F32.")
    norm.data[:] = norm.data / temperature
    reader.data.flush()  # type: ignore[attr-defined]  # a memory map


def fit(model: Path, folder: Path, n_bytes: int) -> Iterator[tuple[float, float, float]]:
    """Temperature, and bits per byte of about ``n_bytes`` of held-out prose and of held-out talk with it."""
    from models.training import corpus
    from models.training.examine import Candidate, bits_per_byte
    from quantize.llama import send_log_to

    send_log_to(lambda _level, _text: None)
    candidate = Candidate(model)
    held_out = [d for d in corpus.read(folder) if d.held_out]
    Random(3).shuffle(held_out)
    prose, talk = ([d.text for d in held_out if d.is_talk == wanted] for wanted in (False, True))
    for t in AROUND:
        yield (
            t,
            bits_per_byte(candidate, prose, False, n_bytes, t).value,
            bits_per_byte(candidate, talk, True, n_bytes, t).value,
        )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--divide", type=float, metavar="T")
    what.add_argument("--fit", type=Path, metavar="CORPUS")
    parser.add_argument("--bytes", type=int, default=100_000, help="of prose and of talk that are read")
    args = parser.parse_args()
    if args.divide:
        divide(args.model, args.divide)
        return
    for temperature, prose, talk in fit(args.model, args.fit, args.bytes):
        print(
            f"{temperature:.2f}  prose {prose:.4f}  talk {talk:.4f}  mean {(prose + talk) / 2:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
