"""The made model whose K has a huge constant, as Qwen2.5 has it: exact with f16, broken by few bits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from quantize.lab.lockstep import compare
from quantize.lab.setting import REFERENCE, Setting, parse_setting
from quantize.lab.subject import Workbench
from tests.lab.conftest import random_tokens


def same_words(bench: Workbench, *names: str) -> dict[str, float]:
    """Share of 255 next tokens that each setting keeps."""
    settings: list[Setting] = [parse_setting(name) for name in names]
    sizes = {"n_ctx": 256, "n_batch": 256, "n_outputs": 256}
    with ExitStack() as stack:
        reference, *others = [stack.enter_context(s.open(bench, **sizes)) for s in (REFERENCE, *settings)]
        _, compared = compare(reference, others, random_tokens(bench, 256), batch=256)
    found = {}
    for setting, one in zip(settings, compared, strict=True):
        assert one.summary is not None, one.failed
        found[setting.label] = one.summary.top1
    return found


def test_few_bits_of_k_break_it_and_eight_do_not(bench: Callable[..., Workbench]) -> None:
    with_constant = same_words(bench("huge_bias_qwen2"), "q8_0", "q4_0", "f16/q4_0")
    assert with_constant["q8_0"] > 0.85
    assert with_constant["f16/q4_0"] > 0.8  # V is as ever
    assert with_constant["q4_0"] < 0.4


def test_it_is_the_constant_that_breaks_it(bench: Callable[..., Workbench]) -> None:
    assert same_words(bench("huge_bias_qwen2", bias=0.0), "q4_0")["q4_0"] > 0.7
