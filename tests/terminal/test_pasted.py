"""Whatever is pasted arrives as text: nothing of it is lost, nothing of it acts as a key."""

from __future__ import annotations

import pytest
from textual import events

from app.pasted import BEGIN, END, Pastes, _Parser

LOG = (
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 plain\r\n\x1b[1;3H\x11"
    "\x1b]8;;https://x\x1b\\link\x1b]8;;\x1b\\ \x1b(B\u202e\u2066\x1b"
)
TEXT = "red  plain\r\n\x11link "


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_a_log_with_colours_in_pieces_of_any_size(size: int) -> None:
    sent = f"ab{BEGIN}{LOG}{END}\x1b[A{BEGIN}{END}{BEGIN}\x1b[201two{END}c"
    pastes = Pastes()
    clean = "".join(pastes.clean(sent[n : n + size]) for n in range(0, len(sent), size))
    assert clean == f"ab{BEGIN}{TEXT}{END}\x1b[A{BEGIN}{END}{BEGIN}wo{END}c"


def test_textual_reads_one_paste_and_no_key() -> None:
    parser, sent = _Parser(), f"{BEGIN}{LOG}{END}x"
    read = [event for n in range(0, len(sent), 10) for event in parser.feed(sent[n : n + 10])]
    assert [event.text for event in read if isinstance(event, events.Paste)] == [TEXT]
    assert [event.key for event in read if isinstance(event, events.Key)] == ["x"]
