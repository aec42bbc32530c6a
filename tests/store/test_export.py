"""Markdown and JSON exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.store.export import export, import_file, safe_name, to_json, to_markdown
from app.store.records import Attachment, Conversation, Figures, Message
from app.store.store import Store
from quantize.errors import StoreError


@pytest.fixture
def store(tmp_path: Path):
    store = Store(tmp_path / "c.sqlite3")
    yield store
    store.close()


def conversation_with_branches(store: Store) -> int:
    id = store.new_conversation(model="builtin", settings='type_k = "q8_0"\n').id
    first = store.add(id, "user", "Where is it?", attachments=[Attachment("a.py", "x = '''```'''\n")])
    store.add(id, "assistant", "Here:\n\n```\ncode\n```", figures=Figures(n_prompt=3, generate_s=0.5))
    store.add_edit(first.id, "Where was it?")
    reply = store.add(id, "assistant", "", state="partial")
    store.finish(reply.id, "In the", state="stopped")
    return id


def content_of(store: Store, id: int) -> tuple[Any, ...]:
    """All that an export must keep, with positions in place of ids."""
    tree = store.tree(id)
    place = {m.id: n for n, m in enumerate(tree)}
    c = store.conversation(id)
    messages = [
        (m.parent and place[m.parent], m.role, m.content, m.state, m.created, m.figures, m.attachments)
        for m in tree
    ]
    return (c.title, c.model, c.settings, c.created, c.leaf and place[c.leaf], messages)


def test_json_keeps_every_branch(store: Store, tmp_path: Path) -> None:
    id = conversation_with_branches(store)
    path = export(store, id, tmp_path, "json")
    back = import_file(store, path)
    assert back.id != id
    assert content_of(store, back.id) == content_of(store, id)
    assert store.problems() == []


def test_markdown_shows_the_branch(store: Store, tmp_path: Path) -> None:
    id = conversation_with_branches(store)
    store.switch_to(store.tree(id)[0].id)
    text = export(store, id, tmp_path, "md").read_text()
    assert text.startswith("# Where is it?\n\n*2")
    assert (
        "## You\n\nAttached: `a.py`\n\n````\nx = '''```'''\n````\n\nWhere is it?\n\n## builtin\n\nHere:"
        in text
    )
    assert "Where was it?" not in text
    store.switch_to(store.tree(id)[2].id)
    assert "In the\n\n*(stopped here)*\n" in to_markdown(store.conversation(id), store.branch(id))


def test_no_file_is_overwritten(store: Store, tmp_path: Path) -> None:
    id = conversation_with_branches(store)
    names = [export(store, id, tmp_path, "md").name for _ in range(3)]
    assert names == ["Where is it.md", "Where is it (2).md", "Where is it (3).md"]


def test_a_directory_that_is_missing_is_one_sentence(store: Store, tmp_path: Path) -> None:
    id = conversation_with_branches(store)
    with pytest.raises(StoreError, match="cannot be written"):
        export(store, id, tmp_path / "nowhere" / "talk.md", "md")


def test_a_file_can_be_named(store: Store, tmp_path: Path) -> None:
    id = conversation_with_branches(store)
    names = [export(store, id, tmp_path / name, "md").name for name in ("talk.txt", "talk.txt", "talk")]
    assert names == ["talk.txt", "talk (2).txt", "talk.md"]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("../../etc/passwd", "etc-passwd"),
        ("a/b\\c:d", "a-b-c-d"),
        ("  .hidden ", "hidden"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("\x1b[2J\x00", "[2J"),
        ("", "conversation"),
        ("...", "conversation"),
        ("日" * 100, "日" * 26),
    ],
)
def test_file_names_are_safe(title: str, name: str) -> None:
    assert safe_name(title) == name


@given(st.text())
def test_any_title_gives_a_name_that_can_be_written(title: str) -> None:
    name = safe_name(title)
    assert name and len(name.encode()) <= 81
    assert not set(name) & set('<>:"/\\|?*\x00\n')
    assert name == name.strip(" .")
    assert Path(name).name == name


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def trees(draw: st.DrawFn) -> list[Message]:
    messages: list[Message] = []
    for n in range(draw(st.integers(1, 8))):
        parent = draw(st.sampled_from([None, *range(1, n + 1)]))
        role = draw(st.sampled_from(["system", "user", "assistant"]))
        state = draw(st.sampled_from(["complete", "stopped"]))
        figures = Figures(n_prompt=draw(st.integers(0, 99)), type_k=draw(TEXT))
        attachments = tuple(draw(st.lists(st.builds(Attachment, TEXT, TEXT), max_size=2)))
        created = draw(st.floats(0, 2e9))
        messages.append(Message(n + 1, 0, parent, role, draw(TEXT), state, created, figures, attachments))
    return messages


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=trees(), title=TEXT, data=st.data())
def test_any_tree_comes_back(
    store: Store, tmp_path: Path, messages: list[Message], title: str, data: Any
) -> None:
    leaf = data.draw(st.sampled_from([None, *(m.id for m in messages)]))
    path = tmp_path / "in.json"
    source = Conversation(1, title, 5.0, 6.0, "m", "", False, leaf, len(messages))
    shuffled = data.draw(st.permutations(messages))
    path.write_text(to_json(source, shuffled))
    id = import_file(store, path).id
    again = store.tree(id)
    place = {m.id: n for n, m in enumerate(again)}
    kept = sorted((m.content, m.role, m.created, m.figures.n_prompt, len(m.attachments)) for m in again)
    assert kept == sorted(
        (m.content, m.role, m.created, m.figures.n_prompt, len(m.attachments)) for m in messages
    )
    assert all(m.parent is None or place[m.parent] < place[m.id] for m in again)
    depth = {None: 0} | {m.id: 0 for m in messages}
    for m in messages:
        depth[m.id] = depth[m.parent] + 1
    assert len(store.branch(id)) == (depth[leaf] if leaf else 0)


def good() -> dict[str, Any]:
    message = {
        "id": 1,
        "parent": None,
        "role": "user",
        "content": "hi",
        "state": "complete",
        "created": 1.0,
        "figures": {},
        "attachments": [],
    }
    return {
        "format": "stretch-conversation",
        "version": 1,
        "title": "t",
        "created": 1.0,
        "model": "",
        "settings": "",
        "leaf": 2,
        "messages": [message, {**message, "id": 2, "parent": 1}],
    }


BROKEN = {
    "not an object": lambda d: [],
    "other format": lambda d: d | {"format": "x"},
    "newer": lambda d: d | {"version": 2},
    "no version": lambda d: d | {"version": True},
    "no messages": lambda d: d | {"messages": None},
    "message is text": lambda d: d | {"messages": ["x"]},
    "leaf unknown": lambda d: d | {"leaf": 9},
    "leaf unhashable": lambda d: d | {"leaf": [1]},
    "title": lambda d: d | {"title": 3},
    "time": lambda d: d | {"created": "now"},
    "role": lambda d: d["messages"][0].update(role="tool") or d,
    "state": lambda d: d["messages"][0].update(state="x") or d,
    "cycle": lambda d: d["messages"][0].update(parent=2) or d,
    "parent unknown": lambda d: d["messages"][1].update(parent=7) or d,
    "same id": lambda d: d["messages"][1].update(id=1) or d,
    "attachment": lambda d: d["messages"][1].update(attachments=["x"]) or d,
    "attachment name": lambda d: d["messages"][1].update(attachments=[{"name": 1, "text": ""}]) or d,
    "infinite": lambda d: d["messages"][1].update(created=float("inf")) or d,
    "huge id": lambda d: d | {"created": 10**400},
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_export_is_refused_and_adds_nothing(store: Store, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "in.json"
    path.write_text(json.dumps(BROKEN[kind](good())))
    with pytest.raises(StoreError, match=r"in\.json"):
        import_file(store, path)
    assert store.count() == 0


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b"{}"])
def test_files_that_are_no_json_are_refused(store: Store, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "in.json"
    path.write_bytes(content)
    with pytest.raises(StoreError):
        import_file(store, path)
    with pytest.raises(StoreError, match="cannot be read"):
        import_file(store, tmp_path)


def test_the_example_itself_is_accepted(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "in.json"
    path.write_text(json.dumps(good()))
    assert [m.content for m in store.branch(import_file(store, path).id)] == ["hi", "hi"]
