"""Pruning in the laboratory's table."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quantize.errors import CacheTypeError, StretchError, UsageError
from quantize.lab.candidate import Candidate
from quantize.lab.lockstep import compare
from quantize.lab.pruned import PrunedSetting
from quantize.lab.setting import REFERENCE, Setting, setting_of
from quantize.lab.subject import Workbench
from tests.lab.conftest import random_tokens


def test_what_is_written_is_what_is_meant() -> None:
    for text, label in (
        ("kvzip:25", "kvzip:25"),
        ("Expected-Attention:50%", "expected_attention:50"),
        ("lagkv:50:whole", "lagkv:50:whole"),
        ("kvzip:25@tq3+256", "kvzip:25@tq3+256"),
    ):
        setting = PrunedSetting.parse(text)
        assert setting.label == label
        assert setting_of(setting.data()) == setting
    for wrong in ("kvzip", "magic:50", "kvzip:0", "kvzip:101", "kvzip:50:half"):
        with pytest.raises(UsageError):
            PrunedSetting.parse(wrong)
    with pytest.raises(CacheTypeError):
        PrunedSetting.parse("kvzip:50@nothing")


def test_sizes() -> None:
    setting = PrunedSetting.parse("kvzip:25@q8_0+16")
    plain = Candidate(setting, 8.5, 8.5, 1000.0, 64_000 + 4_000, 4_000, 99_000)
    assert (setting.sized(plain, 64).bytes_per_token, setting.sized(plain, 64).kv_bytes) == (250.0, 20_000)


def test_less_is_worse_and_everything_is_nothing_lost(bench: Callable[..., Workbench]) -> None:
    b = bench()
    tokens = random_tokens(b, 200)
    sizes = {"n_ctx": 256, "n_batch": 32, "n_outputs": 32}
    losses = []
    for text in ("kvzip:100", "kvzip:60", "streaming:45:whole", "kvzip:60@q8_0+32"):
        setting: Setting = PrunedSetting.parse(text)
        with REFERENCE.open(b, **sizes) as reference, setting.open(b, **sizes) as subject:
            _, (compared,) = compare(reference, [subject], tokens, n_prompt=160, batch=32)
        assert compared.summary is not None and compared.failed == ""
        losses.append(compared.summary.kld_mean)
    assert losses[0] < 1e-6 < losses[1] < losses[2]
    assert losses[3] == pytest.approx(losses[1], rel=0.5)


def test_one_text_after_the_other(bench: Callable[..., Workbench]) -> None:
    b = bench()
    setting = PrunedSetting.parse("snapkv:50@q8_0")
    with setting.open(b, n_ctx=256, n_batch=32) as subject:
        for n in (150, 180):
            subject.context.clear()
            subject.read(random_tokens(b, n), 0)
            subject.settle()
            assert subject.context.last_position() == n - 1
            subject.read([7], n, "last")


def test_models_that_cannot(bench: Callable[..., Workbench]) -> None:
    b = bench("gemma3")
    with pytest.raises(StretchError, match="cannot be pruned"):
        PrunedSetting.parse("kvzip:50").open(b, n_ctx=64, n_batch=32)
