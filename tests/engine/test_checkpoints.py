"""Models that cannot simply forget their newest tokens: regenerating and editing read little again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.engine import checkpoints
from app.engine.protocol import Forget, Sampling, Status, Turn
from tests.engine.harness import FILLER, Harness, user

Synthetic = Callable[..., Path]

LONG = Sampling(temperature=1.0, seed=3, max_tokens=40)
FIRST = user(FILLER * 20)
MODELS = {"mamba": {}, "granitehybrid": {}, "lfm2": {}, "qwen35": {}, "gemma3": {"n_swa": 16}}


@pytest.fixture(params=MODELS)
def forgetful(request: pytest.FixtureRequest, engine: Harness, synthetic: Synthetic) -> Harness:
    engine.load(synthetic(request.param, **MODELS[request.param]), 2048)
    return engine


def fresh(engine: Harness, turns: tuple[Turn, ...]) -> str:
    """The reply of an engine that has read nothing before."""
    engine.ask(Forget(engine.next_id()), Status)
    finished = engine.generate(turns, LONG)
    assert finished.n_cached == 0
    return finished.text


def test_a_regeneration_reads_one_token(forgetful: Harness) -> None:
    first = forgetful.generate(FIRST, LONG)
    for _ in range(2):
        again = forgetful.generate(FIRST, LONG)
        assert (again.n_cached, again.notes) == (first.n_prompt - 1, ())
        assert again.text == first.text


def test_another_last_message_reads_only_that(forgetful: Harness) -> None:
    said = forgetful.generate(FIRST, LONG)
    base = (*FIRST, Turn("assistant", said.text))
    one = forgetful.generate((*base, Turn("user", "Go on.")), LONG)
    other = forgetful.generate((*base, Turn("user", "Stop it.")), LONG)
    assert other.n_cached >= min(one.n_cached, said.n_prompt - 1) and not other.notes
    back = forgetful.generate((*base, Turn("user", "Go on.")), LONG)
    assert back.n_cached >= said.n_prompt - 1


def test_a_window_that_has_moved_on_comes_back(forgetful: Harness) -> None:
    """A reply longer than window and batch displaces what lies before it."""
    first = forgetful.generate(FIRST, LONG)
    longer = forgetful.generate(FIRST, Sampling(temperature=0, max_tokens=1), prefix=FILLER * 40)
    assert longer.n_prompt > first.n_prompt + 768
    again = forgetful.generate(FIRST, LONG)
    assert (again.n_cached, again.notes) == (first.n_prompt - 1, ())
    assert again.text == first.text


def test_what_is_restored_is_what_was(engine: Harness, synthetic: Synthetic) -> None:
    """The reply after going back equals that of an engine which never went further."""
    engine.load(synthetic("granitehybrid"), 2048)
    expected = fresh(engine, FIRST)
    engine.generate((*FIRST, Turn("assistant", expected), Turn("user", FILLER * 3)), LONG)
    assert engine.generate(FIRST, LONG).text == expected


def test_without_checkpoints_all_is_read_again_and_said(
    synthetic: Synthetic, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from app.engine.budget import Process
    from app.engine.inbox import Inbox
    from app.engine.log import EngineLog
    from app.engine.protocol import Load
    from app.engine.session import judge, open_session
    from quantize.llama import send_log_to

    monkeypatch.setattr(checkpoints, "MAX_BYTES", 0)
    log = EngineLog(tmp_path / "engine.log")
    send_log_to(log.receive)
    plan = judge(Load(1, str(synthetic("mamba")), 1024, n_threads=1), Process())
    session = open_session(plan, Inbox(lambda _e: None), log, lambda _e: None, lambda: None, lambda _f: True)
    try:
        prompt = session.loaded.prompts.make(FIRST)
        session.conversation.reply(2, prompt, LONG, ())
        again = session.conversation.reply(3, prompt, LONG, ())
        assert again.n_cached == 0
        assert any("read the whole conversation again" in note for note in again.notes)
    finally:
        session.close()
