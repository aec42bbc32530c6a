"""What a model loses at each cache setting, found out in some seconds beside its work.

A text is read once with f16, and the distributions of the next token are kept. Then it is read again with
one setting after the other, everything compressed as it is written, and compared at once. Everything goes
in slices, so that it can be left at any moment and taken up again.

Such a reading is short, and a window of 256 exact tokens would hold nearly all of it. So the window is as
long a part of it as it is of ``SPAN`` tokens, about the length of a chat in which it matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import process_time

import numpy as np
from numpy.typing import NDArray

from quantize.errors import EngineError
from quantize.lab.loss import Loss
from quantize.lab.setting import REFERENCE, Setting, parse_setting
from quantize.lab.subject import Subject, Workbench
from quantize.llama import StopFlag
from quantize.native.window import Layout, put_back, read_window

SLICE = 32
"""Tokens that are read at once: a third of a second with 1.5B weights on two cores."""

MIN_TOKENS, MAX_TOKENS = 128, 384
"""Tokens of one reading."""

SKIPPED = 0.25
"""Share at the beginning that is read and not compared: there is little yet that could be lost."""

SPAN = 1024
"""Tokens of the chat that the reading stands for, as far as windows go. Longer chats lose hardly more: the
newest tokens are looked at most."""

CORE_SECONDS = 36.0
"""Of processor time for everything, which decides how many tokens are read: below 20 s of two cores."""

FLOOR = parse_setting("bf16")
"""Rounds every value of K and V by up to 0.4%, which moves a model as far as any other rounding does: no
setting can be told from the exact cache by less."""

Room = Callable[[int], NDArray[np.uint8]]
Floats = NDArray[np.float32]


class Interrupted(Exception):
    """Something arrived; what was measured until now is kept."""


def n_tokens_for(core_seconds_per_token: float, n_readings: int) -> int:
    """Tokens of one reading, so that all of them take ``CORE_SECONDS``; a multiple of ``SLICE``."""
    affordable = CORE_SECONDS / max(core_seconds_per_token * n_readings, 1e-9)
    return int(min(MAX_TOKENS, max(MIN_TOKENS, affordable // SLICE * SLICE)))


def short_window(tail: int, n_tokens: int) -> int:
    """The window of a reading of ``n_tokens`` that stands for one of ``tail`` in a chat of ``SPAN``."""
    return max(1, round(tail * n_tokens / SPAN)) if tail else 0


def log_probabilities(logits: Floats) -> Floats:
    """Logarithms of the probabilities, shape (n, n_vocab). In float32, whose error of 1e-6 is far below
    any floor, and three times as fast as float64."""
    x: Floats = logits - logits.max(axis=1, keepdims=True)
    x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
    return x


@dataclass
class Reading:
    """One cache into which the text is read."""

    setting: Setting
    n_done: int = 0
    kld: list[float] = field(default_factory=list)
    """Of every compared token."""
    same: list[bool] = field(default_factory=list)
    subject: Subject | None = None

    def begin_anew(self) -> None:
        """Forget what was read."""
        self.close()
        self.n_done = 0
        self.kld.clear()
        self.same.clear()

    def close(self) -> None:
        """Free the cache."""
        if self.subject is not None:
            self.subject.close()
            self.subject = None


class OwnLoss:
    """Measures settings of one loaded model.

    Args:
        bench: the model.
        layout: its caches.
        text: tokens, of which as many are read as the time allows.
        n_readings: settings that will be measured, about.
        room: makes the buffer for the distributions of the reference.
        stop: interrupts what is computed.
    """

    def __init__(
        self,
        bench: Workbench,
        layout: Layout,
        text: Sequence[int],
        *,
        n_readings: int,
        room: Room,
        stop: StopFlag,
    ) -> None:
        self._bench = bench
        self._layout = layout
        self._text = list(text[:MAX_TOKENS])
        self._n_readings = n_readings + 1  # and the reference
        self._room = room
        self._stop = stop
        self._seconds = 0.0
        self._reference = Reading(REFERENCE)
        self._reading: Reading | None = None
        self._exact: list[Floats] = []  # by slice
        self.n_tokens = len(self._text)
        """Tokens of one reading; certain once the second slice was read, whose time decides."""

    def step(self, setting: Setting) -> Loss | None:
        """Read one slice for ``setting``; its loss once everything was read, else None.

        Another setting than the last time begins anew.

        Raises:
            Interrupted: if ``stop`` was set; the same call again goes on.
            StretchError: if this setting cannot be read.
        """
        reading = self._reference
        if reading.n_done >= self.n_tokens:
            if self._reading is None or self._reading.setting != setting:
                self._close_reading()
                self._reading = Reading(setting)
            reading = self._reading
        began = process_time()
        self._slice(reading)
        if reading is self._reference and reading.n_done == 2 * SLICE:  # the first one read the weights
            each = (process_time() - began) / SLICE
            self.n_tokens = min(self.n_tokens, n_tokens_for(each, self._n_readings))
        if reading.n_done < self.n_tokens:
            return None
        reading.close()
        if reading is self._reference:
            return None
        self._reading = None
        kld, same = reading.kld, reading.same
        return Loss(float(np.mean(kld)), float(np.mean(same)), measured=True, n_tokens=len(kld))

    @property
    def _first(self) -> int:
        """The first token that is compared: the beginning of a slice."""
        return int(self.n_tokens * SKIPPED) // SLICE * SLICE

    def done(self, setting: Setting) -> float:
        """Share of what ``setting`` takes that is read."""
        reading = self._reading
        return reading.n_done / self.n_tokens if reading is not None and reading.setting == setting else 0.0

    @property
    def reference_done(self) -> float:
        """Share of the reference that is read."""
        return min(1.0, self._reference.n_done / max(self.n_tokens, 1))

    def release(self) -> None:
        """Free the cache that is read into; that setting begins anew."""
        self._close_reading()
        if self._reference.n_done < self.n_tokens:
            self._reference.begin_anew()
            self._exact.clear()

    def close(self) -> None:
        """Free everything."""
        self._close_reading()
        self._reference.close()
        self._exact.clear()

    def _close_reading(self) -> None:
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    # ------------------------------------------------------------------ inside

    def _open(self, setting: Setting) -> Subject:
        short = replace(setting, tail=short_window(setting.tail, self.n_tokens))
        subject = short.open(self._bench, n_ctx=self.n_tokens, n_batch=SLICE, n_outputs=SLICE)
        subject.context.stop_with(self._stop)
        return subject

    def _slice(self, reading: Reading) -> None:
        if reading.subject is None:
            reading.subject = self._open(reading.setting)
        at = reading.n_done
        tokens = self._text[at : min(at + SLICE, self.n_tokens)]
        context = reading.subject.context
        compared = reading is self._reference or at >= self._first
        tail = reading.subject.tail
        window = read_window(tail, self._layout, context.type_k, context.type_v) if tail is not None else {}
        code = reading.subject.decode(tokens, at, "all" if compared else "none")
        if code == 2:
            if context.last_position() >= at and not context.remove(at):
                reading.begin_anew()  # its state cannot be cut back
                if reading is self._reference:
                    self._exact.clear()
            elif tail is not None:  # what was begun displaced exact rows
                put_back(tail, window)
            raise Interrupted
        if code:
            raise EngineError(f"llama.cpp could not read the text (code {code}).")
        reading.n_done = at + len(tokens)
        if not compared:
            return
        found = log_probabilities(context.all_logits(len(tokens)))
        if reading is self._reference:
            self._keep(found)
        else:
            exact = self._exact[at // SLICE]
            kld = np.einsum("ij,ij->i", np.exp(exact), exact - found)
            reading.kld += np.maximum(kld, 0.0).tolist()
            reading.same += (exact.argmax(axis=1) == found.argmax(axis=1)).tolist()

    def _keep(self, found: Floats) -> None:
        buffer = self._room(found.nbytes)[: found.nbytes].view(np.float32).reshape(found.shape)
        buffer[:] = found
        self._exact.append(buffer)


def working_bytes(n_vocab: int) -> int:
    """Bytes that a slice takes beside its cache: the logits, and four arrays as large to compare them."""
    return 5 * 4 * SLICE * n_vocab
