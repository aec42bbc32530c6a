"""Measures what each cache setting costs on the loaded model, while nothing else is to be done.

A slice of it takes a fraction of a second, and any command interrupts it at once. What was measured is kept
for the model file. ``quantize/lab/own_loss.py`` says what is measured and how.
"""

from __future__ import annotations

from time import monotonic

from app.engine import states
from app.engine.budget import Budget
from app.engine.cache import CacheSettings, layout_of
from app.engine.inbox import Inbox
from app.engine.loader import LoadedModel
from app.engine.threads import Threads
from models.header import Header
from models.loss_store import NOT_MEASURABLE
from models.model_losses import ModelLosses
from models.plan import Planner
from models.stretch_row import StretchRow
from quantize.cache_types import CachePair, cache_type
from quantize.centring_store import CentringStore
from quantize.errors import StretchError
from quantize.lab.loss import Verdict
from quantize.lab.opening import Opening
from quantize.lab.own_loss import FLOOR, MAX_TOKENS, SLICE, Interrupted, OwnLoss, working_bytes
from quantize.lab.setting import REFERENCE, Setting
from quantize.lab.subject import Workbench
from quantize.lab.text import built_in_text

QUIET_SECONDS = 3.0
"""The engine has computed nothing for so long before it begins."""

RETRY_SECONDS = 60.0
"""Until memory that was short is looked at again."""

TEXT_CHARACTERS = 16 * MAX_TOKENS
"""Of the built-in text: enough for every tokenizer."""


class SelfMeasure:
    """The measurement of one session's model. Main thread only, except ``fraction``."""

    def __init__(
        self,
        header: Header,
        loaded: LoadedModel,
        budget: Budget,
        losses: ModelLosses,
        threads: Threads,
        inbox: Inbox,
        centrings: CentringStore,
        *,
        on: bool,
    ) -> None:
        self._header = header
        self._loaded = loaded
        self._budget = budget
        self._losses = losses
        self._threads = threads
        self._inbox = inbox
        self._centrings = centrings
        self._on = on and budget.planner.shape.stores_kv
        self._due = monotonic() + QUIET_SECONDS
        self._extra: list[Setting] = []
        self._work: OwnLoss | None = None
        self._bench: Workbench | None = None
        self._needed = 0

    # ------------------------------------------------------------------ when

    def pause(self, present: CacheSettings) -> float | None:
        """Seconds until there is something to do; None if there is nothing."""
        if not self._on or not self._missing(present):
            return None
        return max(0.0, self._due - monotonic())

    def touched(self) -> None:
        """The engine has computed something."""
        self._due = max(self._due, monotonic() + QUIET_SECONDS)

    def want(self, setting: Setting) -> None:
        """Measure this one too: somebody looks at it."""
        if setting not in self._extra and (setting.pair.k.quantized or setting.pair.v.quantized):
            self._extra = [*self._extra[-3:], setting]

    def repeat(self) -> None:
        """Forget what was measured and begin again, soon."""
        self.close()
        self._centrings.repeat()
        self._losses.store.clear()
        self._on = self._budget.planner.shape.stores_kv
        self._due = monotonic()

    def fraction(self, present: CacheSettings) -> float:
        """Share of what is to be measured that is; negative if nothing is measured now."""
        work = self._work
        missing = self._missing(present) if self._on and work is not None else []
        if work is None or not missing:
            return -1.0
        total = len(self._all(present)) + 1
        return (total - 1 - len(missing) + work.reference_done + work.done(missing[0])) / total

    def _all(self, present: CacheSettings) -> list[Setting]:
        """Everything that is to be known: rounding, the present setting, and those of the table, first the
        ones whose estimate leaves a doubt."""
        rows = [row for row in self._budget.rows(present) if not row.refused]
        rows.sort(key=lambda row: row.loss.verdict == Verdict.EXACT)
        wanted = [Setting(present.pair, present.tail), *map(_setting_of, rows), *self._extra]
        quantized = [s for s in wanted if s.pair.k.quantized or s.pair.v.quantized]
        return list(dict.fromkeys((FLOOR, *quantized)))

    def _missing(self, present: CacheSettings) -> list[Setting]:
        known = self._losses.store
        return [s for s in self._all(present) if (known.floor < 0 if s == FLOOR else s not in known.losses)]

    # ------------------------------------------------------------------ what

    def step(self, present: CacheSettings) -> bool:
        """Do one slice; whether something is known now that was not before."""
        missing = self._missing(present)
        if not missing or not self._on:
            return False
        setting = missing[0]
        try:
            work = self._begin(len(missing), present)
            if work is None:
                self._due = monotonic() + RETRY_SECONDS
                return False
            loss = work.step(setting)
        except Interrupted:
            return False
        except StretchError as error:
            return self._give_up(setting, error)
        if loss is None:
            return False
        store = self._losses.store
        if setting == FLOOR:
            store.put_floor(loss.kld)
        else:
            store.put(setting, loss)
        if len(missing) == 1:
            self.close()
        return True

    def release(self) -> None:
        """Free the cache that is read into, for something else needs the memory. What was measured stays."""
        if self._work is not None:
            self._work.release()
        self._budget.beside = 0

    def close(self) -> None:
        """Free everything."""
        if self._work is not None:
            self._work.close()
        if self._bench is not None:
            self._bench.close()
        self._work = self._bench = None
        self._budget.beside = 0

    # ------------------------------------------------------------------ inside

    def _give_up(self, setting: Setting, error: StretchError) -> bool:
        """This setting cannot be read; if not even the reference can, nothing can be measured."""
        if self._work is not None and self._work.reference_done < 1:
            self.close()
            self._on = False
        elif setting == FLOOR:
            self._losses.store.put_floor(self._losses.facts.floor)
        else:
            self._losses.store.put(setting, NOT_MEASURABLE)
        self.release()
        return True

    def _calibrate(self) -> None:
        """Find what K is to be stored without: every figure depends on it.

        Raises:
            Interrupted: if something arrived.
        """
        try:
            self._centrings.calibrate(self._inbox.arrival)
        except StretchError as error:
            if self._inbox.arrival:
                raise Interrupted from error
            self._centrings.give_up()
        self._losses.store.clear()

    def _begin(self, n_settings: int, present: CacheSettings) -> OwnLoss | None:
        """What measures; None if there is no memory for it."""
        planner = self._budget.planner
        if not self._needed:
            small = Planner(self._header, n_ubatch=SLICE, n_outputs_max=SLICE, repack=False)
            plan = small.plan(REFERENCE.pair, MAX_TOKENS)
            self._needed = plan.cache + plan.compute + working_bytes(planner.shape.n_vocab)
        if not self._budget.beside:
            if self._budget.free(present) < self._needed:
                return None
            self._budget.beside = self._needed
        if not self._centrings.calibrated:
            self._calibrate()
        if self._work is None or self._bench is None:
            model = self._loaded.model
            shape = planner.shape
            opening = Opening(str(model.path), shape.geometry(), shape.mla, self._threads.now)
            self._bench = Workbench(opening, model)
            text = model.tokenize(built_in_text()[:TEXT_CHARACTERS], add_special=True, parse_special=False)
            self._work = OwnLoss(
                self._bench,
                layout_of(shape),
                text,
                n_readings=n_settings,
                room=states.in_file,
                stop=self._inbox.arrival,
            )
        self._bench.n_threads = self._threads.now
        return self._work


def _setting_of(row: StretchRow) -> Setting:
    return Setting(CachePair(cache_type(row.type_k), cache_type(row.type_v)), row.tail)
