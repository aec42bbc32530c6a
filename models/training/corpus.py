"""The training text: zstd-compressed JSON lines with ``text``, ``source`` and ``kind``.

One document in 200 is held out by a hash of its text and never trained on.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from models.training.chatml import Turn
from models.training.tasks.arithmetic import is_held_out

LEFT_OUT = frozenset({"abachaa/MedQuAD"})
"""Sources that are not used: medical answers that a small model would only garble."""
TALKS = frozenset({"dialogue", "instruction"})
"""Kinds of text that are conversations; the others are prose."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text of the corpus."""

    text: str
    kind: str
    source: str

    @property
    def is_talk(self) -> bool:
        """Whether it is a conversation."""
        return self.kind in TALKS

    @property
    def held_out(self) -> bool:
        """Whether it is only for examination."""
        return int.from_bytes(blake2b(self.text.encode(), digest_size=4).digest(), "little") % 200 == 0


_SUM = re.compile(r"(?<![\d.,])(\d{2}) ?(?:\+|-|plus|minus|and|from) ?(\d{2})(?![\d.,]\d)")
_ITSELF = re.compile(r"\b(are you|your name|you an? (ai|bot|human|robot|person|computer))\b", re.IGNORECASE)
_SMALL_TALK = frozenset(
    {"generated/templates", "ntulsi/BotBuilder-PersonalityChat", "gunthercox/chatterbot-corpus"}
)


def contradicts(document: Document) -> bool:
    """Whether a text says what the generators say otherwise: who answers, or a sum that is kept for the examination."""
    if document.source in _SMALL_TALK and _ITSELF.search(document.text.split("\n")[0]):
        return True
    return any(is_held_out(int(a), int(b)) for a, b in _SUM.findall(document.text))


def read(folder: Path) -> Iterator[Document]:
    """Every document of the shards in ``folder``, in the order of the files."""
    import zstandard

    for path in sorted(folder.glob("*.jsonl.zst")):
        with path.open("rb") as raw:
            lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(raw), encoding="utf-8")
            for line in lines:
                row = json.loads(line)
                if row["source"] not in LEFT_OUT:
                    yield Document(row["text"], row["kind"], row["source"])


def turns(text: str) -> list[Turn]:
    """The messages of a conversation written as ``User: `` and ``Assistant: `` lines."""
    out: list[Turn] = []
    for line in text.split("\n"):
        for role in ("User", "Assistant"):
            if line.startswith(role + ": "):
                out.append(Turn(role.lower(), line[len(role) + 2 :]))
                break
        else:
            if out:
                out[-1] = Turn(out[-1].role, out[-1].text + "\n" + line)
    return out
