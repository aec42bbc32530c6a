"""Stretch's own C library in the engine: its cache types and its attention kernel."""

from __future__ import annotations

from dataclasses import dataclass

from app.engine.log import EngineLog
from quantize import native
from quantize.native import attention


@dataclass(frozen=True, slots=True)
class Native:
    """What of the library is in use; a reason is empty where it is."""

    types_reason: str
    kernel_reason: str

    @property
    def types(self) -> bool:
        """Whether tq4, tq3 and tq2 can be used."""
        return not self.types_reason

    @property
    def kernel(self) -> bool:
        """Whether attention over compressed caches runs in the own kernel."""
        return not self.kernel_reason


NO_NATIVE = Native("The native library is not in use.", "The native library is not in use.")


def prepare(log: EngineLog) -> Native:
    """Register types and kernel, before the first context. What cannot be is said in the log and
    llama.cpp stays as it is; ``STRETCH_KERNEL=stock`` leaves its attention alone."""
    types = native.register_types()
    kernel = attention.enable()
    found = Native(types.reason, kernel.reason)
    log.write(f"info native library: {types.isa or 'not loaded'}, types {types.reason or 'registered'}")
    log.write(f"info attention kernel: {found.kernel_reason or kernel.apart or 'in the CPU backend'}")
    return found
