"""From a conversation to tokens, and how many of them the cache already holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.engine.protocol import Turn
from app.engine.template import ChatTemplate
from app.engine.vocabulary import THINKING_TAGS, Vocabulary
from quantize.llama import Model

_OPENING = re.compile(r"<think>\s*\Z")
_MARKS = ("\ue000", "\ue001", "\uf8ff", "\U000f0000", "\U00100000")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads before it writes."""

    tokens: list[int]
    opening: str
    """Text at the end of the template that belongs to the reply (``<think>``), to be shown first."""
    notes: tuple[str, ...] = ()


class PromptMaker:
    """Renders and tokenizes. Names of control tokens inside a message stay plain text."""

    def __init__(self, model: Model, vocabulary: Vocabulary, template: ChatTemplate) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._template = template
        names = {text.decode("utf-8", "replace") for text in vocabulary.control.values() if len(text) > 2}
        names -= {tag.decode() for tag in THINKING_TAGS}
        longest_first = sorted(names, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first))) if names else None

    def make(
        self, turns: Sequence[Turn], prefix: str = "", stopped: Callable[[], bool] = lambda: False
    ) -> Prompt:
        """The prompt for the reply after ``turns``, which begins with ``prefix``.

        Raises:
            EngineError: if it was stopped.
        """
        guarded, hidden, mark = self._guard(turns)
        text, notes = self._template.render(guarded, stopped)
        found = _OPENING.search(text)
        opening = found[0] if found else ""
        if opening and prefix:
            prefix = (
                prefix.removeprefix(opening)
                if prefix.startswith(opening)
                else prefix.removeprefix(opening.strip())
            )
        tokens = self._tokenize(text, hidden, mark)
        if self._vocabulary.adds_bos and tokens[:1] != [self._vocabulary.bos]:
            tokens.insert(0, self._vocabulary.bos)
        if prefix:
            tokens += self._tokenize_plain(prefix)
        return Prompt(tokens, "" if prefix else opening, notes)

    def count(self, text: str) -> int:
        """Tokens of ``text`` inside a message."""
        return len(self._tokenize_plain(text))

    def _guard(self, turns: Sequence[Turn]) -> tuple[tuple[Turn, ...], list[str], str]:
        """Replace the names of control tokens by marks, so that templates pass them through."""
        if self._control is None or not any(self._control.search(turn.content) for turn in turns):
            return tuple(turns), [], ""
        mark = next(m for m in _MARKS if all(m not in turn.content for turn in turns) or m == _MARKS[-1])
        hidden: list[str] = []

        def hide(found: re.Match[str]) -> str:
            hidden.append(found[0])
            return f"{mark}{len(hidden) - 1}{mark}"

        guarded = tuple(Turn(turn.role, self._control.sub(hide, turn.content)) for turn in turns)
        return guarded, hidden, mark

    def _tokenize(self, text: str, hidden: list[str], mark: str) -> list[int]:
        if not hidden:
            return self._model.tokenize(text)
        tokens: list[int] = []
        for i, part in enumerate(re.split(f"{mark}(\\d+){mark}", text)):
            if i % 2 and int(part) < len(hidden):
                tokens += self._model.tokenize(hidden[int(part)], parse_special=False)
            elif part:
                tokens += self._model.tokenize(part)
        return tokens

    def _tokenize_plain(self, text: str) -> list[int]:
        """Tokens of text in which only the thinking tags are control tokens."""
        tokens: list[int] = []
        for part in re.split("(</?think>)", text):
            if part:
                tokens += self._model.tokenize(part, parse_special=part in ("<think>", "</think>"))
        return tokens

    # ------------------------------------------------------------------ reuse

    def reuse(self, cached: Sequence[int], wanted: Sequence[int]) -> tuple[list[int], int]:
        """The tokens to have in the cache, and how many of them are there already.

        A model may have written its reply in other tokens than the tokenizer makes of the same text.
        Where the texts agree up to a control token, the tokens that were written are kept, so that
        a reply is not read again for that alone.
        """
        n_same = common_prefix(cached, wanted)
        if n_same in (len(cached), len(wanted)):
            return list(wanted), n_same
        n_cached, rest = self._same_text(cached, wanted, n_same)
        return ([*cached[:n_cached], *rest], n_cached) if n_cached else (list(wanted), n_same)

    def _same_text(self, cached: Sequence[int], wanted: Sequence[int], start: int) -> tuple[int, list[int]]:
        """Keep tokens of ``cached`` beyond ``start`` for their text.

        They can be kept up to a place where both have had the same text and a control token follows in
        ``wanted`` (text before it never changes how text after it is cut), or all of them if their
        text goes on in ``wanted``.

        Returns:
            the tokens of ``cached`` that can be kept and what has to follow them; (0, []) for none.
        """
        written, control = self._vocabulary.written, self._vocabulary.control
        i, j = start, start
        left = right = b""  # text since the last place where both had come equally far
        best: tuple[int, list[int]] = (0, [])
        while True:
            if left == right:
                left = right = b""
                if i > start and (j == len(wanted) or wanted[j] in control):
                    best = (i, list(wanted[j:]))
            elif not (left.startswith(right) or right.startswith(left)):
                return best
            if len(left) > len(right) and j < len(wanted):
                right += written(wanted[j])
                j += 1
            elif len(left) <= len(right) and i < len(cached):
                left += written(cached[i])
                i += 1
            elif i == len(cached) > start and right.startswith(left):
                while j < len(wanted) and wanted[j] not in control:
                    right += written(wanted[j])
                    j += 1
                rest = self._exactly(right.removeprefix(left))
                return (i, [*rest, *wanted[j:]]) if rest is not None else best
            else:
                return best

    def _exactly(self, text: bytes) -> list[int] | None:
        """Tokens with exactly this text, None if the tokenizer does not give any."""
        try:
            tokens = self._model.tokenize(text.decode(), parse_special=False) if text else []
        except UnicodeDecodeError:
            return None
        return tokens if b"".join(map(self._vocabulary.written, tokens)) == text else None


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common beginning."""
    n = min(len(a), len(b))
    low, step = 0, 4096
    while low < n:  # slices compare at C speed
        high = min(low + step, n)
        if a[low:high] == b[low:high]:
            low = high
        elif high - low == 1:
            break
        else:
            step = max(1, (high - low) // 2)
    return low
