"""The figures of the panel: memory, the stretch table, speeds."""

from __future__ import annotations

import psutil

from app.engine.protocol import MemoryFigures


class Figures:
    """Composes ``Status`` from plain numbers, so that any thread may ask while llama.cpp computes."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.base_rss = self._process.memory_info().rss
        """What the process took before any model: the interpreter and the libraries."""

    def memory(self, kv_measured: int, compute: int, repacked: int, mapped: int) -> MemoryFigures:
        machine = psutil.virtual_memory()
        return MemoryFigures(
            weights_mapped=mapped,
            weights_repacked=repacked,
            kv_measured=kv_measured,
            compute=compute,
            overhead=self.base_rss,
            rss=self._process.memory_info().rss,
            available=machine.available,
            total=machine.total,
        )
