"""The page of a long conversation: few widgets, steady under the eye."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot

from app import paths
from app.chat import messages as news
from app.chat.messages import Notice
from app.chat.transcript.transcript import FIRST, MOST, Transcript
from app.chat.transcript.turn import Turn
from app.store.store import Store
from tests.chat.sample import StillApp, fill_long

N = 2000


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A database with a long conversation: made once, copied for each test."""
    path = tmp_path_factory.mktemp("long") / "conversations.sqlite3"
    store = Store(path)
    conversation = fill_long(store, N, path.parent)
    store.close()
    return path, conversation


@pytest.fixture
def long_conversation(home: Path, database: tuple[Path, int]) -> int:
    paths.data_dir().mkdir(parents=True)
    shutil.copy(database[0], paths.database_path())
    return database[1]


def top_turn(transcript: Transcript) -> tuple[str, int]:
    """The topmost turn that can be seen and the row in which it begins."""
    for turn in transcript.query_children(Turn):
        if turn.region.bottom > transcript.region.y:
            return str(turn.id), turn.region.y
    raise AssertionError("nothing can be seen")


async def settle(pilot: Pilot[int]) -> None:
    for _ in range(3):
        await pilot.pause()


async def test_a_long_conversation_opens_at_its_end_with_few_widgets(long_conversation: int) -> None:
    app = StillApp(long_conversation)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        transcript = app.chat.transcript
        turns = transcript.query_children(Turn)
        assert len(transcript.entries) == N
        assert len(turns) == FIRST
        assert turns.last().region.bottom <= transcript.region.bottom
        assert len(app.chat.query("*")) < 150


async def test_scrolling_up_brings_older_turns_without_a_jump(long_conversation: int) -> None:
    app = StillApp(long_conversation)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        transcript = app.chat.transcript
        oldest = transcript.query_children(Turn).first().message.id
        for _ in range(30):
            before = top_turn(transcript)
            y = transcript.scroll_y
            transcript.scroll_to(y=max(0, y - 7), animate=False)
            await settle(pilot)
            after = top_turn(transcript)
            if after[0] == before[0]:
                assert after[1] - before[1] == min(7, y), "the page jumped"
            assert len(transcript.query_children(Turn)) <= MOST
        assert transcript.query_children(Turn).first().message.id < oldest - 20
        assert not transcript.follows


async def test_the_ends_are_one_key_away(long_conversation: int) -> None:
    app = StillApp(long_conversation)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        transcript = app.chat.transcript
        await transcript.action_oldest()
        await settle(pilot)
        assert transcript.query_children(Turn).first().message.content.startswith("Question 0")
        for _ in range(40):  # down again, page by page
            transcript.scroll_page_down(animate=False)
            await settle(pilot)
        assert len(transcript.query_children(Turn)) <= MOST
        await transcript.action_newest()
        await settle(pilot)
        assert transcript.query_children(Turn).last().message.id == transcript.entries[-1].id
        assert transcript.follows


async def test_a_search_hit_is_shown_in_the_middle_of_its_surroundings(long_conversation: int) -> None:
    app = StillApp(long_conversation)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        transcript = app.chat.transcript
        wanted = app.session.page.messages[700].id
        app.session.post(news.ConversationOpened(wanted))
        await settle(pilot)
        turn = transcript.turn(wanted)
        assert turn is not None
        assert transcript.region.contains_region(turn.region)


async def test_a_reply_that_grows_leaves_an_earlier_place_alone(long_conversation: int) -> None:
    app = StillApp(long_conversation)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        transcript = app.chat.transcript
        last = transcript.entries[-1].id
        transcript.scroll_to(y=transcript.scroll_y - 20, animate=False)
        await settle(pilot)
        before = top_turn(transcript)
        for n in range(30):
            transcript.append(last, f"word {n}\n\n")
            await transcript.add_notice(Notice(f"notice {n}"))
            await pilot.pause()
        await settle(pilot)
        assert top_turn(transcript) == before


async def test_a_page_at_its_end_follows_what_is_added(long_conversation: int) -> None:
    app = StillApp(long_conversation)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        transcript = app.chat.transcript
        for n in range(MOST + 20):
            await transcript.add_notice(Notice(f"notice {n}"))
        await settle(pilot)
        assert transcript.scroll_y == transcript.max_scroll_y
        assert len(transcript.children) <= MOST + 2


async def test_another_branch_changes_only_what_differs(home: Path) -> None:
    store = Store(paths.database_path())
    conversation = fill_long(store, 6, home)
    store.close()
    app = StillApp(conversation)
    async with app.run_test(size=(100, 60)) as pilot:
        await settle(pilot)
        transcript = app.chat.transcript
        first = transcript.query_children(Turn).first()
        await transcript.add_notice(Notice("it happened"))
        page = app.session.page
        app.session.store.set_leaf(page.id, page.messages[3].id)
        page.say("another question", (), "m")
        page.reload()
        app.session.post(news.ConversationOpened())
        await settle(pilot)
        assert transcript.query_children(Turn).first() is first
        assert [e.message.content for e in transcript.entries if e.message][-1] == "another question"
        app.session.new_conversation()
        await settle(pilot)
        assert not transcript.query_children(Turn)
        assert transcript.query_one("Welcome").display


async def test_news_that_come_while_the_program_ends_are_too_late(long_conversation: int) -> None:
    app = StillApp(long_conversation)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        transcript = app.chat.transcript
        reply = next(
            e.message for e in reversed(transcript.entries) if e.message and e.message.role != "user"
        )
        transcript.append(reply.id, "begun")
        app.exit()
        longer = "\n\n".join(f"paragraph {n}" for n in range(300))
        await transcript.update_message(replace(reply, content=longer))
        app.session.post(Notice("the engine has ended"))
    assert app.return_code == 0
