"""Leaving a conversation puts its cache away, opening it brings it back, deleting it removes it."""

from __future__ import annotations

import argparse
import json
import os

import pytest

from app.chat.format import size
from app.chat.messages import Notice
from app.chat.screens.conversation_list import parked_words
from app.commands import park
from app.store.parked import keep_within, parked_bytes, parked_files, parked_path
from tests.chat.conftest import Chat

TEXT = "The cache holds a key and a value for every token that was read. " * 24


async def test_leaving_parks_and_opening_resumes(chat: Chat) -> None:
    async with chat() as watch:
        await watch.say(TEXT)
        await watch.ready()
        first = watch.session.page.id
        n_used = watch.session.status.n_used if watch.session.status else 0
        await watch.say("/new")
        await watch.say("hello")
        await watch.ready()
        assert parked_path(first).stat().st_mode & 0o777 == 0o600
        watch.session.open_conversation(first)
        await watch.until(lambda: any("Resumed" in n.text for n in watch.of(Notice)))
        await watch.until(lambda: watch.session.status and watch.session.status.n_used >= n_used)
        await watch.say("go on")
        await watch.ready()
        figures = watch.session.page.messages[-1].figures
        assert figures.n_cached >= n_used - 26  # noise is cut into other tokens when it is read again


async def test_leaving_the_program_parks(chat: Chat) -> None:
    async with chat() as watch:
        await watch.say(TEXT)
        await watch.ready()
        first = watch.session.page.id
    assert parked_path(first).exists()
    async with chat(resume=first) as watch:
        await watch.until(lambda: any("Resumed" in n.text for n in watch.of(Notice)))


async def test_a_damaged_file_is_said_calmly_and_the_conversation_goes_on(chat: Chat) -> None:
    async with chat() as watch:
        await watch.say(TEXT)
        await watch.ready()
        first = watch.session.page.id
        await watch.say("/park")
        await watch.until(lambda: any(n.text.startswith("Parked") for n in watch.of(Notice)))
        path = parked_path(first)
        path.write_bytes(path.read_bytes()[:-50])
        await watch.say("/resume")
        await watch.until(lambda: any("damaged" in n.text for n in watch.of(Notice)))
        await watch.say("go on")
        await watch.ready()
        assert len(watch.texts("assistant")) == 2
        assert not any(n.kind == "error" for n in watch.of(Notice))


async def test_deleting_removes_the_file(chat: Chat) -> None:
    async with chat() as watch:
        await watch.say(TEXT)
        await watch.ready()
        first = watch.session.page.id
        await watch.say("/park")
        await watch.until(lambda: any(n.text.startswith("Parked") for n in watch.of(Notice)))
        assert [f.conversation for f in parked_files()] == [first]
        await watch.say("/delete")
        await watch.say("hello")
        await watch.ready()
        assert parked_files() == []


async def test_the_oldest_go_when_the_disk_is_full(chat: Chat) -> None:
    async with chat() as watch:
        await watch.ready()
        folder = parked_path(1).parent
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(1, 5):
            parked_path(i).write_bytes(bytes(100))
            os.utime(parked_path(i), (i, i))
        assert keep_within(250) == 2
        assert [f.conversation for f in parked_files()] == [4, 3]
        watch.session.parked.sweep()
        assert parked_files() == []


async def test_a_store_that_cannot_be_read_costs_no_parked_conversation(chat: Chat) -> None:
    async with chat() as watch:
        await watch.say(TEXT)
        await watch.ready()
        first = watch.session.page.id
        await watch.say("/park")
        await watch.until(lambda: any(n.text.startswith("Parked") for n in watch.of(Notice)))
        parked_path(first + 1).write_bytes(bytes(100))
        with watch.app.store._db.read() as c:
            c.set_progress_handler(lambda: 1, 1)  # SQLite gives every query up
        watch.session.parked.sweep()
        assert {f.conversation for f in parked_files()} == {first, first + 1}
        with watch.app.store._db.read() as c:
            c.set_progress_handler(None, 1)
        watch.session.parked.sweep()
        assert [f.conversation for f in parked_files()] == [first]


async def test_what_was_pinned_and_pruned_is_so_when_it_is_opened_again(chat: Chat) -> None:
    async with chat() as watch:
        await watch.say(TEXT)
        await watch.ready()
        first = watch.session.page.id
        await watch.say("/park")
        await watch.until(lambda: any(n.text.startswith("Parked") for n in watch.of(Notice)))
        whole = parked_path(first).stat().st_size
        await watch.say("/pin a key and a value")
        watch.session.prune.do(0.5, "lagkv", False)
        await watch.until(lambda: watch.session.status and watch.session.status.n_gone > 100)
        n_used = watch.session.status.n_used if watch.session.status else 0
    assert parked_path(first).stat().st_size < 0.8 * whole  # it was written again
    async with chat(resume=first) as watch:
        await watch.until(lambda: any("pruned to" in n.text for n in watch.of(Notice)))
        await watch.until(lambda: watch.session.status and watch.session.status.n_gone > 100)
        assert watch.session.status and watch.session.status.n_used == n_used
        assert watch.session.prune.pins(first) == ("a key and a value",)
        written = parked_path(first).stat().st_ino
    assert parked_path(first).stat().st_ino == written  # nothing had changed
    async with chat(resume=first) as watch:
        await watch.until(lambda: any("pruned to" in n.text for n in watch.of(Notice)))
        await watch.say("/pin every token that was read")
    async with chat(resume=first) as watch:
        await watch.until(lambda: any("pruned to" in n.text for n in watch.of(Notice)))
        assert watch.session.prune.pins(first) == ("a key and a value", "every token that was read")


async def test_what_two_conversations_share_is_counted_once(
    chat: Chat, capsys: pytest.CaptureFixture[str]
) -> None:
    async with chat(system_prompt=TEXT) as watch:
        for text in ("hello", "another question"):
            await watch.say(text)
            await watch.ready()
            await watch.say("/new")
        await watch.until(lambda: len([f for f in parked_files() if f.beginnings]) == 2)
        await watch.until(lambda: watch.session.parked.idle)
    files = parked_files()
    on_disk = sum(p.stat().st_size for p in parked_path(1).parent.iterdir())
    assert parked_bytes(files) == on_disk
    assert files[0].beginnings == files[1].beginnings
    capsys.readouterr()
    park.run(argparse.Namespace(what="stats", json=True))
    told = json.loads(capsys.readouterr().out)
    assert told["n_bytes"] == on_disk
    assert sum(f["n_bytes"] for f in told["files"]) + files[0].shared_bytes == on_disk
    assert all(f["ratio"] == f["f16"] / (f["n_bytes"] + f["shared_bytes"]) for f in told["files"])
    park.run(argparse.Namespace(what="stats", json=False))
    assert "there once for all" in capsys.readouterr().out
    own, shared = files[0].path.stat().st_size, files[0].beginnings[0].stat().st_size
    words = f"parked {size(own)} + {size(shared)} shared, now"
    assert parked_words(files[0], files[0].used + 1) == words
    folder = parked_path(1).parent
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    park.run(argparse.Namespace(what="clear", json=False))
    assert "2 parked conversations" in capsys.readouterr().out
    assert list(folder.iterdir()) == []
    for path, data in kept.items():
        path.write_bytes(data)
    async with chat() as watch:
        await watch.ready()
        watch.session.delete(files[0].conversation)
        assert parked_bytes(parked_files()) == files[1].n_bytes + files[1].shared_bytes
        watch.session.delete(files[1].conversation)
        assert list(parked_path(1).parent.iterdir()) == []
