"""A cache under measurement that parks itself when the text was read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from quantize.buffers import allocate
from quantize.errors import EngineError, StateError
from quantize.lab.footprint import Footprint
from quantize.lab.subject import Subject
from quantize.park.auto import choose
from quantize.park.facts import facts_of
from quantize.park.file import ParkReader
from quantize.park.parking import park, unpark
from quantize.state import read_state


class ParkedSubject(Subject):
    """Reads exactly; ``settle`` parks the cache in a file and goes on with what comes out of it."""

    def __init__(
        self, before: Subject, codec: str, calibrations: Path, open_after: Callable[[], Subject]
    ) -> None:
        """
        Args:
            before: reads the text; it belongs to this one from now on.
            codec: as ``auto.choose`` takes it.
            calibrations: where the calibrations of models are.
            open_after: opens the cache that is resumed into.
        """
        super().__init__(before.bench, before.context)
        self._codec = codec
        self._calibrations = calibrations
        self._open_after = open_after
        self._tokens: list[int] = []
        self._footprint: Footprint | None = None

    def read(self, tokens: Sequence[int], position: int, logits: str = "none") -> None:
        self._tokens[position:] = tokens
        super().read(tokens, position, logits)

    @property
    def footprint(self) -> Footprint | None:
        return self._footprint

    def settle(self) -> None:
        bench, context = self.bench, self.context
        try:
            facts = facts_of(bench.model, bench.geometry, self._calibrations)
            data = allocate(context.state_size())
            state = read_state(data[: context.save_state(data)])
            after = self._open_after()
            types = self._types(after)
            with tempfile.TemporaryDirectory(prefix="stretch-park-") as directory:
                path = Path(directory) / "text.park"
                parked = park(state, self._tokens, facts, choose(self._codec, facts), path)
                if parked is None:
                    raise StateError("The text could not be parked.")
                with ParkReader(path) as reader:
                    back = unpark(reader, facts, *types, allocate)
        except OSError as error:
            raise EngineError(f"The text could not be parked: {error.strerror or error}.") from error
        if not after.context.load_state(back.data):
            after.close()
            raise EngineError("llama.cpp refused the parked text.")
        self.replace(after.context)
        bits = 16 / parked.ratio
        self._footprint = Footprint(bits, bits, parked.n_bytes / max(parked.n_tokens, 1))

    def _types(self, after: Subject) -> tuple[int, int]:
        """ggml's ids of K and V of a cache, which one token in it tells."""
        context = after.context
        if context.decode((0,), 0, logits="none"):
            raise EngineError("llama.cpp could not read a token.")
        data = allocate(context.state_size())
        part = next(p for p in read_state(data[: context.save_state(data)]).parts if p.n_cells)
        context.clear()
        return part.k[0].type_id, part.v[0].type_id
