"""What every codec of a parked cache has in common, and the list of all of them.

A codec turns the cells between the exact ones into blocks of bytes, a few layers and a stretch of tokens at
a time, and blocks back into cells. Where the blocks are kept, that they are whole and that they belong
to this model is not its concern.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from quantize.errors import UsageError
from quantize.park.plain import Frame, Source, Target

if TYPE_CHECKING:
    from quantize.park.profile import Profile


class TokenRows(Protocol):
    """Something that is known of every token of a vocabulary."""

    n_embd: int
    n_vocab: int

    def rows(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """A vector for each token, shape (len(tokens), n_embd)."""


Sink = Callable[[bytes], None]
Blocks = Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of cells that are coded together."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Setting:
    """A codec and how fine it is."""

    codec: str
    step: float = 0.0
    """Of the quantizer, for the codecs that have one; bits for ``turboquant``."""
    type_name: str = ""
    """The cache type, for ``ggml``."""

    @property
    def label(self) -> str:
        """``learned``, ``ggml:q4_0``, ``turboquant:3``, ``learned:0.05``; ``parse`` reads it."""
        if self.type_name:
            return f"{self.codec}:{self.type_name}"
        return f"{self.codec}:{self.step:g}" if self.step else self.codec


N_FIRST = 4
"""Tokens at the beginning that are kept exactly: much attention rests on them."""
N_LAST = 8
"""Tokens at the end that are kept exactly."""
LONGEST = 2048
"""Cells of one block."""


def exact_cells(n: int) -> tuple[int, int]:
    """Cells at the beginning and at the end that are kept exactly, of ``n``."""
    first = min(N_FIRST, n)
    return first, min(N_LAST, n - first)


def spans(n: int) -> list[Span]:
    """The stretches between the exact cells of ``n``, the oldest first."""
    first, last = exact_cells(n)
    return [Span(at, min(at + LONGEST, n - last)) for at in range(first, n - last, LONGEST)]


@dataclass(frozen=True, slots=True)
class Job:
    """What a codec works on besides the cells."""

    frame: Frame
    setting: Setting
    cells: tuple[int, ...]
    """Cells of each part."""
    tokens: tuple[NDArray[np.int32], ...]
    """Token of each cell of each part, and"""
    before: tuple[NDArray[np.int32], ...]
    """the token before it in the text, -1 for the first."""
    profile: Profile | None
    """What was calibrated for this model."""
    embedding: TokenRows | None
    """Of the model's tokens, if it can be read."""


class Codec(ABC):
    """One way to make a cache smaller. A subclass joins the list by having a ``name``."""

    name: ClassVar[str]
    about: ClassVar[str]
    """One sentence for the help."""
    needs_profile: ClassVar[bool] = False
    """Whether the model has to be calibrated."""

    def __init_subclass__(cls) -> None:
        if "name" in cls.__dict__:
            if cls.name in CODECS:
                raise TypeError(f"there are two codecs called {cls.name}")
            CODECS[cls.name] = cls()

    @abstractmethod
    def check(self, setting: Setting) -> Setting:
        """``setting`` with everything that it leaves open.

        Raises:
            UsageError: if there is no such setting.
        """

    @abstractmethod
    def obstacle(self, frame: Frame, setting: Setting) -> str:
        """Why this model's cache cannot be coded so, in one sentence; empty if it can."""

    @abstractmethod
    def encode(self, source: Source, job: Job, sink: Sink) -> None:
        """Hand the blocks of all cells between the exact ones to ``sink``."""

    @abstractmethod
    def decode(self, blocks: Blocks, job: Job, target: Target) -> None:
        """Put what the blocks hold into ``target``.

        Raises:
            StateError: if they are not what ``encode`` made of such a cache.
        """


CODECS: dict[str, Codec] = {}
"""Every codec by name."""


def codec(name: str) -> Codec:
    """The codec called ``name``.

    Raises:
        UsageError: if there is none.
    """
    found = CODECS.get(name)
    if found is None:
        raise UsageError(f"There is no codec {name!r}.", f"There are auto, {', '.join(CODECS)}.")
    return found


def parse(text: str) -> Setting:
    """Read ``learned``, ``learned:0.05``, ``ggml:q4_0`` or ``turboquant:3``.

    Raises:
        UsageError: if there is no such codec or setting.
    """
    name, _, detail = text.strip().lower().partition(":")
    found = codec(name)
    if not detail:
        return found.check(Setting(name))
    try:
        return found.check(Setting(name, step=float(detail)))
    except ValueError:
        return found.check(Setting(name, type_name=detail))
