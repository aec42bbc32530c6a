"""What a change of the cache is said to have done, or would do."""

from __future__ import annotations

from app.engine import words
from app.engine.cache import Cache, CacheSettings
from quantize.lab.loss import UNKNOWN, Loss


def changed(
    old: Cache, now: Cache, n_used: int, reprefilled: bool, n_exact: int, n_window: int, loss: Loss = UNKNOWN
) -> str:
    """What a change has done.

    Args:
        n_used: tokens in the cache.
        n_exact: how many of them are exactly as they were in an earlier cache of these types.
        n_window: how many of the newest are exact in the window.
        loss: what the present setting costs on this model.
    """
    if reprefilled and now.settings == old.settings:
        return f"The conversation was read again, exactly, with the cache as {now.settings.label}."
    if now.settings.label == old.settings.label and now.settings.n_ctx != old.settings.n_ctx:
        said = f"The context now holds {words.tokens(now.settings.n_ctx)}: "
    else:
        said = f"The cache is now {now.settings.label}: "
        if loss.known and (now.settings.pair.k.quantized or now.settings.pair.v.quantized):
            said += f"{loss.sentence}. It takes "
    said += f"{words.size(now.kv_bytes)} instead of {words.size(old.kv_bytes)}."
    if reprefilled:
        return f"{said} The conversation was read again, exactly."
    said += _window(now.settings.tail, n_used, n_window)
    if not n_used or not gains_precision(old.settings, now.settings):
        return said
    if n_exact >= n_used:
        return f"{said} All {words.tokens(n_used)} are exactly as they were before."
    if n_exact:
        return (
            f"{said} The first {words.tokens(n_exact)} are exactly as they were before; the precision of the "
            f"{n_used - n_exact:,} after them does not come back without /reprefill."
        )
    return f"{said} The precision that {old.settings.label} lost does not come back without /reprefill."


def _window(tail: int, n_used: int, n_window: int) -> str:
    """What the exact window holds."""
    if not tail or not n_used:
        return ""
    if n_window >= min(tail, n_used):
        return f" The newest {words.tokens(n_window)} stay exact."
    if n_window:
        return f" Of the newest {words.tokens(tail)} {n_window:,} are exact; the others follow as you go on."
    return f" The next {words.tokens(tail)} will be kept exactly."


def no_change(now: CacheSettings, wanted: CacheSettings) -> str:
    """Why nothing has to be done."""
    if now.tail_wish == wanted.tail_wish or wanted.tail_wish <= 0:
        return "The cache is already so."
    if not (wanted.pair.k.quantized or wanted.pair.v.quantized):
        return (
            f"{wanted.label} keeps every token exactly. The window of {words.tokens(wanted.tail_wish)} comes "
            "into use with a compressed cache."
        )
    return f"The newest {words.tokens(wanted.tail_wish)} are kept exactly already."


def gains_precision(old: CacheSettings, new: CacheSettings) -> bool:
    """Whether K or V gets more bits than the quantized type that it had."""
    return any(
        a.quantized
        and b.variants[-1].type_size * a.variants[-1].block_size
        > a.variants[-1].type_size * b.variants[-1].block_size
        for a, b in ((old.pair.k, new.pair.k), (old.pair.v, new.pair.v))
    )


def preview(wanted: CacheSettings, more_bytes: int, n_reread: int, through_file: bool) -> str:
    """What a change would do.

    Args:
        more_bytes: what the cache takes then, less what it takes now.
        n_reread: tokens that would be read again.
    """
    if more_bytes < 0:
        gain = f"{wanted.label} frees {words.size(-more_bytes)}"
    elif more_bytes > 0:
        gain = f"{wanted.label} takes {words.size(more_bytes)} more"
    else:
        gain = f"{wanted.label} takes the same"
    if n_reread:
        return f"{gain}; all {words.tokens(n_reread)} are read again."
    if through_file:
        return f"{gain}; it goes through a temporary file, since both caches do not fit at once."
    return f"{gain}."


def refused(wanted: CacheSettings, needed: int, available: int) -> str:
    """Why a change is not made."""
    return (
        f"{wanted.label} with {words.tokens(wanted.n_ctx)} needs {words.size(max(0, needed))} more memory "
        f"than is taken now, and {words.size(max(0, available))} are available."
    )
