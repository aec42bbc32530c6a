"""``stretch convert``: a checkpoint with ternary weights becomes a GGUF file without loss."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "Make a GGUF file of a ternary (BitNet b1.58) llama checkpoint, without loss."

EPILOG = """\
IN is the directory of a checkpoint as it lies on the hub: model.safetensors (or its parts with their index),
config.json and tokenizer.json. Its layers have to be ternary, packed or written out. Nothing is rounded:
every weight is compared with what it was. The file is written tensor by tensor and takes little memory.

  stretch convert Falcon3-3B-Instruct-1.58bit/ falcon3-tq2_0.gguf
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.epilog = EPILOG
    parser.add_argument("source", metavar="IN", type=Path, help="the directory of the checkpoint")
    parser.add_argument("target", metavar="OUT", type=Path, help="the file to write, or a directory for it")
    parser.add_argument(
        "--to",
        choices=("tq2_0", "tq1_0"),
        default="tq2_0",
        help="2.06 bits and fast, or 1.69 bits and slower (default: tq2_0)",
    )
    parser.add_argument("--pre", default="", metavar="NAME", help="llama.cpp's name of how texts are cut")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Convert.

    Raises:
        UsageError: if the file cannot be written there.
        ModelFileError: if the checkpoint cannot be converted.
    """
    from app.weights.conversion import convert

    return convert(args)
