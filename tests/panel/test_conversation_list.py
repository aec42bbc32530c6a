"""The list of conversations, over a real store."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.chat.messages import ConversationWanted, NewConversationWanted
from app.chat.screens.conversation_list import ConversationList
from app.chat.session import Session
from tests.panel.host import Host, until

HOSTILE = "[red]Title[/red] \x1b[31mred\x1b[0m \u202etxet"


@pytest.fixture
def talks(session: Session) -> dict[str, int]:
    """Three conversations; the last one was used last."""
    ids = {}
    for title, said, reply in (
        ("Cats", "Tell me about cats", "Cats sleep most of the day."),
        (HOSTILE, "What is [bold]markup[/bold]?", "A language.\nIt has \x1b]0;owned\x07 tags."),
        ("Numbers", "What is a prime?", "A number with two divisors, unlike a cat."),
    ):
        conversation = session.store.new_conversation(title=title, model="builtin")
        first = session.store.add(conversation.id, "user", said)
        session.store.add(conversation.id, "assistant", reply, parent=first.id)
        ids[title] = conversation.id
    return ids


def list_in_host(session: Session, query: str = "") -> tuple[Host, ConversationList]:
    screen = ConversationList(session, query)
    return Host(screen=screen), screen


async def test_the_one_used_last_comes_first_and_enter_opens_it(
    session: Session, talks: dict[str, int]
) -> None:
    host, screen = list_in_host(session)
    async with host.run_test(size=(120, 30)) as pilot:
        await pilot.pause()
        assert screen.rows.keys == [str(talks[t]) for t in ("Numbers", HOSTILE, "Cats")]
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: host.wishes)
        (wish,) = host.wishes
        assert isinstance(wish, ConversationWanted)
        assert (wish.id, wish.message_id) == (talks["Cats"], 0)


async def test_typing_searches_in_the_messages_and_enter_goes_to_the_hit(
    session: Session, talks: dict[str, int]
) -> None:
    host, screen = list_in_host(session)
    async with host.run_test(size=(120, 30)) as pilot:
        await pilot.press(*"divisors")
        assert screen.rows.keys == [str(talks["Numbers"])]
        await pilot.press("enter")
        await until(pilot, lambda: host.wishes)
        (wish,) = host.wishes
        assert isinstance(wish, ConversationWanted)
        hit = session.store.message(wish.message_id)
        assert "divisors" in hit.content


async def test_matches_are_marked(session: Session, talks: dict[str, int]) -> None:
    host, screen = list_in_host(session, "sleep")
    async with host.run_test(size=(120, 30)) as pilot:
        await pilot.pause()
        marked = [p.text for line in screen.rows._lines_of(0) for p in line if p.style == "match"]
        assert marked == ["sleep"]
        assert screen.query_text == "sleep"


async def test_nothing_found_is_said(session: Session, talks: dict[str, int]) -> None:
    host, screen = list_in_host(session, "zebra")
    async with host.run_test() as pilot:
        await pilot.press("enter")
        assert "Nothing holds 'zebra'." in screen.rows.plain_text
        assert host.wishes == []


async def test_deleting_can_be_taken_back(session: Session, talks: dict[str, int]) -> None:
    host, screen = list_in_host(session)
    async with host.run_test(size=(120, 30)) as pilot:
        await pilot.press("down", "ctrl+d")
        assert str(talks[HOSTILE]) not in screen.rows.keys
        assert screen.rows.cursor_key == str(talks["Cats"]), "the next one is under the cursor"
        assert "^Z brings it back" in screen._note.plain_text
        await pilot.press("ctrl+z")
        assert screen.rows.cursor_key == str(talks[HOSTILE])
        await pilot.press("ctrl+d", "ctrl+d", "ctrl+d", "ctrl+d")
        assert screen.rows.keys == []
        assert session.store.conversations() == []


async def test_renaming_and_pinning(session: Session, talks: dict[str, int]) -> None:
    host, screen = list_in_host(session)
    async with host.run_test(size=(120, 30)) as pilot:
        await pilot.press("down", "down", "f2", *"Dogs", "enter")
        await pilot.pause()
        assert session.store.conversation(talks["Cats"]).title == "Dogs"
        await pilot.press("ctrl+t")
        assert screen.rows.keys[0] == str(talks["Cats"]), "pinned ones stand first"


async def test_exporting_writes_a_file(
    session: Session, talks: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    host, screen = list_in_host(session)
    async with host.run_test(size=(120, 30)) as pilot:
        await pilot.press("ctrl+s", "enter")
        await pilot.pause()
        (written,) = tmp_path.glob("*.md")
        assert "two divisors" in written.read_text()
        assert written.name in screen._note.plain_text


async def test_a_new_one_can_be_begun(session: Session) -> None:
    host, screen = list_in_host(session)
    async with host.run_test() as pilot:
        await pilot.pause()
        assert "Nothing was said yet." in screen.rows.plain_text
        await pilot.press("ctrl+d", "f2", "ctrl+s", "ctrl+t", "ctrl+z", "ctrl+n")
        await until(pilot, lambda: host.wishes)
        assert isinstance(host.wishes[0], NewConversationWanted)


async def test_the_end_stands_beside_the_list_where_there_is_room(
    session: Session, talks: dict[str, int]
) -> None:
    host, screen = list_in_host(session)
    async with host.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: "two divisors" in screen._end.plain_text)
        await pilot.press("down", "down")
        await until(pilot, lambda: "Cats sleep" in screen._end.plain_text)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert not screen._end.display


async def test_texts_of_models_are_only_texts(session: Session, talks: dict[str, int]) -> None:
    host, screen = list_in_host(session)
    async with host.run_test(size=(140, 40)) as pilot:
        await pilot.press("down")
        await until(pilot, lambda: "has" in screen._end.plain_text)
        drawn = "".join(
            s.text for w in (screen.rows, screen._end) for y in range(20) for s in w.render_line(y)
        )
        assert "[red]Title[/red]" in drawn and "[bold]markup" in drawn
        assert not any(c in drawn for c in "\x1b\x07\u202e")


async def test_two_hundred_conversations_are_quick_to_walk(session: Session) -> None:
    for i in range(200):
        conversation = session.store.new_conversation(title=f"Talk {i}", model="builtin")
        session.store.add(conversation.id, "user", f"message {i}")
    host, screen = list_in_host(session)
    async with host.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+end")
        assert screen.rows.cursor_key == screen.rows.keys[-1]
        assert len(screen.rows.keys) == 200
