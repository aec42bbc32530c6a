"""Conversations and the tree of their messages."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from app.store.records import Attachment, Figures, Message
from app.store.store import Store
from quantize.errors import StoreError


@pytest.fixture
def store(tmp_path: Path):
    store = Store(tmp_path / "conversations.sqlite3")
    yield store
    store.close()


def talk(store: Store, *contents: str, model: str = "builtin") -> int:
    """A conversation of user and assistant messages in turn."""
    id = store.new_conversation(model=model).id
    for i, content in enumerate(contents):
        store.add(id, "assistant" if i % 2 else "user", content)
    return id


def shown(store: Store, id: int) -> list[str]:
    return [m.content for m in store.branch(id)]


def test_a_conversation_comes_back_as_it_was_said(store: Store) -> None:
    id = store.new_conversation(model="builtin").id
    question = store.add(id, "user", "Where is the key?", attachments=[Attachment("notes.md", "# Notes")])
    figures = Figures(n_prompt=12, n_generated=5, prefill_s=0.25, type_k="q8_0", type_v="q4_0")
    reply = store.add(id, "assistant", "", state="partial")
    store.update_partial(reply.id, "In the")
    assert store.message(reply.id).content == "In the"
    store.finish(reply.id, "In the drawer.", figures=figures)
    first, second = store.branch(id)
    assert first == question
    assert first.attachments == (Attachment("notes.md", "# Notes"),)
    assert (second.content, second.state, second.figures) == ("In the drawer.", "complete", figures)
    assert second.parent == first.id


def test_the_first_question_titles_the_conversation(store: Store) -> None:
    id = talk(store, "\n\n## Explain  the\tcache\x1b[31m\nand more", "Well")
    assert store.conversation(id).title == "Explain the cache�[31m"
    store.rename(id, "Cache")
    store.add(id, "user", "Something else")
    assert store.conversation(id).title == "Cache"


def test_an_edit_is_a_branch_and_the_old_one_stays(store: Store) -> None:
    id = talk(store, "a", "b", "c", "d")
    a, _b, c, d = store.branch(id)
    edited = store.add_edit(c.id, "c2")
    assert shown(store, id) == ["a", "b", "c2"]
    store.add(id, "assistant", "d2")
    assert (edited.n_siblings, edited.sibling_index) == (2, 1)
    assert [m.content for m in store.siblings(edited.id)] == ["c", "c2"]
    assert store.switch_to(c.id) == d.id
    assert shown(store, id) == ["a", "b", "c", "d"]
    store.switch_to(edited.id)
    assert shown(store, id) == ["a", "b", "c2", "d2"]
    other = store.add_edit(a.id, "A")
    assert other.parent is None
    assert shown(store, id) == ["A"]
    assert store.conversation(id).n_messages == 7


def test_going_back_to_a_branch_arrives_where_the_person_left_it(store: Store) -> None:
    id = talk(store, "a", "b1")
    a, b1 = store.branch(id)
    b2 = store.add(id, "assistant", "b2", parent=a.id)
    store.switch_to(b1.id)
    elsewhere = store.add_edit(a.id, "x")
    store.switch_to(a.id)
    assert shown(store, id) == ["a", "b1"], "b1 was shown last, b2 is newer"
    store.switch_to(elsewhere.id)
    store.switch_to(b2.id)
    store.switch_to(elsewhere.id)
    store.switch_to(a.id)
    assert shown(store, id) == ["a", "b2"]


def test_regenerating_puts_another_reply_beside_the_first(store: Store) -> None:
    id = talk(store, "a", "b")
    a, b = store.branch(id)
    store.set_leaf(id, a.id)
    assert shown(store, id) == ["a"]
    again = store.add(id, "assistant", "b2")
    assert [m.content for m in store.siblings(again.id)] == ["b", "b2"]
    store.delete_branch(again.id)
    assert store.conversation(id).leaf == b.id
    store.delete_branch(a.id)
    assert (store.branch(id), store.tree(id)) == ([], [])


def test_a_conversation_of_two_thousand_messages_is_one_query(store: Store) -> None:
    """Loading and deleting must not depend on the depth; SQLite's own recursion ends at 1,000."""
    id = store.new_conversation().id
    chain = [
        Message(
            n, id, n - 1 if n else None, "user" if n % 2 == 0 else "assistant", f"m{n}", "complete", float(n)
        )
        for n in range(2000)
    ]
    long = store.add_tree(chain, title="long", created=0.0, model="", settings="", leaf=1999)
    queries: list[str] = []
    with store._db.read() as connection:
        connection.set_trace_callback(queries.append)
        messages = store.branch(long.id)
        connection.set_trace_callback(None)
    assert [m.content for m in messages] == [f"m{n}" for n in range(2000)]
    assert sum(q.lstrip().startswith("WITH") for q in queries) == 1
    assert len([q for q in queries if not q.startswith("--")]) == 1
    store.delete_branch(messages[1].id)
    assert store.conversation(long.id).n_messages == 1
    store.delete(long.id)
    store.close()


