"""The short measurement of a model: the same figures however often it is interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from models.geometry import read_shape
from models.header import read_header
from quantize.lab.loss import Loss, Verdict
from quantize.lab.own_loss import (
    FLOOR,
    MAX_TOKENS,
    MIN_TOKENS,
    SLICE,
    Interrupted,
    OwnLoss,
    n_tokens_for,
    short_window,
)
from quantize.lab.setting import Setting, parse_setting
from quantize.lab.subject import Workbench
from quantize.llama import StopFlag
from quantize.native.window import Layout
from tests.lab.conftest import random_tokens


def made(bench: Workbench, stop: StopFlag, n_tokens: int = 192) -> OwnLoss:
    tokens = random_tokens(bench, n_tokens)
    shape = read_shape(read_header(bench.model.path))
    layout = Layout(shape.geometry(), shape.layer_numbers())
    return OwnLoss(bench, layout, tokens, n_readings=2, room=lambda n: np.empty(n, np.uint8), stop=stop)


def loss_of(work: OwnLoss, setting: Setting) -> Loss:
    while (loss := work.step(setting)) is None:
        pass
    return loss


@pytest.fixture
def stop() -> StopFlag:
    return StopFlag()


def test_the_verdicts_of_a_model_with_a_huge_constant(
    bench: Callable[..., Workbench], stop: StopFlag
) -> None:
    subject = bench("huge_bias_qwen2")
    centring = subject.model.centring
    centred = loss_of(made(subject, stop), parse_setting("q4_0"))
    subject.model.centring = None
    work = made(subject, stop)
    floor = loss_of(work, FLOOR)
    assert 0 < floor.kld < 0.02
    eight, four = (loss_of(work, parse_setting(name)) for name in ("q8_0", "q4_0"))
    assert eight.verdict < Verdict.BREAKS
    assert four.verdict == Verdict.BREAKS
    assert eight.n_tokens == 192 - 192 // 4 // SLICE * SLICE
    assert centred.verdict < Verdict.BREAKS
    work.close()
    subject.model.centring = centring


class StopsLater(StopFlag):
    """Goes off a while after it was wound up, from another thread: somewhere in a computation."""

    def wind_up(self, seconds: float) -> threading.Timer:
        self.clear()
        timer = threading.Timer(seconds, self.set)
        timer.start()
        return timer


@pytest.mark.parametrize("setting", ["q8_0", "tq3+256"])
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_an_interrupted_measurement_is_the_same(
    bench: Callable[..., Workbench], name: str, setting: str
) -> None:
    """Stopped before every slice and in the middle of some, also of a model whose sliding cache cannot
    always be cut back. Where it stops is chance; what comes of it is not."""
    model, wanted, stop = bench(name), parse_setting(setting), StopsLater()
    work = made(model, stop)
    whole = loss_of(work, wanted)
    work.close()
    work, loss, interrupted, patience = made(model, stop), None, 0, 0.0
    while loss is None:
        timer = stop.wind_up(patience)
        try:
            loss = work.step(wanted)
            patience = 0.0
        except Interrupted:
            interrupted += 1
            patience += 0.0004
        finally:
            timer.cancel()
            timer.join()
    work.close()
    assert interrupted
    assert loss == whole


def test_another_setting_begins_anew(bench: Callable[..., Workbench], stop: StopFlag) -> None:
    model = bench("llama")
    one, other = parse_setting("q8_0"), parse_setting("q4_0")
    work = made(model, stop)
    expected = loss_of(work, one)
    work.step(one)
    assert work.done(one) > 0
    work.step(other)
    assert work.done(one) == 0
    assert loss_of(work, one) == expected
    work.release()
    work.close()


def test_the_window_is_scaled_to_the_reading() -> None:
    assert short_window(0, 192) == 0
    assert short_window(256, 256) == 64
    assert short_window(1, MIN_TOKENS) == 1


def test_slow_models_read_less() -> None:
    assert n_tokens_for(1e-4, 7) == MAX_TOKENS
    assert n_tokens_for(10.0, 7) == MIN_TOKENS
    assert MIN_TOKENS < n_tokens_for(0.025, 7) < MAX_TOKENS
