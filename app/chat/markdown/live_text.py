"""A text that grows: only its last block is parsed again when more arrives."""

from __future__ import annotations

from app.chat.markdown.blocks import Block, parse, parse_with_lines


class LiveText:
    """Blocks of a text that is being written.

    A block is final when another one follows it in whole lines: nothing that comes later can
    change it then. (A later definition of a reference link could; such a link is shown as it was
    typed until the text is complete.) A line that is not complete decides nothing, because what
    begins like a list can go on like bold text.
    """

    def __init__(self) -> None:
        self._tail = ""
        self._tail_blocks: list[Block] = []
        self.final: list[Block] = []

    def append(self, text: str) -> None:
        """Add ``text`` at the end."""
        self._tail += text
        if "\n" in text:
            self._settle()
        self._tail_blocks = parse(self._tail)

    def _settle(self) -> None:
        """Take the blocks that are final out of the tail."""
        found = parse_with_lines(self._tail[: self._tail.rindex("\n") + 1])
        if len(found) < 2:
            return
        self.final += [block for block, _ in found[:-1]]
        self._tail = "\n".join(self._tail.split("\n")[found[-1][1] :])

    @property
    def blocks(self) -> list[Block]:
        """All blocks as they stand."""
        return self.final + self._tail_blocks
