"""The thinking at the beginning of a reply."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.chat.transcript.thinking import SplitText, split_thinking, without_thinking

texts = st.text(alphabet="ab<>/think \n", max_size=40)


def test_thinking_is_taken_from_the_beginning_only() -> None:
    assert split_thinking("<think>a\nb</think>\n\nhello") == SplitText("a\nb", "hello", False)
    assert split_thinking("hello <think>a</think>") == SplitText("", "hello <think>a</think>", False)
    assert split_thinking("\n<think>\nstill") == SplitText("still", "", True)
    assert without_thinking("<think>a</think>b") == "b"


def test_half_a_tag_is_not_shown() -> None:
    assert split_thinking("<thi").undecided
    assert split_thinking("").undecided
    assert not split_thinking("<thought").undecided
    assert split_thinking("<think>a</thi").thinking == "a"


@given(texts, texts)
def test_both_parts_come_back(thinking: str, answer: str) -> None:
    if "</think>" in thinking:
        return
    parts = split_thinking(f"<think>{thinking}</think>{answer}")
    assert parts.thinking == thinking.strip("\n")
    assert parts.answer == answer.lstrip("\n")
    assert not parts.open


@given(texts)
def test_the_answer_only_grows_while_the_text_arrives(text: str) -> None:
    shown = ""
    for n in range(len(text) + 1):
        parts = split_thinking(text[:n])
        if not parts.undecided:
            assert parts.answer.startswith(shown)
            shown = parts.answer
