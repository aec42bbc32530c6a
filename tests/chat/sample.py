"""A conversation with everything in it, and the application with its engine left alone."""

from __future__ import annotations

import json
from pathlib import Path

from app.chat import messages as news
from app.chat.app import StretchApp
from app.engine.protocol import PrefillProgress
from app.options import ChatOptions
from app.store import export
from app.store.records import Attachment, Figures
from app.store.store import Store
from tests.panel import figures

QUESTION = "Summarise chapter 3 and list the open questions. @notes/ch3.md"

REPLY = """<think>
The chapter has three parts. The reader wants the open questions, so keep the summary short.
</think>

Chapter 3 argues that the **cache** and not the weights decides how long a conversation can be:

1. Every token keeps its keys and values for as long as the conversation lasts.
2. Half of them are hardly ever read again, and `q8_0` stores the rest without a loss that one
   could measure.

| setting | per token | reaches |
|:--------|----------:|--------:|
| f16     | 144 KiB   | 41,200  |
| q8_0    | 77 KiB    | 77,100  |
| q4_0    | 41 KiB    | 146,500 |

```python
def bytes_per_token(n_layer: int, n_head_kv: int, head_dim: int, bits: float) -> float:
    \"\"\"Keys and values of one token.\"\"\"
    return 2 * n_layer * n_head_kv * head_dim * bits / 8
```

Open questions
- Does the *rotation* of the keys matter at 4 bits?
- Who needs more bits, keys or values?
  - the chapter says keys
"""

SECOND = "And in one sentence?"
SHORT = "A context is as long as its cache is small."


def fill(store: Store) -> int:
    """Put the conversation into ``store``; its id."""
    conversation = store.new_conversation(model="bonsai")
    done = Figures(model="Bonsai-4B", n_generated=211, generate_s=9.8, reason="end")
    store.add(conversation.id, "user", QUESTION, attachments=[Attachment("notes/ch3.md", "word " * 8_000)])
    store.add(conversation.id, "assistant", REPLY, figures=done)
    store.add(conversation.id, "user", SECOND)
    first = store.add(conversation.id, "assistant", "It is the cache.", figures=done)
    store.set_leaf(conversation.id, first.parent)
    store.add(conversation.id, "assistant", SHORT, figures=done)
    return conversation.id


def fill_long(store: Store, n_messages: int, folder: Path) -> int:
    """A long conversation, read in from a file because that is quick; its id."""
    messages = []
    for n in range(n_messages):
        question = f"Question {n // 2}: what about **{n // 2}**?"
        answer = f"Answer {n // 2}.\n\n- first point\n- second\n\n```python\nprint({n})\n```\n\nThat is all."
        messages.append(
            {
                "id": n + 1,
                "parent": n or None,
                "role": "assistant" if n % 2 else "user",
                "content": answer if n % 2 else question,
                "state": "complete",
                "created": 1.7e9 + n,
                "figures": {"model": "Bonsai-4B", "reason": "end"} if n % 2 else {},
                "attachments": [],
            }
        )
    document = {
        "format": export.FORMAT,
        "version": export.VERSION,
        "title": "A long one",
        "created": 1.7e9,
        "model": "bonsai",
        "settings": "",
        "leaf": n_messages,
        "messages": messages,
    }
    path = folder / "long.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return export.import_file(store, path).id


class StillApp(StretchApp):
    """The application without its engine: what is shown is what the test posts."""

    def __init__(self, conversation: int = 0, options: ChatOptions | None = None) -> None:
        super().__init__(options)
        self._conversation = conversation
        self.chat.composer.cursor_blink = False
        self.chat.panel._clock = lambda: 100.0
        self.animation_level = "none"

    def begin(self) -> None:
        if self._conversation:
            self.session.page.open(self._conversation)
        self.show_figures()
        self.session.post(news.ConversationOpened())

    def show_figures(self, **changes: object) -> None:
        """A model and figures as they would arrive."""
        self.session.life.loaded = figures.loaded()
        self.session.life.state = "up"
        self.session.post(news.ModelChanged(figures.loaded()))
        self.session.status = figures.status(**changes)
        self.session.post(news.StatusChanged(self.session.status))
        self.session.post(news.PhaseChanged("ready"))


def progress(n_done: int = 2048, n_total: int = 9812) -> PrefillProgress:
    """A prompt that is being read."""
    return PrefillProgress(
        1, n_done=n_done, n_total=n_total, n_cached=0, tokens_per_second=412.0, eta_s=(n_total - n_done) / 412
    )
