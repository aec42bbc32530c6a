"""Which codec for which loss."""

from __future__ import annotations

from quantize.errors import UsageError
from quantize.park.codec import CODECS, Setting, parse
from quantize.park.parking import ModelFacts

DEFAULT_KLD = 0.002
"""Mean KLD of the tokens that follow which is accepted unless somebody states another one."""

APART = "lowrank"
"""Codes every K and V by itself, and so what a prune left: cells that hold another token in every layer and
head. Nothing can be predicted from their tokens, and neighbouring layers have nothing in common."""

UNCALIBRATED: tuple[tuple[float, str], ...] = ((0.002, "turboquant:4"), (0.0, "ggml:q8_0"))
"""Without a calibration nothing is known of this model: rules that were careful for all that were tried."""


def choose(text: str, facts: ModelFacts, kld: float = DEFAULT_KLD) -> Setting:
    """The setting that ``text`` names; of ``auto`` the smallest whose measured KLD is within ``kld``.

    Raises:
        UsageError: if there is no such codec, or it needs a calibration that there is not.
    """
    if text.strip().lower() not in ("", "auto"):
        setting = parse(text)
        if CODECS[setting.codec].needs_profile and facts.profile is None:
            raise UsageError(
                f"The codec {setting.codec} needs a calibration of this model.",
                "Run stretch calibrate first.",
            )
        return setting
    best: Setting | None = None
    ratio = 0.0
    for name in facts.profile.points if facts.profile is not None else ():
        point = facts.profile.step_for(name, kld) if facts.profile is not None else None
        found = CODECS.get(name)
        if point is None or found is None or point.ratio <= ratio:
            continue
        setting = found.check(Setting(name, round(point.step, 5)))
        if not found.obstacle(facts.frame, setting):
            best, ratio = setting, point.ratio
    if best is not None:
        return best
    for least, name in UNCALIBRATED:
        setting = parse(name)
        if kld >= least and not CODECS[setting.codec].obstacle(facts.frame, setting):
            return setting
    return parse("ggml:f16")


def for_mixed_cells(setting: Setting) -> Setting:
    """``setting``, or for a codec that joins K with V or looks at tokens the one that does not, as fine."""
    joins = CODECS[setting.codec].needs_profile and setting.codec != APART
    return CODECS[APART].check(Setting(APART, setting.step)) if joins else setting
