"""Takes the README's pictures from the real program: ``python docs/pictures.py``.

The application runs with the real engine on the built-in model; what is typed is typed. Nothing in the
pictures is drawn by hand, so the figures are those of the machine that takes them.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))


async def take() -> None:
    """Open the chat, talk, switch, and keep a picture of each step."""
    from app.chat.app import StretchApp
    from app.options import ChatOptions

    app = StretchApp(
        ChatOptions(model="builtin", overrides={"temperature": 0.0, "max_tokens": 80, "n_ctx": 8192})
    )
    async with app.run_test(size=(140, 40)) as pilot:
        session = app.session

        async def until(true: Callable[[], object]) -> None:
            async with asyncio.timeout(120):
                while not true():
                    await pilot.pause(0.05)

        async def say(text: str) -> None:
            n = len(session.page.messages)
            app.chat.composer.text = text
            await pilot.press("enter")
            await until(lambda: len(session.page.messages) == n + 2 and not session.busy)
            await pilot.pause(0.8)

        async def picture(name: str) -> None:
            await pilot.pause(0.3)
            (HERE / f"{name}.svg").write_text(app.export_screenshot(title="stretch"), encoding="utf-8")

        await until(lambda: session.phase == "ready")
        await until(lambda: session.status is not None and all(r.loss.measured for r in session.status.rows))
        await say("My cat is called Miso and the key is in the cellar.")
        await say("Where is the key?")
        await say("How do I make the cache smaller?")
        await picture("before")
        await pilot.press("ctrl+t", "ctrl+t")
        await until(
            lambda: session.status is not None and session.status.type_v != "f16" and session.phase == "ready"
        )
        await pilot.pause(1.2)
        await say("What is the KV cache?")
        await picture("chat")
        await pilot.press("ctrl+k")
        await pilot.pause(1.0)
        await picture("types")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {
            "STRETCH_HOME": home,
            "COLORTERM": "truecolor",
            "TERM": "xterm-256color",
            "STRETCH_GLYPHS": "smooth",
        }
        asyncio.run(take())
