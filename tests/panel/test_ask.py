"""Small questions."""

from __future__ import annotations

from typing import Any

from app.chat.screens.ask import AskText, Choice, Choose, Question
from tests.panel.host import Host


async def answer_of(question: Question, *keys: str) -> Any:
    host = Host()
    answers: list[str | None] = []
    async with host.run_test() as pilot:
        await host.push_screen(question, answers.append)
        await pilot.pause()
        for key in keys:
            await pilot.press(key)
        await pilot.pause()
    return answers


def no_digits(text: str) -> str:
    return "No digits, [b]please[/b]." if any(c.isdigit() for c in text) else ""


async def test_a_text_is_typed_over_the_old_one() -> None:
    assert await answer_of(AskText("Title", "old"), "n", "e", "w", "enter") == ["new"]


async def test_escape_answers_nothing() -> None:
    assert await answer_of(AskText("Title", "old"), "x", "escape") == [None]
    assert await answer_of(Choose("Which?", [Choice("a", "A")]), "escape") == [None]


async def test_what_does_not_suit_is_said_and_not_taken() -> None:
    question = AskText("Title [red]x", "old", no_digits)
    assert await answer_of(question, "4", "enter", "backspace", "x", "enter") == ["x"]


async def test_the_problem_is_shown_as_plain_text() -> None:
    host = Host()
    question = AskText("Title", "", no_digits)
    async with host.run_test() as pilot:
        await host.push_screen(question)
        await pilot.press("4")
        assert str(question._problem.render()) == "No digits, [b]please[/b]."


async def test_one_of_a_few_is_chosen() -> None:
    choices = [Choice("md", "Markdown", "to read"), Choice("json", "JSON", "to keep")]
    assert await answer_of(Choose("Export [into] x", choices), "down", "enter") == ["json"]
    assert await answer_of(Choose("Export", choices), "enter") == ["md"]
