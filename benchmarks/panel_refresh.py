"""What one refresh of the memory panel costs when every figure in it changes.

    python -m benchmarks.panel_refresh

Prints processor time per refresh at 140x40: building the lines and finding the cells that differ,
and the same with Textual's painting of them. At two refreshes per second a millisecond is 0.2% of
one core.
"""

from __future__ import annotations

import asyncio
import os
import time

from textual.containers import Horizontal
from textual.widgets import Static

from app.chat.panel.memory_panel import MemoryPanel
from app.engine.protocol import Status
from tests.panel import figures
from tests.panel.host import Host

REFRESHES = 400
FRAME_S = 0.02


def statuses() -> list[Status]:
    """Figures of which every one differs from the one before."""
    found = []
    for i in range(REFRESHES):
        memory = figures.memory(rss=1900 * figures.MIB + i * 100_000, available=figures.GIB * 7 - i * 90_000)
        rows = tuple(
            figures.row(r.type_k, r.type_v, kib=r.bytes_per_token / 1024, max_ctx=r.max_ctx - 3 * i)
            for r in figures.ROWS
        )
        found.append(figures.status(n_used=9000 + 7 * i, generate_tps=20 + i / 100, memory=memory, rows=rows))
    return found


async def measure() -> None:
    """Run the panel in an application without a terminal and print the figures."""
    os.environ["COLORTERM"] = "truecolor"
    panel, page = MemoryPanel(), Static("")
    page.styles.width = "1fr"
    async with Host(Horizontal(page, panel)).run_test(size=(140, 40)) as pilot:
        panel.show_loaded(figures.loaded())
        given = statuses()
        panel.show_status(given[0])
        await pilot.pause()

        began = time.process_time()
        for status in given:
            panel.show_status(status)
        building = (time.process_time() - began) / REFRESHES

        began = time.process_time()
        for status in given:
            panel.show_status(status)
            await asyncio.sleep(FRAME_S)
        painting = (time.process_time() - began) / REFRESHES

        began = time.process_time()
        for _ in given:
            await asyncio.sleep(FRAME_S)
        idle = (time.process_time() - began) / REFRESHES
    print(f"lines and differences  {1000 * building:5.2f} ms")
    print(f"with painting          {1000 * (painting - idle):5.2f} ms")


if __name__ == "__main__":
    asyncio.run(measure())
