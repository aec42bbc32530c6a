"""The model card: what the models are, what they were trained on, what they reach.

``python -m models.training.card OUT CORPUS [--examination FILE]`` writes ``OUT/MODEL.md`` again, with the figures
of ``models.training.examine --json FILE`` in it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from models.training.config import Shape

TITLES = {
    "dense": "Stretch demonstration",
    "ternary": "Stretch demonstration, ternary",
    "small": "Stretch laboratory",
}
KINDS = {
    "dense": "every matrix q8_0",
    "ternary": "blocks ternary, trained so and stored without loss as TQ2_0; embedding q8_0",
    "small": "every matrix q8_0; head_dim 64, for the measurements only",
}


def parameters(shape: Shape) -> int:
    """Number of weights; the embedding is tied."""
    heads = shape.head_dim * (2 * shape.n_head + 2 * shape.n_head_kv)
    block = shape.n_embd * (heads + 3 * shape.n_ff + 2)
    return shape.n_vocab * shape.n_embd + shape.n_layer * block + shape.n_embd


def figures(out: Path) -> dict[str, dict[str, Any]]:
    """What the runs recorded: parameters, time, tokens, and the last figures of each curve."""
    found: dict[str, dict[str, Any]] = {}
    for name in TITLES:
        config, curve = out / f"{name}-config.json", out / f"{name}-curve.jsonl"
        if config.exists() and curve.exists() and curve.stat().st_size:
            run = json.loads(config.read_text())
            last = json.loads(curve.read_text().splitlines()[-1])
            files = [p for p in out.glob(f"stretch-{name}-*.gguf")]
            found[name] = {
                "parameters": parameters(Shape(**run["shape"])),
                "bytes": files[0].stat().st_size if files else 0,
                "minutes": run["minutes"],
                "fingerprint": run["fingerprint"],
                **last,
            }
    return found


def attribution(corpus: Path) -> str:
    """The part of the corpus' ``SOURCES.md`` that every release has to carry."""
    path = corpus / "SOURCES.md"
    if not path.exists():
        return ""
    after = path.read_text().partition("## Attribution")[2]
    lines = after.split("\n## ")[0].splitlines()[1:]
    return "\n".join(lines).strip()


def write(out: Path, corpus: Path, examination: dict[str, dict[str, float]] | None = None) -> str:
    """The card as Markdown."""
    rows = figures(out)
    text = [
        "# The built-in models",
        "",
        "Small chat models that make the first start work without a network, trained by `models/training`. They are",
        "demonstrations: they remember what they are told, do small sums, answer questions about this program, and are",
        "wrong about most other things. Nothing that they say of medicine, law or the world should be relied on.",
        "",
        "| model | weights | parameters | size | training | tokens | bits per byte, held-out prose / chat |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        text.append(
            f"| {name} | {KINDS[name]} | {row['parameters'] / 1e6:.1f} M | {row['bytes'] / 1e6:.1f} MB | "
            f"{row['minutes']:.1f} min | {row['tokens'] / 1e6:.0f} M | "
            f"{row.get('prose', 0):.3f} / {row.get('chat', 0):.3f} |"
        )
    prints = sorted({row["fingerprint"] for row in rows.values()})
    text += [
        "",
        f"Architecture llama, ChatML, trained context 8,192. Fingerprint of the text: {', '.join(prints)}.",
    ]
    if examination:
        names = list(examination)
        text += [
            "",
            "## Examination",
            "",
            "| figure | " + " | ".join(names) + " |",
            "|---" * (len(names) + 1) + "|",
        ]
        for line in next(iter(examination.values())):
            text.append(
                f"| {line} | " + " | ".join(f"{examination[n].get(line, 0):.3f}" for n in names) + " |"
            )
    text += ["", "## Training text and attribution", "", attribution(corpus), ""]
    return "\n".join(text)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--examination", type=Path)
    args = parser.parse_args()
    examination = json.loads(args.examination.read_text()) if args.examination else None
    (args.out / "MODEL.md").write_text(write(args.out, args.corpus, examination))


if __name__ == "__main__":
    main()
