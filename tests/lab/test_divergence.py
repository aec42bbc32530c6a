"""The figures of a setting are those of a plain computation, one token at a time in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from quantize.lab import divergence
from quantize.lab.divergence import Divergence, Summary, add_all
from quantize.lab.lockstep import compare
from quantize.lab.setting import REFERENCE, Setting, parse_setting
from quantize.lab.subject import Workbench
from tests.lab.conftest import random_tokens

Logits = NDArray[np.float32]


def share(values: list[float], q: float) -> float:
    """The ``q``-quantile, linear between the two values around it."""
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def plain(p_logits: Logits, q_logits: Logits, following: list[int]) -> dict[str, float]:
    """The figures by their definitions, without anything of the code under test."""
    klds, same, changes, surprise = [], 0, [], 0.0
    for p_row, q_row, t in zip(p_logits, q_logits, following, strict=False):
        p = np.exp(p_row.astype(np.float64) - np.float64(p_row.max()))
        q = np.exp(q_row.astype(np.float64) - np.float64(q_row.max()))
        p, q = p / p.sum(), q / q.sum()
        klds.append(float(np.sum(p * np.log(p / q))))
        same += int(np.argmax(p_row)) == int(np.argmax(q_row))
        changes.append(float(q[t] - p[t]))
        surprise -= math.log(q[t])
    n = len(klds)
    mean = sum(klds) / n
    return {
        "n_tokens": n,
        "kld_mean": mean,
        "kld_mean_error": math.sqrt(sum((k - mean) ** 2 for k in klds) / (n - 1) / n),
        "kld_median": share(klds, 0.5),
        "kld_p99": share(klds, 0.99),
        "kld_p999": share(klds, 0.999),
        "kld_max": max(klds),
        "top1": same / n,
        "rms_dp": math.sqrt(sum(c * c for c in changes) / n),
        "ppl": math.exp(surprise / n),
    }


def agree(summary: Summary | None, wanted: dict[str, float]) -> None:
    assert summary is not None
    for name, value in wanted.items():
        assert getattr(summary, name) == pytest.approx(value, rel=1e-9, abs=1e-13), name


@pytest.fixture
def logits() -> tuple[Logits, Logits, list[int]]:
    """Known logits of 1,500 tokens and 67 words: most differ a little, a few a lot."""
    rng = np.random.default_rng(3)
    p = rng.normal(0, 3, (1500, 67)).astype(np.float32)
    noise = rng.normal(0, 0.1, p.shape) * np.where(rng.random((1500, 1)) < 0.01, 30, 1)
    return p, (p + noise).astype(np.float32), [int(t) for t in rng.integers(0, 67, 1500)]


def test_known_logits(logits: tuple[Logits, Logits, list[int]]) -> None:
    p, q, following = logits
    wanted = plain(p, q, following)
    assert wanted["kld_median"] < wanted["kld_mean"] < wanted["kld_p999"]  # they cannot be mixed up
    assert 0.5 < wanted["top1"] < 1
    own, other = Divergence(), Divergence()
    add_all(p, [q], following, [other], own)
    agree(other.summary(), wanted)
    agree(own.summary(), plain(p, p, following) | {"kld_mean": 0.0, "kld_max": 0.0, "top1": 1.0})


def test_two_tokens_by_hand() -> None:
    """ln 2 and ln 1 against 3/4 and 1/4: figures that fit on paper."""
    p = np.log(np.array([[1, 1], [1, 1]], np.float32))
    q = np.log(np.array([[3, 1], [1, 1]], np.float32))
    own, other = Divergence(), Divergence()
    add_all(p, [q], [1, 0], [other], own)
    kld = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    found = other.summary()
    assert found.kld_max == pytest.approx(kld, rel=1e-6)
    assert found.kld_mean == pytest.approx(kld / 2, rel=1e-6)
    assert found.kld_p999 == pytest.approx(0.999 * kld, rel=1e-6)
    assert found.ppl == pytest.approx(math.sqrt(4 * 2), rel=1e-6)  # 1/4 and 1/2 of probability
    assert found.rms_dp == pytest.approx(0.25 / math.sqrt(2), rel=1e-6)


def test_batches_and_blocks_do_not_matter(
    logits: tuple[Logits, Logits, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    p, q, following = logits
    monkeypatch.setattr(divergence, "BLOCK_VALUES", 10 * 67)
    own, other, absent = Divergence(), Divergence(), Divergence()
    for first in range(0, 1500, 512):
        rows = slice(first, first + 512)
        add_all(p[rows], [q[rows], None], following[rows], [other, absent], own)
    agree(other.summary(), plain(p, q, following))
    assert not absent.kld


def test_the_last_token_predicts_nothing(logits: tuple[Logits, Logits, list[int]]) -> None:
    p, q, following = logits
    own, other = Divergence(), Divergence()
    add_all(p, [q], following[:1234], [other], own)
    agree(other.summary(), plain(p[:1234], q[:1234], following[:1234]))


def test_a_large_offset_and_far_logits_keep_their_digits() -> None:
    """A softmax does not see an offset; a probability of 1e-40 is none of float32's."""
    p = np.array([[1000.0, 990.0, 900.0], [0.0, -5.0, -92.0]], np.float32)
    q = np.array([[-500.0, -509.5, -600.0], [0.0, -5.5, -91.0]], np.float32)
    own, other = Divergence(), Divergence()
    add_all(p, [q], [2, 2], [other], own)
    agree(other.summary(), plain(p, q, [2, 2]))


@pytest.mark.parametrize("n_prompt", [0, 40])
def test_a_real_cache_against_its_own_logits(bench: Callable[..., Workbench], n_prompt: int) -> None:
    """What ``compare`` says in small batches is what the logits of one large batch say."""
    b = bench()
    tokens = random_tokens(b, 97)

    def read(setting: Setting) -> Logits:
        with setting.open(b, n_ctx=128, n_batch=96, n_outputs=96) as subject:
            subject.read(tokens[:-1], 0, "all")
            return subject.logits(96).copy()

    coarse = parse_setting("q4_0")
    exact, lossy = read(REFERENCE)[n_prompt:], read(coarse)[n_prompt:]
    wanted = plain(exact, lossy, tokens[n_prompt + 1 :])
    sizes = {"n_ctx": 128, "n_batch": 32, "n_outputs": 32}
    with REFERENCE.open(b, **sizes) as reference, coarse.open(b, **sizes) as subject:
        own, (found,) = compare(reference, [subject], tokens, n_prompt=n_prompt, batch=32)
    assert own.summary is not None and found.summary is not None and wanted["kld_mean"] > 1e-4
    assert own.summary.kld_max == 0 and own.summary.n_tokens == found.summary.n_tokens == 96 - n_prompt
    for name in ("kld_mean", "kld_median", "ppl"):  # batches of another size round differently
        assert getattr(found.summary, name) == pytest.approx(wanted[name], rel=0.02), name
