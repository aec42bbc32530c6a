"""The examination of a model file, through llama.cpp, on text that training never saw.

``python -m models.training.examine MODEL.gguf [OTHER.gguf ...] [--json OUT] [--quick]`` prints one column per
model: bits per byte, recall, updates, guide, arithmetic, knowing its limits, loops. The texts are those of
``data/``, which stand in no corpus; ``--corpus DIR`` adds the documents that the corpus holds out.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from models.training import corpus
from models.training.chatml import Turn
from models.training.tasks import arithmetic, facts, guide, identity
from quantize.lab.facts import is_right, make_facts
from quantize.llama import Context, Model, send_log_to

SAMPLING = {"temperature": 0.7, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repeat_penalty": 1.05}
"""The settings that the program ships for the built-in models."""


def prompt(turns: list[Turn]) -> str:
    """ChatML with the head of the reply."""
    return "".join(f"<|im_start|>{t.role}\n{t.text}<|im_end|>\n" for t in turns) + "<|im_start|>assistant\n"


class Candidate:
    """A model under examination; one context, prefixes of the last prompt are kept."""

    def __init__(self, path: Path, n_threads: int = 2) -> None:
        self.model = Model(path)
        self.context = Context(self.model, n_ctx=8192, n_threads=n_threads)
        self.held: list[int] = []

    def read(self, tokens: list[int]) -> None:
        """Bring the cache to hold exactly ``tokens``, with logits of the last one."""
        same = 0
        while same < min(len(tokens) - 1, len(self.held)) and tokens[same] == self.held[same]:
            same += 1
        self.context.remove(same)
        for i in range(same, len(tokens), self.context.n_batch):
            self.context.decode(tokens[i : i + self.context.n_batch], i)
        self.held = list(tokens)

    def reply(self, turns: list[Turn], n_most: int = 90, rng: Random | None = None) -> str:
        """The reply, greedy or drawn with the shipped settings."""
        self.read(self.model.tokenize(prompt(turns)))
        out = b""
        recent: list[int] = []
        for _ in range(n_most):
            token = self._pick(rng, recent)
            if self.model.is_end(token) or len(self.held) >= self.context.n_ctx - 1:
                break
            recent.append(token)
            out += self.model.piece(token)
            self.context.decode([token], len(self.held))
            self.held.append(token)
        return out.decode("utf-8", "replace")

    def _pick(self, rng: Random | None, recent: list[int]) -> int:
        logits = self.context.logits()
        if rng is None:
            return int(logits.argmax())
        logits = logits.astype(np.float64)
        seen = np.unique(np.array(recent[-64:], np.int64))
        if len(seen):
            logits[seen] = np.where(
                logits[seen] > 0,
                logits[seen] / SAMPLING["repeat_penalty"],
                logits[seen] * SAMPLING["repeat_penalty"],
            )
        top = np.argsort(logits)[::-1][: int(SAMPLING["top_k"])]
        p = np.exp(logits[top] - logits[top[0]])
        p /= p.sum()
        keep = np.searchsorted(np.cumsum(p), SAMPLING["top_p"]) + 1
        p = p[:keep] * (p[:keep] >= SAMPLING["min_p"] * p[0])
        p = p ** (1 / SAMPLING["temperature"])
        return int(rng.choices(top[: len(p)].tolist(), p.tolist())[0])

    def bits(self, tokens: list[int], counts: list[bool], temperature: float = 1.0) -> float:
        """Bits that the tokens after the first take, of those that count."""
        with Context(self.model, n_ctx=2560, n_outputs_max=512) as context:
            total = 0.0
            for i in range(0, len(tokens), 512):
                part = tokens[i : i + 512]
                context.decode(part, i, logits="all")
                for j in range(len(part)):
                    if i + j + 1 < len(tokens) and counts[i + j + 1]:
                        row = context.logits(j).astype(np.float64) / temperature
                        total += float(np.logaddexp.reduce(row) - row[tokens[i + j + 1]])
        return total / np.log(2)


DATA = Path(__file__).with_name("data")
APART = "\n\n\n"
"""Between the excerpts of ``prose.txt``; conversations in ``chat.txt`` are apart by an empty line."""


@dataclass(frozen=True, slots=True)
class Score:
    """A figure and how many questions (or bytes) it rests on."""

    value: float
    n: int


def share(right: list[bool]) -> Score:
    """How many are right."""
    return Score(sum(right) / len(right), len(right))


def unseen_prose() -> list[str]:
    """The excerpts of ``data/prose.txt``."""
    return (DATA / "prose.txt").read_text().strip().split(APART)


def unseen_chat() -> list[str]:
    """The conversations of ``data/chat.txt``."""
    return (DATA / "chat.txt").read_text().strip().split("\n\n")


def in_chat(c: Candidate, turns: list[Turn]) -> tuple[list[int], list[bool]]:
    """The tokens of a conversation, and which are somebody's words or the end of a reply.

    The rest of the template is given by the program and never predicted: training leaves it out, too.
    """
    tokens: list[int] = []
    counts: list[bool] = []
    for turn in turns:
        head = c.model.tokenize(f"<|im_start|>{turn.role}\n")
        words = c.model.tokenize(turn.text, parse_special=False)
        end = c.model.tokenize("<|im_end|>\n")
        tokens += head + words + end
        counts += [False] * len(head) + [True] * len(words)
        counts += [turn.role == "assistant"] + [False] * (len(end) - 1)
    return tokens, counts


def bits_per_byte(
    c: Candidate, texts: list[str], talk: bool, n_bytes: int, temperature: float = 1.0
) -> Score:
    """Bits per byte of texts in their own format, each from its beginning, up to 2,048 tokens of each."""
    bits = size = 0.0
    for text in texts:
        text = text[:6000]
        if talk:
            turns = corpus.turns(text)
            tokens, counts = in_chat(c, turns)
            n = sum(len(t.text.encode()) for t in turns)
        else:
            tokens = c.model.tokenize(text, parse_special=False)
            counts = [True] * len(tokens)
            n = len(text.encode())
        bits += c.bits(tokens[:2048], counts, temperature)
        size += n * min(1.0, 2048 / len(tokens))
        if size > n_bytes:
            break
    return Score(bits / size, round(size))


INTRO = "Read this text and remember the facts in it.\n\n"


def recall(c: Candidate, books: list[str], n_tokens: int, n_texts: int) -> Score:
    """Share of eight facts in a text that are answered right, by the laboratory's facts and strict judgement."""
    rng = Random(1000 + n_tokens)
    right: list[bool] = []
    for _ in range(n_texts):
        told = make_facts(rng, 8)
        text = _text_with(rng, c, [f.statement for f in told], books, n_tokens - 60)
        head = [Turn("user", INTRO + text), Turn("assistant", "I have read the text.")]
        for fact in rng.sample(told, 8):
            right.append(is_right(c.reply([*head, Turn("user", fact.question)], 40), fact, told))
    return share(right)


