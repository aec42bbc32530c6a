"""What each cache setting costs on one model: as measured, or as estimated before that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from models.header import Header
from models.loss_estimate import NOISE, KFacts, estimate, k_facts, parts
from models.loss_store import LossStore, store_path
from models.stretch_row import StretchRow
from quantize.cache_types import CachePair, CacheType, cache_type
from quantize.lab.loss import NO_LOSS, Loss, Verdict, better_sentence, breaks_sentence, least_loss_first
from quantize.lab.setting import Setting
from quantize.park.fingerprint import fingerprint


def always_centred(kind: CacheType) -> bool:
    """With the own kernel K of every quantized type is stored without its constant."""
    return kind.quantized


def never_centred(_kind: CacheType) -> bool:
    """No type of K is stored without its constant."""
    return False


def _finer(kind: CacheType, measured: CacheType) -> bool:
    """Whether a type is the measured one, or keeps at least 8 bits and more than that."""
    noise = NOISE[kind.name]
    return kind == measured or (noise <= NOISE["q8_0"] and noise <= NOISE[measured.name])


class ModelLosses:
    """Answers for every setting, also for those that nobody measured.

    Args:
        facts: what the file says of K.
        store: what was measured.
        centred: whether K of a type is stored without its constant.
    """

    def __init__(
        self, facts: KFacts, store: LossStore, centred: Callable[[CacheType], bool] = never_centred
    ) -> None:
        self.facts = facts
        self.store = store
        self.centred = centred

    def of(self, pair: CachePair, tail: int = 0) -> Loss:
        """The loss of a setting, with its floor."""
        if not (pair.k.quantized or pair.v.quantized):
            return NO_LOSS
        measured = self.store.get(Setting(pair, tail))
        if measured is not None and measured.known:
            return measured
        floor = max(self.store.floor, 0.0) or self.facts.floor
        guess = estimate(replace(self.facts, floor=floor), pair, tail, centred=self.centred(pair.k))
        # A longer window or a side of at least 8 bits loses no more than what was measured, a shorter window
        # no less. Fewer bits say nothing of each other: on some models tq3 costs less than tq4.
        for setting, known in self.store.losses.items():
            if not known.known:
                continue
            finer = _finer(pair.k, setting.pair.k) and _finer(pair.v, setting.pair.v)
            less = finer and setting.tail <= tail and known.kld < guess.kld
            more = setting.pair == pair and setting.tail > tail and known.kld > guess.kld
            if less or more:
                guess = replace(known, floor=floor, measured=False)
        return guess

    def of_row(self, row: StretchRow) -> Loss:
        """The loss of a row of the stretch table."""
        return self.of(CachePair(cache_type(row.type_k), cache_type(row.type_v)), row.tail)

    def side(self, pair: CachePair) -> str:
        """Which side of a setting costs most: ``K in q4_0``."""
        found = parts(self.facts, pair, centred=self.centred(pair.k))
        return f"K in {pair.k.name}" if found.k >= found.v else f"V in {pair.v.name}"

    def with_losses(self, rows: list[StretchRow]) -> tuple[StretchRow, ...]:
        """``rows`` with their losses, the least first; those that the model cannot have stay last."""
        usable = [replace(row, loss=self.of_row(row)) for row in rows if not row.refused]
        refused = [row for row in rows if row.refused]
        return (*least_loss_first(usable, lambda row: row.loss), *refused)

    def warning(self, pair: CachePair, tail: int, rows: tuple[StretchRow, ...]) -> str:
        """Why a setting must not be taken unasked, and what to take instead; empty if it may.

        Args:
            rows: the stretch table, with its losses.
        """
        loss = self.of(pair, tail)
        if not loss.breaks:
            return ""
        sentence = breaks_sentence(self.side(pair), loss)
        better = [r for r in rows if not r.refused and r.loss.verdict <= Verdict.SMALL]
        if not better:
            return sentence
        best = min(better, key=lambda r: (r.bytes_per_token, r.loss.excess))
        return f"{sentence} {better_sentence(best.name, best.kib, best.loss)}"


def losses_of(
    header: Header,
    path: Path | None,
    directory: Path | None,
    *,
    kernel: str = "own",
) -> ModelLosses:
    """What is known of a model file.

    Args:
        path: the file, or the first of its parts; None for one that is not here.
        directory: where measured losses are kept; None for nowhere.
        kernel: ``own``, which stores a quantized K without its constant, or ``stock``.
    """
    place = None
    if path is not None and directory is not None:
        try:
            place = store_path(directory, fingerprint(path))
        except OSError:
            place = None
    centred = always_centred if kernel == "own" else never_centred
    return ModelLosses(k_facts(header, path), LossStore(place, kernel), centred)
