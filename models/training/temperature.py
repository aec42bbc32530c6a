"""The temperature at which a model is neither too sure nor too timid, folded into its weights.

A network that reads its text several times becomes too sure of itself. Dividing its logits by a temperature that is
fitted on held-out text repairs that (Guo et al., arXiv 1706.04599) and changes no greedy answer. The logits are linear in
the scale of the last norm, so the division costs nothing.

``python -m models.training.temperature MODEL.gguf T`` divides those of a finished file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

LAST_NORM = "output_norm.weight"
CANDIDATES = (1.0, 1.05, 1.1, 1.15, 1.2, 1.3)


def divide(path: Path, temperature: float) -> None:
    """Divide the logits of the model in ``path`` (F32 norms, as ``export`` writes them) by ``temperature``."""
    import gguf

    reader = gguf.GGUFReader(path, "r+")
    norm = next(t for t in reader.tensors if t.name == LAST_NORM)
    if norm.tensor_type != gguf.GGMLQuantizationType.F32:
        raise SystemExit(f"{LAST_NORM} of {path.name} is {norm.tensor_type.name}, not F32.")
    norm.data[:] = norm.data / temperature
    reader.data.flush()  # type: ignore[attr-defined]  # a memory map


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("temperature", type=float)
    args = parser.parse_args()
    divide(args.model, args.temperature)


if __name__ == "__main__":
    main()