def _says(answer: str, value: str) -> bool:
    """Whether the value stands in the answer as a word of its own."""
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", answer, re.IGNORECASE) is not None


def _short(text: str, n_chars: int = 400) -> list[str]:
    """The paragraphs of a text, long ones divided between sentences, so that facts can stand at any depth."""
    found = []
    for paragraph in text.split("\n\n"):
        part = ""
        for sentence in re.split(r"(?<=[.!?\"]) ", paragraph):
            part = f"{part} {sentence}".strip()
            if len(part) >= n_chars:
                found.append(part)
                part = ""
        if part:
            found.append(part)
    return found


def _text_with(rng: Random, c: Candidate, sentences: list[str], books: list[str], n_tokens: int) -> str:
    """Prose of a book with the sentences at even depths, ``n_tokens`` long for this tokenizer."""
    room = n_tokens - sum(len(c.model.tokenize(s)) for s in sentences)
    parts: list[str] = []
    while room > 0:
        for p in _short(rng.choice(books)):
            n = len(c.model.tokenize(p)) + 1
            if room <= 0:
                break
            parts.append(p)
            room -= n
    for i, s in enumerate(sentences):
        parts.insert(round((i + 0.5) / len(sentences) * (len(parts) - i)) + i, s)
    return "\n\n".join(parts)


def varied_recall(c: Candidate, books: list[str], n_tokens: int, n_texts: int, update: bool = False) -> Score:
    """The same with the kinds and phrasings of the practice; with ``update``, for facts that are corrected."""
    rng = Random(1000 + n_tokens + update)
    right: list[bool] = []
    for _ in range(n_texts):
        told = facts.distinct(rng, 8)
        sentences = [f.tell(rng) for f in told]
        which: list[int] = list(range(8))
        if update:
            which = rng.sample(range(8), 4)
            for i in which:
                told[i], sentence = told[i].change(rng)
                sentences.append(sentence)
        text = _text_with(rng, c, sentences, books, n_tokens - 120)
        head = [
            Turn("user", INTRO + text),
            Turn("assistant", "I have read the text."),
        ]
        for i in which:
            right.append(_says(c.reply([*head, Turn("user", told[i].ask(rng))], 40), told[i].value))
    return share(right)


def guide_score(c: Candidate, wrong: list[str] | None = None, fresh: bool = False) -> Score:
    """Questions about the program in phrasings that are kept for the examination.

    ``fresh``: those of somebody who did not know the phrasings for training."""
    right: list[bool] = []
    for entry in guide.entries():
        for question in entry.fresh if fresh else entry.test:
            answer = c.reply([Turn("user", question)])
            right.append(guide.is_right(entry, answer))
            if wrong is not None and not right[-1]:
                wrong.append(f"{entry.id}: {question} -> {answer}")
    return share(right)