def test_lists_show_what_was_used_last_and_pinned_ones_first(store: Store) -> None:
    one, two, three = (talk(store, name) for name in ("one", "two", "three"))
    store.new_conversation(title="never used")
    store.add(one, "assistant", "and more\nof it")
    assert [c.id for c in store.conversations()] == [one, three, two]
    assert store.conversations()[0].preview == "and more of it"
    store.pin(two)
    assert [c.id for c in store.conversations()] == [two, one, three]
    assert [c.id for c in store.conversations(limit=1, offset=1)] == [one]
    latest = store.latest()
    assert latest is not None and latest.id == one
    assert store.count() == 3


def test_deleting_can_be_taken_back_until_the_store_closes(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    store = Store(path)
    kept, gone = talk(store, "keep me"), talk(store, "the secret word is xylophone")
    store.delete(kept)
    store.delete(gone)
    assert store.conversations() == []
    assert store.search("keep") == []
    store.restore(kept)
    store.close()
    again = Store(path)
    assert [c.id for c in again.conversations()] == [kept]
    with pytest.raises(StoreError):
        again.conversation(gone)
    new = talk(again, "another")
    assert new > gone, "an id is never given twice"
    again.close()
    on_disk = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert b"keep me" in on_disk
    assert b"xylophone" not in on_disk


def test_settings_model_and_pin_are_kept(store: Store) -> None:
    id = talk(store, "hello")
    store.set_model(id, "other")
    store.set_settings(id, 'type_k = "q8_0"\n')
    store.pin(id)
    found = store.conversation(id)
    assert (found.model, found.settings, found.pinned) == ("other", 'type_k = "q8_0"\n', True)


@pytest.mark.parametrize(
    "act",
    [
        lambda s, other: s.conversation(99),
        lambda s, other: s.rename(99, "x"),
        lambda s, other: s.add(99, "user", "x"),
        lambda s, other: s.message(99),
        lambda s, other: s.finish(99, "x"),
        lambda s, other: s.switch_to(99),
        lambda s, other: s.add(1, "user", "x", parent=other),
        lambda s, other: s.set_leaf(1, other),
    ],
)
def test_unknown_ids_are_refused_and_change_nothing(store: Store, act) -> None:
    talk(store, "a", "b")
    other = store.branch(talk(store, "elsewhere"))[0].id
    before = [store.tree(c.id) for c in store.conversations()]
    with pytest.raises(StoreError):
        act(store, other)
    assert [store.tree(c.id) for c in store.conversations()] == before


def test_partial_replies_of_an_ended_process_are_settled_on_opening(store: Store) -> None:
    id = talk(store, "question")
    reply = store.add(id, "assistant", "half a café", state="partial")
    assert store.search("cafe") == [], "the index, which knows accents, waits for the end of a reply"
    assert store.settle(id) == 1
    assert store.message(reply.id).state == "stopped"
    assert [h.message for h in store.search("cafe")] == [reply.id]
    store.update_partial(reply.id, "half an answer")  # the writer was alive after all
    assert store.message(reply.id).state == "partial"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.text(), name=st.text(max_size=20))
