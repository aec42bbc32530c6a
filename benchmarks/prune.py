"""What is still recalled after a prune, and how long the prune takes.

    python -m benchmarks.prune [MODEL] [--texts 34] [--tokens 1500] [--json FILE]

Facts are hidden in a text, the text is read, the cache is pruned, and only then each fact is asked for: no
policy knows the questions. The same questions go to every setting. Shares are given with Wilson's 95%
interval, and relative to the share of the full cache. The built-in model mixes up most kinds of facts in a
long text, with a full cache too, so the facts are of the two kinds that it recalls best: where somebody
lives, and what somebody works as.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from app.lab.chat_shape import chat_shape
from models.geometry import read_shape
from models.header import read_header
from models.resolve import resolve
from quantize.buffers import allocate
from quantize.cache_types import parse_pair
from quantize.lab import asking
from quantize.lab.facts import KINDS, Fact, is_right
from quantize.lab.opening import Opening
from quantize.lab.pruned import fill_window
from quantize.lab.recall import wilson
from quantize.lab.setting import REFERENCE
from quantize.lab.subject import Subject, Workbench
from quantize.lab.text import built_in_text
from quantize.llama import Context, send_log_to
from quantize.native.attention_mass import Watched
from quantize.prune.observe import REQUEST, Observed, Text, extra_cells, observe
from quantize.prune.policy import POLICIES, policy
from quantize.prune.prune import plan_prune, write_pruned
from quantize.prune.rope import rope_of
from quantize.prune.selection import Request
from quantize.state import SavedState, read_state
from quantize.transcode import transcode, transcoded_size

WINDOW = 256
KEYS_ONLY = ("lagkv", "keydiff", "leverage", "knorm", "streaming")
LOOKING = ("snapkv", "expected_attention", "h2o", "tova")


@dataclass(frozen=True)
class Way:
    """One setting."""

    name: str
    policy: str
    request: Request
    pair: str = "f16"
    tail: int = 0


def ways(quick: bool) -> list[Way]:
    """Everything that is measured beside the full cache, or only what has a bound."""
    out = [Way(f"kvzip {k:.0%}", "kvzip", Request(k)) for k in (0.5, 0.25, 0.1)]
    out.append(Way("kvzip 25% tq3+256", "kvzip", Request(0.25), "tq3", WINDOW))
    if quick:
        return [*out, *(Way(f"{name} 50%", name, Request(0.5)) for name in KEYS_ONLY[:2])]
    out.append(Way("kvzip 50% whole", "kvzip", Request(0.5, per_head=False)))
    out += [Way(f"{name} 50%", name, Request(0.5)) for name in (*KEYS_ONLY, *LOOKING)]
    return out


def make_facts(rng: Random, n: int) -> list[Fact]:
    """``n`` facts about where people live and what they work as."""
    kinds = KINDS[3:5]
    facts: list[Fact] = []
    while len(facts) < n:
        fact = kinds[len(facts) % len(kinds)](rng)
        if all(fact.owner != f.owner and fact.value != f.value for f in facts):
            facts.append(fact)
    return facts


def save(context: Context) -> SavedState:
    """The state of a context."""
    data = allocate(context.state_size())
    return read_state(data[: context.save_state(data)])


@dataclass
class Bench:
    """One model with its contexts, opened once."""

    bench: Workbench
    full: Subject
    watching: Context
    watched: Watched
    small: dict[str, Subject]
    ways: list[Way]
    answers: dict[str, list[bool]] = field(default_factory=dict)
    prefill: list[float] = field(default_factory=list)
    zipped: list[float] = field(default_factory=list)

    def text(
        self, tokens: list[int], before: list[int], questions: list[tuple[list[int], Fact]], facts: list[Fact]
    ) -> None:
        """Read one text and ask for its facts in every way."""
        began = perf_counter()
        self.full.context.clear()
        self.full.read(tokens, 0)
        self.prefill.append(perf_counter() - began)
        state = save(self.full.context)
        n = len(tokens)
        self.ask("full", self.full, state.data, questions, facts, n)
        seen: dict[str, Observed | None] = {}
        for way in self.ways:
            chosen = policy(way.policy)
            began = perf_counter()
            if chosen.needs_kernel and chosen.name not in seen:
                self.watching.clear()
                assert self.watching.load_state(state.data)
                seen[chosen.name] = observe(
                    self.watching,
                    self.watched,
                    chosen.observation,
                    Text(tokens, 0, before),
                    n,
                    len(state.parts[0].k),
                )
            plan = plan_prune(
                state,
                self.bench.geometry,
                chosen,
                way.request,
                rope=rope_of(self.bench.model),
                observed=seen.get(chosen.name),
            )
            out = allocate(plan.size)
            write_pruned(state, self.bench.geometry, plan, out)
            if way.name == "kvzip 50%":
                self.zipped.append(perf_counter() - began)
            subject = self.full
            if way.pair != "f16":
                subject = self.small[way.name]
                pruned = read_state(out)
                types = parse_pair(way.pair).type_ids(self.bench.head_dims_k, self.bench.head_dims_v)
                out = allocate(transcoded_size(pruned, self.bench.geometry, *types))
                transcode(pruned, self.bench.geometry, *types, out)
                self.exact = pruned
            self.ask(way.name, subject, out, questions, facts, n)

    def ask(
        self,
        name: str,
        subject: Subject,
        data: NDArray[np.uint8],
        questions: list[tuple[list[int], Fact]],
        facts: list[Fact],
        n: int,
    ) -> None:
        """Ask each question of the cache that ``data`` holds."""
        for question, fact in questions:
            subject.context.clear()
            assert subject.context.load_state(data)
            if subject.tail is not None:
                fill_window(subject.tail, self.exact, read_state(data), self.bench.geometry)
            reply = asking._reply(self.bench.model, subject, question, n)
            self.answers.setdefault(name, []).append(is_right(reply, fact, facts))

    def table(self) -> str:
        """Everything so far."""
        full = self.answers["full"]
        lines = [
            f"{len(full)} questions; prefill {median(self.prefill):.2f} s, "
            f"KVzip prune {median(self.zipped):.2f} s, "
            f"ratio {median(z / p for z, p in zip(self.zipped, self.prefill, strict=True)):.2f}"
        ]
        for name, right in self.answers.items():
            low, high = wilson(sum(right), len(right))
            ratio = sum(right) / max(1, sum(full))
            kept = sum(a and b for a, b in zip(right, full, strict=True)) / max(1, sum(full))
            lines.append(
                f"{name:24} {sum(right) / len(right):.3f} ({low:.2f}-{high:.2f})  of full {ratio:.3f}  "
                f"still right {kept:.3f}"
            )
        return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="builtin")
    parser.add_argument("--texts", type=int, default=34)
    parser.add_argument("--facts", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="only what has a bound")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    asking.MAX_REPLY = 24  # the answers are one short sentence
    send_log_to(lambda _level, _text: None)
    path = resolve(args.model)
    policy("kvzip")
    assert set(KEYS_ONLY) | set(LOOKING) | {"kvzip"} == set(POLICIES)
    with Workbench(
        Opening(str(path), read_shape(read_header(path)).geometry(), n_threads=args.threads)
    ) as bench:
        model = bench.model
        chat = chat_shape(model.metadata("tokenizer.chat_template") or "", "", "", thinks=False)
        paragraphs = [p for p in built_in_text().split("\n\n") if p.strip()]
        before = model.tokenize(chat.between) + model.tokenize(REQUEST) + model.tokenize(chat.after)
        n_ctx = args.tokens + 768
        watching_ctx = n_ctx + extra_cells(policy("kvzip").observation, Text(range(n_ctx), 0, before))
        chosen_ways = ways(args.quick)
        full = REFERENCE.open(bench, n_ctx=n_ctx, n_batch=512)
        small = {
            way.name: bench.open(
                *parse_pair(way.pair).type_ids(bench.head_dims_k, bench.head_dims_v),
                tail=way.tail,
                n_ctx=n_ctx,
                n_batch=512,
            )
            for way in chosen_ways
            if way.pair != "f16"
        }
        watching = REFERENCE.open(bench, n_ctx=watching_ctx, n_batch=512).context
        watched = Watched.newest()
        assert watched is not None
        run = Bench(bench, full, watching, watched, small, chosen_ways)
        for index in range(args.texts):
            rng = Random(f"prune {index}")
            facts = make_facts(rng, args.facts)
            parts: list[str] = []
            room = (
                args.tokens
                - sum(len(model.tokenize(f.statement)) for f in facts)
                - len(model.tokenize(chat.before))
            )
            for i in count(index * len(paragraphs) // args.texts):
                part = paragraphs[i % len(paragraphs)]
                room -= len(model.tokenize(part, parse_special=False)) + 1
                if room < 0 and parts:
                    break
                parts.append(part)
            for k, fact in enumerate(facts):
                parts.insert(round((k + rng.random()) / len(facts) * (len(parts) - k)) + k, fact.statement)
            tokens = model.tokenize(chat.before) + model.tokenize("\n\n".join(parts), parse_special=False)
            questions = [(asking._question(model, chat, f.question), f) for f in facts]
            run.text(tokens, before, questions, facts)
            print(f"--- {index + 1} of {args.texts} texts, {len(tokens)} tokens\n{run.table()}", flush=True)
            if args.json:
                args.json.write_text(
                    json.dumps(
                        {
                            "answers": {k: "".join("01"[a] for a in v) for k, v in run.answers.items()},
                            "prefill_s": run.prefill,
                            "kvzip_s": run.zipped,
                        }
                    )
                )
    sys.exit(0)


if __name__ == "__main__":
    main()