def sums(c: Candidate, n: int = 300) -> Score:
    """Two-digit additions and subtractions whose numbers training never combined."""
    rng = Random(5)
    right: list[bool] = []
    for i in range(n):
        a, b = 0, 0
        while not arithmetic.is_held_out(a, b):
            a, b = rng.randrange(10, 100), rng.randrange(10, 100)
        if i % 2 and a < b:
            a, b = b, a
        value = a - b if i % 2 else a + b
        question = rng.choice(("What is {} {} {}?", "{} {} {} = ?", "Calculate {} {} {}.")).format(
            a, "-" if i % 2 else "+", b
        )
        words = c.reply([Turn("user", question)], 24).replace(".", " ").replace("=", " ").split()
        right.append(bool(words) and words[-1] == str(value))
    return share(right)


def modest(c: Candidate) -> Score:
    """Says that it is a small demonstration model when asked what it is or for what it cannot do."""
    return share([identity.is_modest(c.reply([Turn("user", q)])) for q in identity.TEST])


OPEN = (
    "Tell me a story about {}.", "What do you think of {}?", "Write a few sentences about {}.", "Tell me something about {}.",
    "Once there was {}", "Describe {}.", "Why do people like {}?", "I saw {} today.", "Give me advice about {}.", "Let us talk about {}.",
)  # fmt: skip
ABOUT = (
    "a fox", "the sea", "an old house", "winter", "a small village", "music", "my grandmother", "the moon", "a lost dog", "school",
    "a brave girl", "trains", "the forest", "bread", "a king", "friendship", "rain", "a garden", "books", "a long journey",
)  # fmt: skip


def loops(text: str) -> bool:
    """Whether the end of the text repeats: the last piece of 3 to 60 words stands there three times or more."""
    words = text.split()
    for n in range(1, 61):
        tail = words[-n:]
        need = max(3, 12 // n)
        if len(words) >= n * need and all(
            words[-n * (i + 1) : len(words) - n * i] == tail for i in range(need)
        ):
            return True
    return False


def no_loops(c: Candidate, n: int = 200) -> Score:
    """Share of open prompts whose reply (at most 300 tokens, shipped sampling) does not end in a loop."""
    prompts = [p.format(a) for p in OPEN for a in ABOUT]
    every = len(prompts) // n
    return share(
        [not loops(c.reply([Turn("user", p)], 300, Random(i))) for i, p in enumerate(prompts[::every][:n])]
    )


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the examination."""

    name: str
    measure: Callable[[Candidate], Score]


def lines(folder: Path | None, quick: bool, wrong: list[str]) -> list[Line]:
    """The whole examination."""
    prose, chat = unseen_prose(), unseen_chat()
    n = 4 if quick else 16
    rows = [
        Line("bits per byte, prose", lambda c: bits_per_byte(c, prose, False, 10**6)),
        Line("bits per byte, chat", lambda c: bits_per_byte(c, chat, True, 10**6)),
    ]
    if folder is not None:
        documents = [d for d in corpus.read(folder) if d.held_out]
        Random(3).shuffle(documents)
        for label, talk in (("prose", False), ("chat", True)):
            texts = [d.text for d in documents if d.is_talk == talk]
            size = 60_000 if quick else 400_000
            rows.append(
                Line(
                    f"bits per byte, {label} of the corpus",
                    lambda c, x=texts, t=talk, s=size: bits_per_byte(c, x, t, s),  # type: ignore[misc]
                )
            )
    rows += [Line(f"recall at {t}", lambda c, t=t: recall(c, prose, t, n)) for t in (500, 2000, 4000, 7500)]  # type: ignore[misc]
    return [
        *rows,
        Line("varied recall at 2000", lambda c: varied_recall(c, prose, 2000, n)),
        Line("recall after an update, 2000", lambda c: varied_recall(c, prose, 2000, 2 * n, update=True)),
        Line("guide", lambda c: guide_score(c, wrong)),
        Line("guide, asked by others", lambda c: guide_score(c, wrong, fresh=True)),
        Line("two-digit sums", lambda c: sums(c, 100 if quick else 300)),
        Line("knows its limits", modest),
        Line("no loops", lambda c: no_loops(c, 40 if quick else 200)),
    ]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer questions")
    parser.add_argument("--only", nargs="+", default=[], help="only lines whose names contain one of these")
    parser.add_argument("--wrong", type=Path, help="write the wrong answers about the program to this file")
    args = parser.parse_args()
    send_log_to(lambda _level, _text: None)
    wrong: list[str] = []
    table: dict[str, dict[str, float]] = {}
    for path in args.models:
        candidate = Candidate(path)
        column = table.setdefault(path.name, {})
        for line in lines(args.corpus, args.quick, wrong):
            if args.only and not any(word in line.name for word in args.only):
                continue
            score = line.measure(candidate)
            column[line.name] = round(score.value, 4)
            print(f"{path.name:36} {line.name:30} {score.value:.4f}  n = {score.n}", flush=True)
            if args.json:
                args.json.write_text(json.dumps(table, indent=1) + "\n")
    if args.wrong:
        args.wrong.write_text("\n".join(wrong) + "\n")
    sys.exit(0)


if __name__ == "__main__":
    main()
