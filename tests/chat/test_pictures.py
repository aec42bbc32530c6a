"""Pictures of the chat at the sizes that it must look right in. Figures and times are fixed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from textual.pilot import Pilot

from app import paths
from app.chat import messages as news
from app.chat.messages import Action
from app.chat.transcript.reply_turn import ReplyTurn
from app.engine.protocol import CacheChanged, ContextFull, FullOption
from app.options import ChatOptions
from app.store.store import Store
from tests.chat.sample import StillApp, fill, progress

SIZES = [(140, 40), (80, 24)]
Scene = Callable[[Pilot[int]], Awaitable[None]]
Picture = Callable[..., bool]

OPTIONS = (
    FullOption("longer", "Make the context 32,768 tokens long: the cache takes 936 MiB more.", n_ctx=32768),
    FullOption("smaller", "Switch to q4_0 and 24,576 tokens: the same memory as now.", type_k="q4_0"),
    FullOption("drop", "Leave out the 4 oldest turns (3,100 tokens): the page keeps them.", n_drop=4),
)
SWITCHED = CacheChanged(
    3, "q8_0", "q4_0", 0, 16384, 64 << 20, 24 << 20, 10_000, 31_000, 0.08, False, True,
    "q8_0/q4_0: 64.0 MiB is 24.0 MiB now, in 0.08 s; reaches 31,000 tokens.",
)  # fmt: skip


def app_of(pilot: Pilot[int]) -> StillApp:
    assert isinstance(pilot.app, StillApp)
    return pilot.app


async def settle(pilot: Pilot[int]) -> None:
    for _ in range(4):
        await pilot.pause()


async def top(pilot: Pilot[int]) -> None:
    await settle(pilot)
    await app_of(pilot).chat.transcript.action_oldest()
    await settle(pilot)


async def ask(pilot: Pilot[int]) -> int:
    """Say something; the id of the reply that is waited for."""
    await settle(pilot)
    app = app_of(pilot)
    app.chat.composer.put("Compare it with chapter 4, please.")
    await pilot.press("enter")
    await settle(pilot)
    reply = app.session.talk.reply
    assert reply is not None
    return reply.message_id


async def reading(pilot: Pilot[int]) -> None:
    reply = await ask(pilot)
    app = app_of(pilot)
    app.session.post(news.PhaseChanged("reading"))
    app.session.post(news.ReadingProgress(reply, progress()))
    await settle(pilot)


async def writing(pilot: Pilot[int]) -> None:
    reply = await ask(pilot)
    app = app_of(pilot)
    app.session.post(news.PhaseChanged("writing"))
    text = (
        "Chapter 4 is **different**. It measures:\n\n```bash\nstretch plan builtin\n```\n\nand then it asks"
    )
    app.session.post(news.ReplyText(reply, text, 21.4))
    await settle(pilot)
    turn = app.chat.transcript.turn(reply)
    assert isinstance(turn, ReplyTurn)
    await turn.draw()
    await settle(pilot)


async def full(pilot: Pilot[int]) -> None:
    await writing(pilot)
    app = app_of(pilot)
    app.session.post(news.CacheSwitched(SWITCHED, went_up=False))
    text = "The engine was ended from outside (SIGKILL). It was started again; the conversation is safe."
    app.session.notify(text, "error", [Action("go on with the reply", "/continue")])
    app.session.post(news.SpaceRanOut(ContextFull(4, 17_000, 16_384, OPTIONS)))
    await settle(pilot)


async def commands(pilot: Pilot[int]) -> None:
    await settle(pilot)
    await pilot.press(*"/re", "down")
    await settle(pilot)


async def turns(pilot: Pilot[int]) -> None:
    await settle(pilot)
    await pilot.press("shift+tab", "up", "up")
    await settle(pilot)
    await pilot.press("t")
    await settle(pilot)


async def panel(pilot: Pilot[int]) -> None:
    await settle(pilot)
    await pilot.press("ctrl+g")
    await settle(pilot)


SCENES = {scene.__name__: scene for scene in (settle, top, reading, writing, full, commands, turns, panel)}


@pytest.fixture
def conversation(home: object) -> int:
    store = Store(paths.database_path())
    id = fill(store)
    store.close()
    return id


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("scene", SCENES)
def test_scene(snap_compare: Picture, conversation: int, scene: str, size: tuple[int, int]) -> None:
    assert snap_compare(StillApp(conversation), run_before=SCENES[scene], terminal_size=size)


@pytest.mark.parametrize("size", [*SIZES, (60, 20)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_empty_page(snap_compare: Picture, size: tuple[int, int]) -> None:
    assert snap_compare(StillApp(), run_before=settle, terminal_size=size)


@pytest.mark.parametrize("scene", ["full", "commands"])
def test_very_small(snap_compare: Picture, conversation: int, scene: str) -> None:
    assert snap_compare(StillApp(conversation), run_before=SCENES[scene], terminal_size=(60, 20))


@pytest.mark.parametrize("theme", ["stretch-light", "nord", "stretch-ansi"])
def test_other_colours(snap_compare: Picture, conversation: int, theme: str) -> None:
    app = StillApp(conversation, ChatOptions(overrides={"theme": theme}))
    assert snap_compare(app, run_before=writing, terminal_size=(120, 32))