def test_any_text_survives(store: Store, content: str, name: str) -> None:
    id = store.new_conversation(title=name).id
    store.add(id, "user", content, attachments=[Attachment(name, content)])
    (message,) = store.branch(id)
    expected = content.encode("utf-8", "replace").decode()
    assert message.content == expected
    assert message.attachments[0].text.encode("utf-8", "replace").decode() == expected
    store.search(content)


def test_lone_surrogates_become_question_marks(store: Store) -> None:
    id = talk(store, "a\ud800b")
    assert shown(store, id) == ["a?b"]


class Tree(RuleBasedStateMachine):
    """The tree against a model of it in plain Python."""

    messages = Bundle("messages")

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.directory = tempfile.TemporaryDirectory()
        self.store = Store(Path(self.directory.name) / "c.sqlite3")
        self.id = self.store.new_conversation().id
        self.parents: dict[int, int | None] = {}
        self.leaf: int | None = None

    def teardown(self) -> None:
        assert self.store.problems() == []
        self.store.close()
        self.directory.cleanup()

    def below(self, message: int) -> set[int]:
        found = {message}
        for id, parent in sorted(self.parents.items()):
            if parent in found:
                found.add(id)
        return found

    @rule(target=messages)
    def go_on(self) -> int:
        message = self.store.add(self.id, "user", "text")
        assert message.parent == self.leaf
        self.parents[message.id] = self.leaf
        self.leaf = message.id
        return message.id

    @rule(target=messages, old=messages)
    def edit(self, old: int) -> int:
        if old not in self.parents:
            return self.go_on()
        new = self.store.add_edit(old, "text")
        self.parents[new.id] = self.parents[old]
        self.leaf = new.id
        return new.id

    @rule(message=messages)
    def switch(self, message: int) -> None:
        if message in self.parents:
            self.leaf = self.store.switch_to(message)
            assert self.leaf in self.below(message)
            assert self.leaf not in self.parents.values()

    @rule(message=consumes(messages))
    def delete(self, message: int) -> None:
        if message not in self.parents:
            return
        self.store.delete_branch(message)
        parent, gone = self.parents[message], self.below(message)
        for id in gone:
            del self.parents[id]
        self.leaf = self.store.conversation(self.id).leaf
        beside = [id for id, p in self.parents.items() if p == parent]
        if beside:
            assert self.leaf is not None and any(self.leaf in self.below(id) for id in beside)
        else:
            assert self.leaf == parent

    @invariant()
    def the_branch_leads_from_the_start_to_the_leaf(self) -> None:
        path: list[int] = []
        at = self.leaf
        while at is not None:
            path.insert(0, at)
            at = self.parents[at]
        branch = self.store.branch(self.id)
        assert [m.id for m in branch] == path
        for m in branch:
            beside = sorted(id for id, p in self.parents.items() if p == m.parent)
            assert (m.n_siblings, beside[m.sibling_index]) == (len(beside), m.id)
        assert [m.id for m in self.store.tree(self.id)] == sorted(self.parents)


TestTree = Tree.TestCase
TestTree.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


def test_the_database_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "c.sqlite3"
    Store(path).close()
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_threads_share_a_store(store: Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    ids = [store.new_conversation().id for _ in range(4)]

    def work(id: int) -> None:
        for n in range(25):
            reply = store.add(id, "assistant", "", state="partial")
            store.update_partial(reply.id, "so far")
            store.finish(reply.id, f"reply {n}")
            store.conversations()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, ids))
    for id in ids:
        assert shown(store, id) == [f"reply {n}" for n in range(25)]


def test_a_full_transaction_is_undone_when_something_fails(store: Store) -> None:
    id = talk(store, "a")
    with pytest.raises(ZeroDivisionError), store._db.write() as c:
        c.execute("UPDATE conversation SET title = 'changed' WHERE id = ?", (id,))
        raise ZeroDivisionError
    assert store.conversation(id).title == "a"
