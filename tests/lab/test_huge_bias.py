"""The made model whose K has a huge constant, as Qwen2.5 has it: few bits break it, unless K lacks that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from quantize.centring import Centring
from quantize.centrings import from_bias
from quantize.lab.divergence import Summary
from quantize.lab.lockstep import compare
from quantize.lab.setting import REFERENCE, Setting, parse_setting
from quantize.lab.subject import Workbench
from tests.lab.conftest import random_tokens


def compared(bench: Workbench, *names: str) -> dict[str, Summary]:
    """What 255 next tokens lose with each setting against f16."""
    settings: list[Setting] = [parse_setting(name) for name in names]
    sizes = {"n_ctx": 256, "n_batch": 256, "n_outputs": 256}
    with ExitStack() as stack:
        reference, *others = [stack.enter_context(s.open(bench, **sizes)) for s in (REFERENCE, *settings)]
        _, results = compare(reference, others, random_tokens(bench, 256), batch=256)
    found = {}
    for setting, one in zip(settings, results, strict=True):
        assert one.summary is not None, one.failed
        found[setting.label] = one.summary
    return found


@pytest.fixture
def whole(bench: Callable[..., Workbench]) -> Iterator[Callable[..., Workbench]]:
    """Benches whose K is stored with its constant."""
    changed: list[tuple[Workbench, Centring | None]] = []

    def without(name: str, **parameters: object) -> Workbench:
        made = bench(name, **parameters)
        changed.append((made, made.model.centring))
        made.model.centring = None
        return made

    yield without
    for made, centring in changed:
        made.model.centring = centring


def test_few_bits_of_k_break_it_and_eight_do_not(whole: Callable[..., Workbench]) -> None:
    with_constant = compared(whole("huge_bias_qwen2"), "q8_0", "q4_0", "f16/q4_0")
    assert with_constant["q8_0"].top1 > 0.85
    assert with_constant["f16/q4_0"].top1 > 0.8  # V is as ever
    assert with_constant["q4_0"].top1 < 0.4


def test_it_is_the_constant_that_breaks_it(whole: Callable[..., Workbench]) -> None:
    assert compared(whole("huge_bias_qwen2", bias=0.0), "q4_0")["q4_0"].top1 > 0.7


NAMES = ("q4_0", "tq4", "tq3")


@pytest.mark.parametrize("source", ["bias", "text"])
def test_without_its_constant_few_bits_are_enough(bench: Callable[..., Workbench], source: str) -> None:
    """As good as the model that has none, from the weights alone and from a text."""
    made = bench("huge_bias_qwen2")
    calibrated = made.model.centring
    assert calibrated is not None and calibrated.source == "text"
    found = calibrated if source == "text" else from_bias(made.model, made.geometry)
    try:
        made.model.centring = None
        broken = compared(made, *NAMES)
        made.model.centring = found
        repaired = compared(made, *NAMES)
    finally:
        made.model.centring = calibrated
    harmless = compared(bench("huge_bias_qwen2", bias=0.0), *NAMES)
    for name in NAMES:
        assert repaired[name].kld_mean < 0.2 * broken[name].kld_mean, name
        assert repaired[name].kld_mean < 1.5 * harmless[name].kld_mean, name
        assert repaired[name].top1 > broken[name].top1 + 0.2, name
