"""/measure: the conversation's loss at the other settings, while the page stays alive."""

from __future__ import annotations

import signal

from app.chat.losses import NOTHING, Loss, Losses, kld_text
from app.chat.messages import LossesChanged, Notice
from tests.chat.conftest import Chat
from tests.chat.watch import Watch

TALK = "Tell me about the sea, the wind and the old lighthouse that stands on the rocks before the harbour."


async def talk(watch: Watch, times: int = 1) -> None:
    await watch.until(lambda: watch.session.phase == "ready")
    await watch.say(" ".join([TALK] * times))
    await watch.until(lambda: watch.session.phase == "ready" and not watch.session.busy)
    await watch.until(lambda: watch.session.status is not None and watch.session.status.rows)


def notices(watch: Watch) -> list[str]:
    return [m.text for m in watch.seen if isinstance(m, Notice)]


async def test_it_finds_what_the_other_settings_would_lose(chat: Chat) -> None:
    async with chat((140, 40), tail=0) as watch:
        await talk(watch)
        session = watch.session
        await watch.say("/measure")
        await watch.until(lambda: session.losses.by_setting and not session.losses.running)
        losses = session.losses
        assert session.status is not None
        rows = [r for r in session.status.rows if not r.refused]
        assert len(rows) > 3
        assert all(losses.of(r.type_k, r.type_v, r.tail) is not None for r in rows)
        q8, smallest = losses.of("q8_0", "q8_0"), losses.of(rows[-1].type_k, rows[-1].type_v)
        assert q8 is not None and smallest is not None
        assert 0 < q8.kld < smallest.kld and q8.top1 >= smallest.top1
        assert losses.of("f16", "f16") == Loss(0.0, 1.0)
        assert losses.n_tokens > len(TALK) // 8
        fractions = [m.losses.fraction for m in watch.seen if isinstance(m, LossesChanged)]
        assert fractions[0] == 0 and fractions[-1] == -1
        shown = watch.app.chat.panel.loss.plain_text
        assert "LOSS on this chat" in shown and "measured now" in shown and "q8_0" in shown
        assert kld_text(q8.kld) in shown

        table = watch.app.chat.panel.stretch
        table.focus()
        await watch.pilot.press("end")
        await watch.until(lambda: "Loss on this chat: KLD" in table.plain_text)

        session.new_conversation()
        await watch.until(lambda: session.losses is NOTHING)
        await watch.until(lambda: not watch.app.chat.panel.loss.display)


async def test_escape_stops_it_and_the_engine_goes_on(chat: Chat) -> None:
    async with chat(n_ctx=4096) as watch:
        await talk(watch, 30)
        session = watch.session
        await watch.say("/measure")
        await watch.until(lambda: session.measuring.pid)
        session.measuring.send(signal.SIGSTOP)  # so that it cannot finish before it is stopped
        assert session.losses.running
        assert any(hint.label == "stop" for hint in watch.app.chat.keys._hints)
        await watch.say("/measure")
        assert any("is being measured" in text for text in notices(watch))
        await watch.pilot.press("escape")
        await watch.until(lambda: not session.losses.running)
        await watch.until(lambda: "The measurement was stopped." in notices(watch))
        await watch.say("And now?")
        await watch.until(lambda: len(session.page.messages) == 4 and not session.busy)


async def test_a_measurement_that_dies_leaves_the_chat_alone(chat: Chat) -> None:
    async with chat(n_ctx=4096) as watch:
        await talk(watch, 30)
        session = watch.session
        await watch.say("/measure")
        await watch.until(lambda: session.measuring.pid)
        session.measuring.send(signal.SIGSEGV)
        await watch.until(lambda: not session.losses.running)
        assert any("crashed" in text for text in notices(watch))
        assert session.losses is NOTHING
        assert session.phase == "ready"


async def test_without_a_conversation_the_model_is_measured(chat: Chat) -> None:
    async with chat() as watch:
        await watch.until(lambda: watch.session.phase == "ready")
        await watch.until(lambda: watch.session.status is not None)
        await watch.say("/measure")
        await watch.until(lambda: any("costs on this model is measured" in text for text in notices(watch)))
        await watch.say("/measure the sea")
        await watch.until(lambda: any("'the sea' cannot be measured." in text for text in notices(watch)))


def test_figures_keep_their_width() -> None:
    assert [kld_text(x) for x in (0, 3e-6, 0.00007, 0.0131, 0.2101, 1.883)] == [
        "0", "3e-6", ".0001", ".0131", ".210", "1.88",
    ]  # fmt: skip
    assert not Losses().running and Losses(fraction=0.0).running
