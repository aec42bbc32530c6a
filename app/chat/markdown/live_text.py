"""A text that grows: only its last block is parsed again when more arrives."""

from __future__ import annotations

from app.chat.markdown.blocks import Block, parse_with_lines


class LiveText:
    """Blocks of a text that is being written.

    Every block but the last is final: whatever follows cannot change it. (A later definition
    of a reference link could; such a link is shown as it was typed until the text is complete.)
    """

    def __init__(self) -> None:
        self._tail = ""
        self._tail_blocks: list[Block] = []
        self.final: list[Block] = []

    def append(self, text: str) -> None:
        """Add ``text`` at the end."""
        self._tail += text
        found = parse_with_lines(self._tail)
        if len(found) > 1:
            lines = self._tail.split("\n")
            start = found[-1][1]
            self._tail = "\n".join(lines[start:])
            self.final += [block for block, _ in found[:-1]]
            found = found[-1:]
        self._tail_blocks = [block for block, _ in found]

    @property
    def blocks(self) -> list[Block]:
        """All blocks as they stand."""
        return self.final + self._tail_blocks
