"""Markdown on the page: every text is laid out within its width, and a growing text ends as a whole one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.geometry import Offset
from textual.selection import Selection

from app.chat.markdown.blocks import Code, Heading, Items, Paragraph, Quote, Rule, Table, parse
from app.chat.markdown.layout import Row, lay_out
from app.chat.markdown.live_text import LiveText
from app.chat.markdown.passage import selected_text
from tests.chat.sample import REPLY

PIECES = [
    "plain words",
    "**bold** and *thin*",
    "`code`",
    "- item\n",
    "  - nested\n",
    "1. one\n",
    "2. two\n",
    "> quote\n",
    "```python\n",
    "x = 1\n",
    "```\n",
    "\n",
    "\n\n",
    "| a | b |\n|---|--:|\n| 1 | 2 |\n",
    "# Title\n",
    "---\n",
    "[link](http://x.y)",
    "![alt](pic.png)",
    "    indented\n",
    "<b>html</b>",
    "日本語のテキスト",
    "e\u0301",
    "\t",
    "\\",
    "===\n",
    "* * *\n",
    "~~gone~~",
    "  \n",
    "[bold red]markup[/]",
    "\x1b[31mred\x1b[0m",
]
markdown = st.lists(st.sampled_from(PIECES), max_size=24).map("".join)


def plain_rows(text: str, width: int) -> list[str]:
    return [row.content.plain for row in lay_out(parse(text), width)]


@given(markdown, st.integers(10, 120))
def test_no_row_is_wider_than_the_page(text: str, width: int) -> None:
    # A row can be wider only where nested blocks keep their narrowest width.
    for row in lay_out(parse(text), max(width, 40)):
        assert row.content.cell_length <= max(width, 40)


@given(markdown | st.text(max_size=200))
def test_control_characters_never_reach_the_page(text: str) -> None:
    for row in plain_rows(text, 60):
        assert all(c.isprintable() or c == " " or ord(c) > 0x9F for c in row), repr(row)


@given(markdown, st.integers(0, 2**32))
def test_a_growing_text_ends_as_a_whole_one(text: str, seed: int) -> None:
    import random

    rng = random.Random(seed)
    live = LiveText()
    at = 0
    while at < len(text):
        step = rng.randint(1, 9)
        live.append(text[at : at + step])
        at += step
    assert [plain(b) for b in live.blocks] == [plain(b) for b in parse(text)]


def plain(block: object) -> list[str]:
    return [row.content.plain for row in lay_out([block], 60)]  # type: ignore[list-item]


@given(markdown)
def test_what_is_final_stays(text: str) -> None:
    live = LiveText()
    final: list[object] = []
    for char in text:
        live.append(char)
        assert live.final[: len(final)] == final
        final = list(live.final)


def test_every_kind_of_block() -> None:
    kinds = [type(block) for block in parse(REPLY.split("</think>")[1])]
    assert kinds == [Paragraph, Items, Table, Code, Paragraph, Items]
    assert [type(b) for b in parse("# a\n\n> b\n\n---")] == [Heading, Quote, Rule]


def test_lists_hang_their_text() -> None:
    assert plain_rows("- one two three four\n  - five\n\n10. ten", 12) == [
        "• one two",
        "  three four",
        "  ◦ five",
        "",
        "10. ten",
    ]


def test_columns_of_a_table_give_way_where_they_are_widest() -> None:
    rows = plain_rows(
        "| name | what it says |\n|---|---:|\n| a | a long sentence that has to be broken |", 24
    )
    assert max(map(cell_len, rows)) <= 24
    assert rows[0].startswith("name")
    assert len(rows) > 4


def test_html_links_and_pictures_are_shown_as_they_are() -> None:
    text = "\n".join(plain_rows("<script>x</script> [here](http://a.b) ![pic](c.png)", 80))
    assert text == "<script>x</script> here (http://a.b) [pic] (c.png)"


def test_markup_of_the_terminal_toolkit_is_text() -> None:
    assert plain_rows("[bold red]a[/] [@click=app.quit]b[/]", 60) == ["[bold red]a[/] [@click=app.quit]b[/]"]


HOSTILE = ["[" * 5000, "> " * 3000 + "x", "- " * 3000 + "x", "*" * 5000 + "x", "|" * 5000, "x" + "`" * 5001]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_text_is_shown_whole(number: int) -> None:
    text = HOSTILE[number]
    shown = "".join(plain_rows(text, 80)).replace(" ", "")
    assert shown.strip("•>│-*") == text.replace(" ", "").strip(">-*")


def test_selected_text_joins_what_was_wrapped() -> None:
    rows = lay_out(parse("- one two three four\n\nlast line"), 12)
    assert selected_text(rows, Selection(None, None)) == "• one two three four\n\nlast line"
    assert selected_text(rows, Selection(Offset(2, 0), Offset(5, 1))) == "one two thr"


def test_rows_say_which_go_on() -> None:
    rows = lay_out(parse("one two three"), 8)
    assert [(row.content.plain, row.joined) for row in rows] == [("one two", False), ("three", True)]
    assert isinstance(rows[0], Row)
