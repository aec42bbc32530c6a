"""Settings that are no cache types join the laboratory by ``METHODS``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from quantize.cache_types import parse_pair
from quantize.errors import CacheTypeError, EngineError, UsageError
from quantize.lab.candidate import Candidate
from quantize.lab.evaluate import make_row
from quantize.lab.footprint import Footprint
from quantize.lab.lockstep import compare
from quantize.lab.methods import METHODS, setting_class, split_pair
from quantize.lab.setting import REFERENCE, Setting, parse_setting, setting_of
from quantize.lab.subject import Subject, Workbench
from quantize.lab.switched import SwitchedSetting
from tests.lab.conftest import random_tokens


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.kind)
def test_every_method_keeps_the_contract(method: Any) -> None:
    made = method.setting_class
    assert made.kind == method.kind and issubclass(made, Setting)
    assert setting_class(method.kind) is made
    assert method.help[0].islower() and not method.help.endswith(".")


def test_settings_survive_the_journey_to_the_child() -> None:
    for setting in (REFERENCE, parse_setting("tq3/q4_0+256"), SwitchedSetting.parse("q8_0/q4_0")):
        again = setting_of(setting.data())
        assert again == setting and type(again) is type(setting) and again.label == setting.label
    assert SwitchedSetting.parse("f16") != REFERENCE


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="no kind"):
        setting_of({"kind": "nothing", "pair": "f16", "tail": 0})


def test_types_stand_behind_an_at() -> None:
    assert split_pair("keydiff:50") == ("keydiff:50", REFERENCE.pair)
    assert split_pair(" keydiff:50@q8_0/q4_0") == ("keydiff:50", parse_pair("q8_0/q4_0"))
    with pytest.raises(CacheTypeError):
        split_pair("keydiff:50@nothing")


def test_a_switch_compresses_what_was_read_and_not_before(bench: Callable[..., Workbench]) -> None:
    b = bench()
    tokens = random_tokens(b, 96)
    sizes = {"n_ctx": 96, "n_batch": 32, "n_outputs": 32}

    def loss(setting: Setting, n_prompt: int) -> float:
        with REFERENCE.open(b, **sizes) as reference, setting.open(b, **sizes) as subject:
            _, (compared,) = compare(reference, [subject], tokens, n_prompt=n_prompt, batch=32)
            assert compared.summary is not None and compared.failed == ""
            return compared.summary.kld_mean

    switched, written = SwitchedSetting.parse("q4_0"), parse_setting("q4_0")
    assert loss(switched, 0) == 0  # never settled: still f16
    assert 0 < loss(switched, 64) < 2 * loss(written, 64)


class _Failing(Subject):
    def settle(self) -> None:
        raise EngineError("It cannot be made smaller.")

    @property
    def footprint(self) -> Footprint:
        return Footprint(1.5, 0.5, 100.0)


@dataclass(frozen=True)
class _Method(Setting):
    kind: ClassVar[str] = "trial"
    settles: ClassVar[bool] = True

    def sized(self, plain: Candidate, n_ctx: int) -> Candidate:
        return replace(plain, bytes_per_token=plain.bytes_per_token / 2, kv_bytes=plain.kv_bytes // 2)


def test_a_method_that_fails_at_settling_ends_alone(bench: Callable[..., Workbench]) -> None:
    b = bench()
    sizes = {"n_ctx": 64, "n_batch": 32, "n_outputs": 32}
    with REFERENCE.open(b, **sizes) as reference, REFERENCE.open(b, **sizes) as one:
        failing = _Failing(b, one.context)
        with parse_setting("q8_0").open(b, **sizes) as other:
            own, compared = compare(reference, [failing, other], random_tokens(b, 64), n_prompt=32, batch=32)
    assert own.summary is not None and own.summary.kld_mean == 0
    assert compared[0].summary is None and compared[0].failed == "It cannot be made smaller."
    assert compared[1].summary is not None and np.isfinite(compared[1].summary.kld_mean)


def test_sizes_come_from_the_method(bench: Callable[..., Workbench]) -> None:
    plain = Candidate(_Method(REFERENCE.pair), 16, 16, 1000.0, 64_000, 0, 99_000)
    half = plain.setting.sized(plain, 64)
    assert (half.bytes_per_token, half.kv_bytes) == (500.0, 32_000)
    figures = dict.fromkeys(
        ("n_tokens", "kld_mean", "kld_mean_error", "kld_median", "kld_p99", "kld_p999", "kld_max", "top1",
         "rms_dp", "ppl"), 1.0
    )  # fmt: skip
    known = {**figures, "kernel": "own", "footprint": None}
    assert make_row(half, 64, known).size == 500
    measured = {**known, "footprint": {"bits_k": 1.5, "bits_v": 0.5, "bytes_per_token": 100.0}}
    row = make_row(half, 64, measured)
    assert (row.bits_k, row.bits_v, row.bytes_per_token, row.size) == (1.5, 0.5, 100.0, 100.0)
    assert row.kind == "trial" and row.data()["setting"]["pair"] == "f16"
