"""``stretch quantize``: write a model's weights with fewer bits, and say what that saves and costs."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from app.lab.experiment import natural
from quantize.errors import UsageError

HELP = "Write a model's weights with fewer bits, and measure what that costs."

EPILOG = """\
The work is done by llama.cpp's own quantizer in a process of its own. Before it starts, Stretch says how
large the file becomes and what that does to the memory; afterwards it compares the answers of both files to
a text. Types for ternary and 1-bit weights (tq2_0, tq1_0, q2_0, q1_0) are refused for other weights.

  stretch quantize model-f16.gguf model-q4.gguf --to q4_k_m
  stretch quantize model-f16.gguf out/ --to q4_k_m --tensor-type "ffn_down=q6_k" --dry-run
"""

N_TOKENS = 512
"""Tokens on which the loss is measured unless another number is asked for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.epilog = EPILOG
    parser.add_argument(
        "source", metavar="IN", help="the model: a path or a name, best with f16 or bf16 weights"
    )
    parser.add_argument("target", metavar="OUT", type=Path, help="the file to write, or a directory for it")
    parser.add_argument("--to", metavar="TYPE", required=True, help="for example q4_k_m, q8_0, tq2_0")
    parser.add_argument(
        "--dry-run", action="store_true", help="only say how large it becomes and what it does to the memory"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--force", action="store_true", help="even if the weights are not made for this type")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    how = parser.add_argument_group("how")
    how.add_argument("--imatrix", metavar="FILE", type=Path, help="importance matrix (of llama-imatrix)")
    how.add_argument(
        "--tensor-type",
        metavar="PATTERN=TYPE",
        type=tensor_type,
        action="append",
        default=[],
        help="type of the tensors whose names hold this regular expression; may be given several times",
    )
    how.add_argument("--embedding-type", metavar="TYPE", type=type_id, help="type of the token embedding")
    how.add_argument("--output-type", metavar="TYPE", type=type_id, help="type of the output matrix")
    how.add_argument("--pure", action="store_true", help="the same type for all matrices")
    how.add_argument("--threads", metavar="N", type=natural, default=0, help="threads; 0 takes the cores")
    loss = parser.add_argument_group("loss")
    loss.add_argument(
        "--text", metavar="FILE", type=Path, help="measure on this text (default: built-in prose)"
    )
    loss.add_argument(
        "--tokens",
        metavar="N",
        type=natural,
        default=N_TOKENS,
        help=f"tokens to measure on; 0 leaves it out (default: {N_TOKENS})",
    )


def run(args: argparse.Namespace) -> int:
    """Quantize and measure.

    Raises:
        UsageError: if the arguments do not make sense together.
        StretchError: if the model cannot be quantized so.
    """
    from app.weights.quantization import Quantization

    return Quantization(args).run()


def type_id(text: str) -> int:
    """ggml's id of a tensor type."""
    from models.tensor_types import TENSOR_TYPES

    found = next((t.id for t in TENSOR_TYPES.values() if t.name == text.strip().lower()), None)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no type of a tensor, for example q6_k")
    return found


def tensor_type(text: str) -> tuple[str, int]:
    """``PATTERN=TYPE``."""
    pattern, sign, name = text.rpartition("=")
    if not sign or not pattern:
        raise UsageError(f"{text!r} is no pattern with a type.", 'Write for example "ffn_down=q6_k".')
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{pattern!r} is no regular expression: {error}.") from None
    return pattern, type_id(name)
