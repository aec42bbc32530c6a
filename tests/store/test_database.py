"""Migrations, damage, other processes."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from app.store.database import Database
from app.store.schema import STEPS, statements
from app.store.store import Store
from quantize.errors import StoreError

WRITER = """
import sys
from pathlib import Path
from app.store.store import Store

store, name, n = Store(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
conversation = store.new_conversation(title=name).id
print("conversation", conversation, flush=True)
i = 0
while i != n:
    question = store.add(conversation, "user", f"{name} question {i}")
    print(question.id, question.content, sep="\\t", flush=True)
    reply = store.add(conversation, "assistant", "", state="partial")
    for cut in range(1, 4):
        store.update_partial(reply.id, f"{name} reply {i}"[: 4 * cut])
    store.finish(reply.id, f"{name} reply {i} " + "long " * (i % 300))
    print(reply.id, f"{name} reply {i} " + "long " * (i % 300), sep="\\t", flush=True)
    i += 1
store.close()
"""


def writer(path: Path, name: str, n: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(n)], stdout=subprocess.PIPE, text=True
    )


def reported(lines: list[str]) -> dict[int, str]:
    """What a writer said it had completed; its last line may be cut off by the kill."""
    return {
        int(id): text.rstrip("\n")
        for id, _, text in (line.partition("\t") for line in lines)
        if text[-1:] == "\n"
    }


def test_killed_at_any_moment_nothing_that_was_complete_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    moments = random.Random(5)
    complete: dict[int, str] = {}
    for round_ in range(12):
        process = writer(path, f"w{round_}", -1)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(moments.randrange(1, 40))]
        process.kill()
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        complete |= reported(lines[1:])
        store = Store(path)
        kept = {m.id: m for c in store.conversations() for m in store.tree(c.id)}
        assert store.notices == ()
        assert store.problems() == []
        store.close()
        assert {id: kept[id].content for id in complete} == complete
        assert all(kept[id].state == "complete" for id in complete)
    assert len(complete) > 50


def test_two_processes_and_this_one_write_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    processes = [writer(path, name, 20) for name in ("one", "two")]
    store = Store(path)
    mine = store.new_conversation(title="mine").id
    for n in range(20):
        store.add(mine, "user", f"mine {n}")
    for process in processes:
        out, _ = process.communicate()
        assert process.returncode == 0
        lines = out.splitlines(keepends=True)
        conversation = int(lines[0].split()[1])
        assert {m.id: m.content for m in store.branch(conversation)} == reported(lines[1:])
    assert len(store.branch(mine)) == 20
    assert store.problems() == []
    store.close()


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    Store(path).close()
    with sqlite3.connect(path) as c:
        c.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    c.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer version"):
        Store(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if "damaged" in p.name] == []


def test_an_older_file_is_migrated_and_kept_as_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    store = Store(path)
    id = store.new_conversation(title="old").id
    store.add(id, "user", "hello")
    store.close()
    more = (*STEPS, "ALTER TABLE conversation ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue';")
    for _ in range(2):
        database = Database(path, steps=more)
        with database.read() as c:
            assert [tuple(r) for r in c.execute("SELECT title, colour FROM conversation")] == [
                ("old", "blue")
            ]
        database.close()
    with sqlite3.connect(f"{path}.version-{len(STEPS)}") as copy:
        assert copy.execute("SELECT content FROM message").fetchall() == [("hello",)]
    copy.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    Store(path).close()
    broken = (*STEPS, "ALTER TABLE conversation ADD COLUMN colour TEXT;\nALTER TABLE nowhere ADD COLUMN x;\n")
    with pytest.raises(StoreError):
        Database(path, steps=broken)
    Store(path).close()
    with sqlite3.connect(path) as c:
        assert "colour" not in {row[1] for row in c.execute("PRAGMA table_info(conversation)")}
    c.close()


def filled(path: Path, n_conversations: int = 20) -> dict[int, str]:
    store = Store(path)
    contents = {}
    for n in range(n_conversations):
        id = store.new_conversation(title=f"title {n}").id
        for k in range(10):
            m = store.add(id, "user", f"conversation {n} message {k} " + "filling " * 60)
            contents[m.id] = m.content
    store.close()
    return contents


def test_a_damaged_page_costs_only_what_stood_on_it(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    contents = filled(path)
    data = bytearray(path.read_bytes())
    page = 4096 * (len(data) // 4096 // 2)
    data[page : page + 4096] = random.Random(1).randbytes(4096)
    path.write_bytes(data)
    store = Store(path)
    (notice,) = store.notices
    assert "damaged" in notice
    (aside,) = [p for p in tmp_path.iterdir() if ".damaged-" in p.name]
    assert str(aside) in notice
    assert aside.read_bytes() == bytes(data)
    kept = {m.id: m.content for c in store.conversations() for m in store.tree(c.id)}
    assert len(kept) >= 0.8 * len(contents)
    assert all(contents[id] == text for id, text in kept.items())
    assert all(store.branch(c.id) for c in store.conversations())
    assert store.problems() == []
    store.close()
    again = Store(path)
    assert again.notices == ()
    again.close()


def test_what_stands_only_in_the_log_survives_damage_to_the_file(tmp_path: Path) -> None:
    live = tmp_path / "live" / "c.sqlite3"
    filled(live)
    store = Store(live)
    newest = store.add(store.new_conversation().id, "user", "the newest of all")
    crashed = tmp_path / "crashed" / "c.sqlite3"
    crashed.parent.mkdir()
    for path in live.parent.iterdir():
        (crashed.parent / path.name).write_bytes(path.read_bytes())
    store.close()
    data = bytearray(crashed.read_bytes())
    page = 4096 * (len(data) // 4096 // 2)
    data[page : page + 4096] = random.Random(1).randbytes(4096)
    crashed.write_bytes(data)
    store = Store(crashed)
    assert len(store.notices) == 1
    assert store.message(newest.id).content == "the newest of all"
    store.close()


def test_damage_that_shows_later_is_repaired_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file is not checked whenever it is opened; one that failed once is."""
    monkeypatch.setattr("app.store.database.CHECK_AT_MOST", 0)
    path = tmp_path / "c.sqlite3"
    contents = filled(path)
    data = bytearray(path.read_bytes())
    page = 4096 * (len(data) // 4096 // 2)
    data[page : page + 4096] = bytes(4096)
    path.write_bytes(data)
    store = Store(path)
    assert store.notices == ()
    with pytest.raises(StoreError, match="Start Stretch again"):
        for c in store.conversations():
            store.tree(c.id)
    store.close()
    store = Store(path)
    assert len(store.notices) == 1
    kept = {m.id: m.content for c in store.conversations() for m in store.tree(c.id)}
    assert 0.8 * len(contents) <= len(kept) < len(contents)
    store.close()
    again = Store(path)
    assert again.notices == ()
    again.close()


@pytest.mark.parametrize(
    "damage",
    ["block = x'00' WHERE id > 10", "block = x'ffffffffffff' WHERE id = 10", "block = x'ff' WHERE id = 1"],
)
def test_a_damaged_index_is_made_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c.sqlite3"
    contents = filled(path, 2)
    with sqlite3.connect(path) as c:
        c.execute(f"UPDATE message_words_data SET {damage}")
    c.close()
    with contextlib.suppress(StoreError), contextlib.closing(Store(path)) as store:
        store.search("filling")
        store.add(1, "user", "more filling")
        store.delete_branch(store.branch(1)[-1].id)
    store = Store(path)
    assert store.notices == ()
    assert sum(hit.n_hits for hit in store.search("filling")) == len(contents)
    assert store.problems() == []
    store.close()


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\x00" + b"\x00" * 5000])
def test_a_file_that_is_no_database_is_moved_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.sqlite3"
    path.write_bytes(content)
    store = Store(path)
    assert len(store.notices) == 1
    assert store.conversations() == []
    (aside,) = [p for p in tmp_path.iterdir() if ".damaged-" in p.name]
    assert aside.read_bytes() == content
    store.close()


def test_every_truncation_is_survived(tmp_path: Path) -> None:
    original = tmp_path / "whole.sqlite3"
    contents = filled(original, 4)
    data = original.read_bytes()
    for n, cut in enumerate(range(0, len(data), len(data) // 11)):
        path = tmp_path / f"cut{n}" / "c.sqlite3"
        path.parent.mkdir()
        path.write_bytes(data[:cut])
        store = Store(path)
        kept = {m.id: m.content for c in store.conversations() for m in store.branch(c.id)}
        assert kept.items() <= contents.items()
        assert store.notices or kept == contents or cut == 0, "nothing is lost silently"
        assert store.problems() == []
        store.close()


def test_no_permission_is_one_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        Store(blocked / "c.sqlite3")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(tmp_path / "c.sqlite3")
    tmp_path.chmod(0o700)


def test_a_lock_that_lasts_too_long_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.store.database.BUSY_S", 0.01)
    path = tmp_path / "c.sqlite3"
    store = Store(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        store.new_conversation()
    assert store.conversations() == [], "reading goes on"
    other.execute("ROLLBACK")
    other.close()
    store.new_conversation()
    store.close()


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    store = Store(tmp_path / "c.sqlite3")
    id = store.new_conversation().id
    store.add(id, "user", "fits")
    with store._db.read() as c:
        pages = c.execute("PRAGMA page_count").fetchone()[0]
        c.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreError, match="disk is full"):
        store.add(id, "user", "does not fit " * 10_000)
    assert [m.content for m in store.branch(id)] == ["fits"]
    store.close()


def test_scripts_are_cut_at_the_end_of_statements() -> None:
    script = (
        "CREATE TABLE a (b);\nCREATE TRIGGER c AFTER INSERT ON a BEGIN\n DELETE FROM a;\nEND;\nSELECT 1;\n"
    )
    assert [s.split()[0] for s in statements(script)] == ["CREATE", "CREATE", "SELECT"]


def test_a_transaction_holds_the_writing_from_its_first_moment(tmp_path: Path) -> None:
    """One that reads first and writes later would fail at once when another process came between."""
    path = tmp_path / "c.sqlite3"
    store = Store(path)
    other = sqlite3.connect(path, isolation_level=None, timeout=0)
    with store._db.write(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    other.close()
    store.close()
