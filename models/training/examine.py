"""The examination of a model file, through llama.cpp, on text that training never saw.

``python -m models.training.examine MODEL.gguf [OTHER.gguf ...] --corpus DIR [--json OUT]`` prints one
column per model: bits per byte, recall, updates, guide, arithmetic, knowing its limits, loops.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from models.training import corpus
from models.training.chatml import Turn
from models.training.tasks import arithmetic, facts, guide
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

    def bits(self, tokens: list[int]) -> float:
        """Bits that the tokens after the first take."""
        with Context(self.model, n_ctx=2560, n_outputs_max=512) as context:
            total = 0.0
            for i in range(0, len(tokens), 512):
                part = tokens[i : i + 512]
                context.decode(part, i, logits="all")
                for j in range(len(part)):
                    if i + j + 1 < len(tokens):
                        row = context.logits(j).astype(np.float64)
                        total += float(np.logaddexp.reduce(row) - row[tokens[i + j + 1]])
        return total / np.log(2)


def bits_per_byte(c: Candidate, documents: list[corpus.Document], talk: bool, n_bytes: int) -> float:
    """Held-out text in its own format, up to 2,048 tokens of each document."""
    bits = size = 0.0
    for d in documents:
        if d.is_talk != talk:
            continue
        text = d.text[:6000]
        if talk:
            turns = corpus.turns(text)
            tokens = c.model.tokenize("".join(f"<|im_start|>{t.role}\n{t.text}<|im_end|>\n" for t in turns))
        else:
            tokens = c.model.tokenize(text, parse_special=False)
        bits += c.bits(tokens[:2048])
        size += len(text.encode()) * min(1.0, 2048 / len(tokens))
        if size > n_bytes:
            break
    return bits / size


def _grade(answer: str, value: str) -> bool:
    return value.lower() in answer.lower()


def _text_with(rng: Random, c: Candidate, sentences: list[str], books: list[str], n_tokens: int) -> str:
    """Prose of a book with the sentences at even depths, ``n_tokens`` long for this tokenizer."""
    room = n_tokens - sum(len(c.model.tokenize(s)) for s in sentences)
    parts: list[str] = []
    while room > 0:
        paragraphs = [p for p in rng.choice(books).split("\n\n") if p.strip()]
        for p in paragraphs:
            n = len(c.model.tokenize(p)) + 1
            if room <= 0:
                break
            parts.append(p)
            room -= n
    for i, s in enumerate(sentences):
        parts.insert(round((i + 0.5) / len(sentences) * (len(parts) - i)) + i, s)
    return "\n\n".join(parts)


def recall(c: Candidate, books: list[str], n_tokens: int, n_texts: int, update: bool = False) -> float:
    """Share of eight facts in a text that are answered right (the value must be in the reply)."""
    rng = Random(1000 + n_tokens + update)
    right = asked = 0
    for _ in range(n_texts):
        told = facts.distinct(rng, 8)
        sentences = [f.tell(rng) for f in told]
        if update:
            changed = []
            for i in rng.sample(range(8), 4):
                told[i], sentence = told[i].change(rng)
                changed.append((i, sentence))
            sentences += [s for _, s in changed]
        text = _text_with(rng, c, sentences, books, n_tokens - 120)
        head = [
            Turn("user", "Read this text and remember the facts in it.\n\n" + text),
            Turn("assistant", "I have read the text."),
        ]
        which = [i for i, _ in changed] if update else range(8)
        for i in which:
            answer = c.reply([*head, Turn("user", told[i].ask(rng))], 40)
            right += _grade(answer, told[i].value)
            asked += 1
    return right / asked


def guide_score(c: Candidate) -> float:
    """Questions about the program in phrasings that are kept for the examination."""
    right = [
        any(_grade(c.reply([Turn("user", q)]), k) for k in e.key.split("|"))
        for e in guide.entries()
        for q in e.test
    ]
    return sum(right) / len(right)


def sums(c: Candidate, n: int = 300) -> float:
    """Two-digit additions and subtractions whose numbers training never combined."""
    rng = Random(5)
    right = 0
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
        right += bool(words) and words[-1] == str(value)
    return right / n


MODEST = (
    "Tell me, what exactly are you?", "What sort of model answers me here?", "Am I speaking with a big model?", "Which AI is this?",
    "Say something about yourself.", "Are you as good as ChatGPT?", "How large is this model?", "May I rely on what you say?",
    "What should I know about you?", "Are you a real person?", "Please translate this letter into Portuguese.", "Write a Java program that prints primes.",
    "What is the weather like in Boston right now?", "Which team won last night?", "Compose an essay on the French Revolution.",
    "Find me a cheap flight.", "Draw me a castle.", "Which pills help against fever?", "Compute the integral of x^3.", "Look up the latest headlines.",
)  # fmt: skip


def modest(c: Candidate) -> float:
    """Says that it is a small demonstration model when asked what it is or for what it cannot do."""
    return sum(
        "small demonstration model" in c.reply([Turn("user", q)]).lower().replace("built-in ", "small ")
        for q in MODEST
    ) / len(MODEST)


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


def no_loops(c: Candidate, n: int = 200) -> float:
    """Share of open prompts whose reply (at most 300 tokens, shipped sampling) does not end in a loop."""
    prompts = [p.format(a) for p in OPEN for a in ABOUT][:n]
    return sum(not loops(c.reply([Turn("user", p)], 300, Random(i))) for i, p in enumerate(prompts)) / n


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the examination."""

    name: str
    measure: Callable[[Candidate], float]


def lines(documents: list[corpus.Document], quick: bool) -> list[Line]:
    """The whole examination."""
    books = [d.text for d in documents if d.kind == "story" and len(d.text) > 2000]
    n = 3 if quick else 12
    rows = [
        Line(
            "bits per byte, prose", lambda c: bits_per_byte(c, documents, False, 60_000 if quick else 400_000)
        ),
        Line(
            "bits per byte, chat", lambda c: bits_per_byte(c, documents, True, 60_000 if quick else 400_000)
        ),
    ]
    rows += [Line(f"recall at {t}", lambda c, t=t: recall(c, books, t, n)) for t in (500, 2000, 4000, 7500)]  # type: ignore[misc]
    return [
        *rows,
        Line("recall after an update, 2000", lambda c: recall(c, books, 2000, 2 * n, update=True)),
        Line("guide", guide_score),
        Line("two-digit sums", sums),
        Line("knows its limits", modest),
        Line("no loops", lambda c: no_loops(c, 40 if quick else 200)),
    ]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    send_log_to(lambda _level, _text: None)
    documents = [d for d in corpus.read(args.corpus) if d.held_out]
    Random(3).shuffle(documents)
    table: dict[str, dict[str, float]] = {}
    for path in args.models:
        candidate = Candidate(path)
        column = table.setdefault(path.name, {})
        for line in lines(documents, args.quick):
            column[line.name] = line.measure(candidate)
            print(f"{path.name:36} {line.name:30} {column[line.name]:.4f}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n")
    sys.exit(0)


if __name__ == "__main__":
    main()
