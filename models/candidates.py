"""What each setting of an experiment costs for one model: the planner's part of the laboratory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from models.plan import Planner, round_up
from quantize.cache_types import AUTO_TAIL, CACHE_TYPES, PRESETS, CachePair
from quantize.lab.batch import batch_size
from quantize.lab.candidate import Candidate
from quantize.lab.setting import REFERENCE, Setting


def candidates(planner: Planner, settings: Iterable[Setting], n_ctx: int) -> list[Candidate]:
    """The settings with their sizes at a context of ``n_ctx`` tokens, each once, the reference first.

    A setting that the model cannot have is among them, with the reason.
    """
    wanted = dict.fromkeys((REFERENCE, *settings))
    return [_candidate(planner, setting, n_ctx) for setting in wanted]


def _candidate(planner: Planner, setting: Setting, n_ctx: int) -> Candidate:
    pair = setting.pair
    refused = planner.refusal(pair)
    if refused:
        return Candidate(setting, 0.0, 0.0, 0.0, 0, 0, 0, refused)
    k, v = planner.types(pair)
    cache = _exact_cells(planner, pair, n_ctx)
    tail = planner.tail_bytes(pair, setting.tail)
    logits = batch_size(planner.shape.n_vocab) * planner.shape.n_vocab * 4
    plain = Candidate(
        setting,
        bits_k=k.type_size * 8 / k.block_size,
        bits_v=v.type_size * 8 / v.block_size,
        bytes_per_token=planner.bytes_per_token(pair),
        kv_bytes=cache + tail,
        tail_bytes=tail,
        context_bytes=planner.cache_bytes(pair, n_ctx, tail=setting.tail)
        + planner.compute_bytes(pair, n_ctx)
        + 3 * logits,  # in the compute buffer, in the output buffer, and for the comparison
    )
    return setting.sized(plain, n_ctx)


def _exact_cells(planner: Planner, pair: CachePair, n_ctx: int) -> int:
    """Bytes of the cache of ``n_ctx`` tokens without the cells that only round its length up."""
    return planner.cache_bytes(pair, n_ctx) - round((round_up(n_ctx) - n_ctx) * planner.bytes_per_token(pair))


def default_settings(windows: bool) -> list[Setting]:
    """What is measured unless it is said otherwise: the presets and the native types, and with a
    window of exact tokens where the chat has one.

    Args:
        windows: whether the attention kernel that windows need is there.
    """
    pairs = dict.fromkeys((*PRESETS, *(CachePair(t, t) for t in CACHE_TYPES.values() if t.native)))
    plain = [Setting(pair) for pair in pairs]
    small = [s for s in plain if s.pair.tail(AUTO_TAIL)]
    return plain + ([Setting(s.pair, s.pair.tail(AUTO_TAIL)) for s in small] if windows else [])


def with_windows(pairs: Sequence[CachePair | Setting], windows: Sequence[int]) -> list[Setting]:
    """Every setting with every window; exact caches have none."""
    out: dict[Setting, None] = {}
    for item in pairs:
        setting = item if isinstance(item, Setting) else Setting(item)
        quantized = setting.pair.k.quantized or setting.pair.v.quantized
        if setting.tail or not quantized:
            out[setting] = None
        else:
            out |= {Setting(setting.pair, window): None for window in windows}
    return list(out)
