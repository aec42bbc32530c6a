"""The course of ``stretch convert``: read the checkpoint, write the file, look at what was made."""

from __future__ import annotations

import argparse
import json

from app.engine.words import size
from app.lab.status_line import StatusLine
from app.plain_text import one_line
from app.weights.new_file import check_disk, destination, new_file
from models.convert.llama import read_config
from models.convert.safetensors import Checkpoint, read_json
from models.convert.tokenizer import read_vocabulary
from models.convert.write import plan_conversion, write_gguf
from models.plan import Planner
from models.splits import read_model


def convert(args: argparse.Namespace) -> int:
    """Do it all; the exit code."""
    folder = args.source.expanduser()
    line = StatusLine()
    with Checkpoint(folder) as checkpoint:
        said = read_json(folder / "config.json")
        config = read_config(said)
        vocabulary = read_vocabulary(folder, config.n_vocab, said, args.pre)
        name = folder.resolve().name
        place = destination(args.target, f"{name}-{args.to}.gguf", None, overwrite=args.overwrite)

        def looking(n: int, of: int, tensor: str) -> None:
            line.show(f"looking at the weights: {n} of {of}, {tensor}")

        def writing(n: int, of: int, tensor: str) -> None:
            line.show(f"writing: {n} of {of}, {tensor}")

        conversion = plan_conversion(checkpoint, config, vocabulary, name, args.to, looking)
        check_disk(place, conversion.n_bytes)
        with new_file(place, overwrite=args.overwrite) as part:
            write_gguf(checkpoint, conversion, part, writing)
            line.clear()
            header = read_model(part)
            Planner(header)  # what it would not take is no model
    own = sum(o.own_scale for o in conversion.outputs)
    data = {
        "path": str(place),
        "file_bytes": header.file_bytes,
        "types": {kind: n for kind, n in header.type_bytes().items() if n},
        "scales_kept_exactly": own,
        "pre": vocabulary.pre,
        "template": bool(vocabulary.template),
    }
    if args.json:
        print(json.dumps(data, ensure_ascii=False))
        return 0
    kinds = ", ".join(f"{kind} {size(n)}" for kind, n in header.type_bytes().items() if n)
    print(one_line(f"written to {place}: {size(header.file_bytes)} ({kinds})"))
    print("Every ternary weight came back exactly as it was.")
    if not vocabulary.template:
        print("The checkpoint has no chat template: Stretch will use ChatML.")
    return 0
