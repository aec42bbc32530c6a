"""Search over titles and messages, with the index and without."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.store import search
from app.store.database import Database
from app.store.store import Store


@pytest.fixture(params=["index", "no index"])
def store(tmp_path: Path, request: pytest.FixtureRequest):
    path = tmp_path / "c.sqlite3"
    store = Store(path)
    if request.param == "no index":
        store._db.close()
        store._db = Database(path, index_words=False)
    yield store
    store.close()


def said(store: Store, title: str, *contents: str) -> int:
    id = store.new_conversation(title=title).id
    for content in contents:
        store.add(id, "user", content)
    return id


def found(store: Store, text: str) -> list[int]:
    return [hit.conversation.id for hit in store.search(text)]


def test_all_words_must_occur_and_their_beginnings_are_enough(store: Store) -> None:
    one = said(store, "Gardening", "Tomatoes need water and sun", "and time")
    two = said(store, "Cooking", "Tomatoes need salt")
    assert found(store, "tom wat") == [one]
    assert sorted(found(store, "TOMATO")) == [one, two]
    assert found(store, "water salt") == []
    assert found(store, "") == found(store, "   ") == []


def test_titles_are_found_and_come_first(store: Store) -> None:
    said(store, "Rust", "about gardens")
    titled = said(store, "Gardens of the north", "hello")
    assert found(store, "gardens")[0] == titled
    hit = store.search("gardens")[0]
    assert (hit.message, hit.snippet, hit.spans, hit.n_hits) == (None, "Gardens of the north", ((0, 7),), 0)


def test_what_the_index_does_not_know_is_found_all_the_same(store: Store) -> None:
    cjk = said(store, "t", "我想知道缓存的精度是多少")
    sign = said(store, "u", "what does a->b mean, 100% sure?")
    assert found(store, "缓存") == [cjk]
    assert found(store, "->") == [sign]
    assert found(store, "100%") == [sign]
    assert found(store, "%") == [sign]
    assert found(store, "_") == []
    assert found(store, "ean") == [sign]


def test_the_newest_match_is_shown_with_what_stands_around_it(store: Store) -> None:
    id = said(store, "t", "the key is here", "long " * 30 + "the key\nis there " + "long " * 100, "nothing")
    (hit,) = store.search("key")
    assert hit.n_hits == 2
    assert hit.message == store.branch(id)[1].id
    assert "the key is there" in hit.snippet and hit.snippet.startswith("…") and hit.snippet.endswith("…")
    assert [hit.snippet[a:b] for a, b in hit.spans] == ["key"]


def test_edits_and_deletions_leave_the_index_right(store: Store) -> None:
    id = said(store, "t", "alpha")
    reply = store.add(id, "assistant", "beta", state="partial")
    store.finish(reply.id, "gamma")
    assert (found(store, "gamma"), found(store, "beta")) == ([id], [])
    store.finish(reply.id, "delta")
    assert (found(store, "delta"), found(store, "gamma")) == ([id], [])
    store.delete_branch(reply.id)
    assert (found(store, "delta"), found(store, "alpha")) == ([], [id])
    assert store.problems() == []


@pytest.mark.parametrize(
    "text", ['"', "'", "*", "a AND", "NEAR(", "-", "content:x", "\\", "%_", "\x00", "a" * 5000]
)
def test_no_query_is_a_syntax_error(store: Store, text: str) -> None:
    said(store, "t", "something")
    assert store.search(text) == []


def test_accents_are_ignored_by_the_index(tmp_path: Path) -> None:
    store = Store(tmp_path / "c.sqlite3")
    said(store, "t", "Un café à Orléans")
    (hit,) = store.search("cafe orleans")
    assert [hit.snippet[a:b] for a, b in hit.spans] == ["café", "Orléans"]
    store.close()


def test_an_index_that_was_left_out_for_a_while_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    store = Store(path)
    said(store, "t", "before")
    store.close()
    without = Database(path, index_words=False)
    with without.write() as c:
        c.execute(
            "INSERT INTO message(conversation, role, state, created, content)"
            " VALUES (1, 'user', 'complete', 0, 'naïve')"
        )
    without.close()
    store = Store(path)
    assert len(store.search("naive")) == 1
    assert store.problems() == []
    store.close()


@given(st.text(max_size=300), st.text(min_size=1, max_size=10))
def test_spans_lie_within_the_snippet(content: str, query: str) -> None:
    line, spans = search.snippet(content, query)
    assert "\n" not in line
    assert all(0 <= a < b <= len(line) for a, b in spans)
    assert list(spans) == sorted(spans)
