"""Leaving a conversation puts its cache away, opening it brings it back, deleting it removes it."""

from __future__ import annotations

import os

from app.chat.messages import Notice
from app.store.parked import keep_within, parked_files, parked_path
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
