"""Mutated GGUF headers through the reader and the planner: no crash, no hang, no large allocation.

    python -m benchmarks.fuzz_header [COUNT] [FIRST]

Each header must either give a plan or one ``ModelFileError`` (or ``CacheTypeError``), within a
second of the processor's time and within 256 MB. What breaks a rule is written to
``tests/models/corpus``, where the tests try it for ever.
"""

from __future__ import annotations

import sys
import time
import traceback
import tracemalloc
from collections import Counter
from pathlib import Path

from models.header import parse_header
from models.plan import Planner
from quantize.cache_types import PRESETS
from quantize.errors import StretchError
from tests.models.header_mutations import Endless, header_of

SECONDS = 1.0
BYTES = 256 << 20
CORPUS = Path(__file__).parent.parent / "tests" / "models" / "corpus"


def try_header(data: bytes) -> str:
    """Read and plan; what came of it in one word. Anything but a StretchError is a fault."""
    try:
        header = parse_header(Endless(data))
    except StretchError:
        return "not read"
    try:
        planner = Planner(header)
        rows = planner.stretch_table(n_ctx=4096, budget=8 << 30)
        for pair in PRESETS:
            if not planner.refusal(pair):
                planner.plan(pair, 8192)
        header.type_bytes(), header.split
    except StretchError:
        return "not planned"
    assert all(0 <= row.max_ctx <= row.max_ctx_memory for row in rows)
    return "planned"


def main() -> int:
    """Run; 1 if anything broke a rule."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    outcomes: Counter[str] = Counter()
    slowest = largest = 0.0
    tracemalloc.start()
    for seed in range(first, first + count):
        data = header_of(seed)
        tracemalloc.reset_peak()
        start = time.process_time()
        fault = ""
        try:
            outcomes[try_header(data)] += 1
        except Exception:  # every kind of fault is what this looks for
            fault = traceback.format_exc()
        spent, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
        slowest, largest = max(slowest, spent), max(largest, peak)
        if fault or spent > SECONDS or peak > BYTES:
            CORPUS.mkdir(exist_ok=True)
            (CORPUS / f"{seed}.gguf").write_bytes(data)
            outcomes["FAULT"] += 1
            print(f"{seed}: {spent:.2f} s, {peak >> 20} MB\n{fault}")
    print(f"{count} headers: {dict(outcomes)}")
    print(f"slowest {slowest * 1000:.0f} ms, largest allocation {largest / 2**20:.1f} MB")
    return 1 if outcomes["FAULT"] else 0


if __name__ == "__main__":
    sys.exit(main())
