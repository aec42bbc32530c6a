"""The conversation as the model is told it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from app.chat.engine_link import join_chunks
from app.chat.page import Page, spoken, turns_of
from app.engine.protocol import Event, PrefillProgress, TextChunk, Turn
from app.store.records import Attachment, Message
from app.store.store import Store

roles = st.sampled_from(["user", "assistant"])


def message(n: int, role: str, content: str) -> Message:
    return Message(n, 1, n - 1 or None, role, content, "complete", 0.0)  # type: ignore[arg-type]


@given(st.lists(st.tuples(roles, st.text(max_size=5)), max_size=12), st.text(max_size=5))
def test_turns_alternate_and_nothing_that_was_said_is_lost(said: list[tuple[str, str]], system: str) -> None:
    turns = turns_of([message(n + 1, role, text) for n, (role, text) in enumerate(said)], system)
    roles = [turn.role for turn in turns if turn.role != "system"]
    assert all(a != b for a, b in pairwise(roles))
    assert all(turn.content for turn in turns)
    for role in ("user", "assistant"):
        told = "\n\n".join(turn.content for turn in turns if turn.role == role)
        assert told == "\n\n".join(text for r, text in said if r == role and text)
    assert (turns[:1] == (Turn("system", system),)) == bool(system.strip())


def test_files_stand_in_a_fence_that_they_cannot_close() -> None:
    said = Message(
        1, 1, None, "user", "read", "complete", 0.0, attachments=(Attachment("a\n.md", "x\n```\ny"),)
    )
    assert spoken(said) == "File a .md:\n````\nx\n```\ny\n````\n\nread"


def test_dropped_turns_stay_on_the_page_and_leave_the_prompt(tmp_path: Path) -> None:
    store = Store(tmp_path / "c.sqlite3")
    page = Page(store)
    for n in range(3):
        page.say(f"q{n}", (), "builtin")
        reply = page.begin_reply()
        store.finish(reply.id, f"a{n}")
        page.refresh(reply.id)
    page.say("last", (), "builtin")
    reply = page.begin_reply()
    assert len(page.prompt(reply.id, "")) == 7
    page.drop(2, reply.id)
    assert [t.content for t in page.prompt(reply.id, "be kind")] == [
        "be kind",
        "q1",
        "a1",
        "q2",
        "a2",
        "last",
    ]
    page.drop(2, reply.id)
    assert [t.content for t in page.prompt(reply.id, "")] == ["q2", "a2", "last"]
    assert len(page.messages) == 8
    again = Page(store)
    again.open(page.id)
    assert [t.content for t in again.prompt(reply.id, "")] == ["q2", "a2", "last"]
    store.close()


def test_what_one_side_says_twice_is_dropped_as_one_turn(tmp_path: Path) -> None:
    store = Store(tmp_path / "c.sqlite3")
    page = Page(store)
    page.say("no answer came", (), "builtin")
    page.say("so I asked again", (), "builtin")
    reply = page.begin_reply()
    store.finish(reply.id, "here it is")
    page.refresh(reply.id)
    page.say("thanks", (), "builtin")
    reply = page.begin_reply()
    assert len(page.prompt(reply.id, "")) == 3
    page.drop(2, reply.id)
    assert [t.content for t in page.prompt(reply.id, "")] == ["thanks"]
    store.close()


def test_an_interrupted_conversation_opens_settled(tmp_path: Path) -> None:
    store = Store(tmp_path / "c.sqlite3")
    page = Page(store)
    page.say("hello", (), "builtin")
    reply = page.begin_reply()
    store.update_partial(reply.id, "half of")
    again = Page(store)
    again.open(page.id)
    assert [(m.content, m.state) for m in again.messages] == [("hello", "complete"), ("half of", "stopped")]
    assert again.title == "hello"
    store.close()


chunk = st.builds(
    TextChunk,
    id=st.integers(1, 2),
    text=st.text(max_size=3),
    n_generated=st.integers(0, 9),
    tokens_per_second=st.just(1.0),
)
other = st.builds(
    PrefillProgress,
    id=st.integers(1, 2),
    n_done=st.just(1),
    n_total=st.just(2),
    n_cached=st.just(0),
    tokens_per_second=st.just(1.0),
    eta_s=st.just(1.0),
)


@given(st.lists(chunk | other, max_size=20))
def test_joined_chunks_say_the_same(events: list[Event]) -> None:
    joined = join_chunks(events)
    for id in (1, 2):
        text = "".join(e.text for e in events if isinstance(e, TextChunk) and e.id == id)
        assert "".join(e.text for e in joined if isinstance(e, TextChunk) and e.id == id) == text
    for a, b in pairwise(joined):
        assert not (isinstance(a, TextChunk) and isinstance(b, TextChunk) and a.id == b.id)
    assert [e for e in joined if isinstance(e, PrefillProgress)] == [
        e for e in events if isinstance(e, PrefillProgress)
    ]
