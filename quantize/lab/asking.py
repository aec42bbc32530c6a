"""Asking a model what it remembers of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import llama_cpp.llama_cpp as L
import numpy as np
from numpy.typing import NDArray

from quantize.errors import EngineError
from quantize.lab.facts import is_right
from quantize.lab.recall import ChatShape, HiddenFacts, RecallTask, hide_facts
from quantize.lab.setting import Setting
from quantize.lab.subject import Subject, Workbench
from quantize.llama import Model
from quantize.state import read_state

MAX_REPLY = 48
"""Tokens of a reply that are judged."""
N_BATCH = 512


def ask_all(
    bench: Workbench,
    setting: Setting,
    task: RecallTask,
    prose: str,
    *,
    on_progress: Callable[[int], None] = lambda _n: None,
) -> list[bool]:
    """Ask every question of the task; whether each reply was right, in order.

    Args:
        on_progress: called with the questions that were asked so far.

    Raises:
        CacheTypeError: if the model cannot have this setting.
        EngineError: if llama.cpp fails.
    """
    model = bench.model
    texts = list(hide_facts(task, prose, lambda t: len(model.tokenize(t, parse_special=False))))
    chat = [
        (prompt_tokens(model, task.chat, t), [question_tokens(model, task.chat, f.question) for f in t.facts])
        for t in texts
    ]
    longest = max(len(prompt) + max(map(len, questions)) for prompt, questions in chat)
    right: list[bool] = []
    with setting.open(bench, n_ctx=longest + MAX_REPLY + 1, n_batch=N_BATCH) as subject:
        for hidden, (prompt, questions) in zip(texts, chat, strict=True):
            reader = _Rereader(subject, prompt, setting.settles)
            for i in hidden.order:
                reply = reply_to(model, subject, questions[i], reader.ready())
                right.append(is_right(reply, hidden.facts[i], hidden.facts))
                on_progress(len(right))
    return right


def prompt_tokens(model: Model, chat: ChatShape, hidden: HiddenFacts) -> list[int]:
    """What is read before any question: the text with its facts, as the chat begins."""
    tokens = model.tokenize(chat.before) + model.tokenize(hidden.text, parse_special=False)
    bos = L.llama_vocab_bos(model.vocab)
    if L.llama_vocab_get_add_bos(model.vocab) and tokens[:1] != [bos]:
        tokens.insert(0, bos)
    return tokens


def question_tokens(model: Model, chat: ChatShape, question: str) -> list[int]:
    """A question, up to where its reply begins."""
    return (
        model.tokenize(chat.between)
        + model.tokenize(question, parse_special=False)
        + model.tokenize(chat.after)
    )


def reply_to(model: Model, subject: Subject, question: Sequence[int], position: int) -> str:
    """The greedy reply to a question that follows what was read up to ``position``."""
    subject.read(question, position, "last")
    position += len(question)
    pieces: list[bytes] = []
    for _ in range(MAX_REPLY):
        token = int(subject.context.logits().argmax())
        if model.is_end(token):
            break
        pieces.append(model.piece(token))
        subject.read((token,), position, "last")
        position += 1
    return b"".join(pieces).decode("utf-8", "replace")


class _Rereader:
    """Reads a text once and brings the cache back to its end before each question."""

    def __init__(self, subject: Subject, prompt: Sequence[int], settles: bool) -> None:
        self._subject = subject
        self._settles = settles
        self._prompt = prompt
        self._asked = False
        self._saved: _Saved | None = None

    def ready(self) -> int:
        """Make the cache hold the text and nothing else; its length."""
        subject, n = self._subject, len(self._prompt)
        plain = subject.bench.plain_cache and subject.tail is None and not self._settles
        if not self._asked:
            subject.context.clear()
            subject.read(self._prompt, 0)
            subject.settle()
            self._saved = None if plain else _Saved.of(subject)
        elif self._saved is not None:
            self._saved.restore(subject)
        elif not (plain and subject.context.remove(n)):
            subject.context.clear()
            subject.read(self._prompt, 0)
            subject.settle()
        self._asked = True
        return n


@dataclass
class _Saved:
    """A cache as it was: its state, and the exact rows of its window."""

    data: NDArray[np.uint8]
    exact: list[tuple[int, str, NDArray[np.int32], NDArray[np.float32], NDArray[np.uint8]]]
    """Layer, side, cells, their exact values and their compressed rows."""

    @classmethod
    def of(cls, subject: Subject) -> _Saved | None:
        """None if it cannot be brought back exactly."""
        if subject.tail is not None and not subject.bench.plain_cache:
            return None  # cells of a sliding window do not count from 0
        data = np.zeros(subject.context.state_size(), np.uint8)
        data = data[: subject.context.save_state(data)]
        if subject.tail is None:
            return cls(data, [])
        subject.tail.resize(subject.tail.window, subject.tail.first)  # the last batch joins the kept rows
        state = read_state(data)
        exact = []
        for layer, heads in enumerate(subject.bench.geometry.parts[0]):
            part = state.parts[0]
            for side, rows, n in (("k", part.k, heads.n_embd_k), ("v", part.v, heads.n_embd_v)):
                if layer < len(rows):
                    cells, values = subject.tail.read(layer, side, n)
                    packed = state.rows(rows[layer])[cells]
                    exact.append((layer, side, cells, values.astype(np.float32), packed))
        return cls(data, exact)

    def restore(self, subject: Subject) -> None:
        """Bring it back."""
        subject.context.clear()
        if not subject.context.load_state(self.data):
            raise EngineError("llama.cpp did not take back the state that it had saved.")
        for layer, side, cells, values, packed in self.exact:
            if len(cells) and subject.tail is not None:
                subject.tail.fill(layer, side, cells, values, packed)
