"""What is remembered after a prune, the memory that it leaves, and how long it takes.

    python -m benchmarks.prune [MODEL] [--questions 208] [--tokens 2000] [--quick | --ways LIST] [--json FILE]

The same texts and questions as those of ``stretch eval --prune LIST --questions N --recall-ctx TOKENS``:
facts in words, asked for after the prune, so that no policy knows the questions. A text is read once for all
ways, and once more for all policies that look at the same attention, which makes many ways cheap. Shares have
Wilson's 95% interval. ``python -m benchmarks.prune_pictures FILE`` draws the JSON file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

from app.lab.chat_shape import chat_shape
from models.geometry import read_shape
from models.header import read_header
from models.resolve import resolve
from quantize import ggml
from quantize.buffers import allocate
from quantize.geometry import Geometry
from quantize.lab.asking import MAX_REPLY, N_BATCH, prompt_tokens, question_tokens, reply_to
from quantize.lab.facts import is_right
from quantize.lab.opening import Opening
from quantize.lab.pruned import PrunedSetting, fill_window
from quantize.lab.recall import HiddenFacts, RecallTask, hide_facts, wilson
from quantize.lab.setting import REFERENCE, Setting
from quantize.lab.subject import Subject, Workbench
from quantize.lab.text import built_in_text
from quantize.llama import Context, send_log_to
from quantize.model_ropes import ropes_of
from quantize.native.attention_mass import Watched
from quantize.prune.names import POLICIES
from quantize.prune.observe import REQUEST, Observed, Text, extra_cells, observe
from quantize.prune.policy import Observation, policy
from quantize.prune.prune import plan_prune, write_pruned
from quantize.prune.selection import Request
from quantize.state import SavedState, read_state
from quantize.transcode import transcode, transcoded_size

BOUNDS = "kvzip:50,kvzip:25,kvzip:10,kvzip:25@tq3+256,lagkv:50,keydiff:50,leverage:50,knorm:50"
"""What ``--quick`` measures."""
SHARES = (50, 25, 10, 5)


def every_way() -> str:
    """All policies at several shares, whole tokens, and a prune with small types."""
    ways = [f"{name}:{share}" for name in POLICIES for share in SHARES]
    ways += [f"kvzip:{share}:whole" for share in SHARES]
    return ",".join([*ways, "kvzip:25@tq3+256", "kvzip:15@tq3+256"])


def save(context: Context) -> SavedState:
    """The state of a context."""
    data = allocate(context.state_size())
    return read_state(data[: context.save_state(data)])


def exact_row_bytes(geometry: Geometry, context: Context) -> int:
    """Of one exact token, in all layers: f16 values, the bytes the cache made of them, a cell's number."""
    k, v = ggml.row_format(context.type_k), ggml.row_format(context.type_v)
    sides = [(f, n) for h in geometry.parts[0] for f, n in ((k, h.n_embd_k), (v, h.n_embd_v))]
    return sum(2 * n + f.row_size(n) + 4 for f, n in sides)


@dataclass
class Watching:
    """A context that reads again, and what it saw of the present text."""

    context: Context
    watched: Watched
    before: list[int]
    """Tokens that ask for the repetition."""
    seen: dict[Observation, Observed] = field(default_factory=dict)

    def look(self, wanted: Observation, state: SavedState, tokens: list[int]) -> Observed:
        """What ``wanted`` asks for, read again unless that was done already."""
        if wanted not in self.seen:
            self.context.clear()
            assert self.context.load_state(state.data)
            text, n_layer = Text(tokens, 0, self.before), len(state.parts[0].k)
            self.seen[wanted] = observe(self.context, self.watched, wanted, text, state.n_cells, n_layer)
        return self.seen[wanted]


@dataclass
class Bench:
    """One model with its contexts, opened once."""

    bench: Workbench
    task: RecallTask
    ways: Sequence[PrunedSetting]
    full: Subject
    watching: Watching
    small: dict[str, Subject]
    """Caches of other types, by the label of the way."""
    clock: Callable[[], float] = perf_counter
    answers: dict[str, list[bool]] = field(default_factory=dict)
    memory: dict[str, list[int]] = field(default_factory=dict)
    """Bytes of each text's cells, and of the window of exact tokens."""
    n_cells: list[int] = field(default_factory=list)
    prefill: list[float] = field(default_factory=list)
    zipped: list[float] = field(default_factory=list)

    def text(self, hidden: HiddenFacts) -> None:
        """Read one text and ask for its facts in every way."""
        model, chat = self.bench.model, self.task.chat
        tokens = prompt_tokens(model, chat, hidden)
        questions = [question_tokens(model, chat, fact.question) for fact in hidden.facts]
        self.full.context.clear()
        began = self.clock()
        self.full.read(tokens, 0)
        self.prefill.append(self.clock() - began)
        began = self.clock()
        state = save(self.full.context)
        saved = self.clock() - began
        self.watching.seen.clear()
        self.n_cells.append(len(tokens))
        self.ask("full", self.full, hidden, questions, state, None, len(tokens))
        timed = False
        for way in self.ways:
            chosen = policy(way.policy)
            began = self.clock()
            observed = self.watching.look(chosen.observation, state, tokens) if chosen.needs_kernel else None
            request = Request(way.keep, per_head=not way.whole)
            ropes = ropes_of(self.bench.model, self.bench.geometry, self.full.context.n_ctx)[0]
            plan = plan_prune(state, self.bench.geometry, chosen, request, ropes=ropes, observed=observed)
            out = allocate(plan.size)
            write_pruned(state, self.bench.geometry, plan, out)
            if chosen.name == "kvzip" and not timed:  # the first one reads again
                self.zipped.append(saved + self.clock() - began)
                timed = True
            exact = pruned = read_state(out)
            subject = self.small.get(way.label, self.full)
            if subject is not self.full:
                types = subject.context.type_k, subject.context.type_v
                out = allocate(transcoded_size(exact, self.bench.geometry, *types))
                transcode(exact, self.bench.geometry, *types, out)
                pruned = read_state(out)
            self.ask(way.label, subject, hidden, questions, pruned, exact, len(tokens))

    def ask(
        self,
        label: str,
        subject: Subject,
        hidden: HiddenFacts,
        questions: list[list[int]],
        state: SavedState,
        exact: SavedState | None,
        n: int,
    ) -> None:
        """Every question of one text, each behind the state and nothing else."""
        window = 0
        for at, index in enumerate(hidden.order):
            if subject.tail is not None or at == 0 or not subject.context.remove(n):
                subject.context.clear()
                assert subject.context.load_state(state.data)
                if subject.tail is not None and exact is not None:
                    fill_window(subject.tail, exact, state, self.bench.geometry)
            fact = hidden.facts[index]
            reply = reply_to(self.bench.model, subject, questions[index], n)
            self.answers.setdefault(label, []).append(is_right(reply, fact, hidden.facts))
        if subject.tail is not None and exact is not None:
            window = subject.tail.window * exact_row_bytes(self.bench.geometry, subject.context)
        cells = sum(r.size for p in state.parts for r in (*p.k, *p.v))
        self.memory.setdefault(label, []).append(cells + window)

    def data(self) -> dict[str, object]:
        """Everything so far, for JSON."""
        return {
            "tokens": self.task.n_tokens,
            "facts": self.task.n_facts,
            "answers": {k: "".join("01"[a] for a in v) for k, v in self.answers.items()},
            "memory": self.memory,
            "cells": self.n_cells,
            "prefill_s": self.prefill,
            "kvzip_s": self.zipped,
        }

    def table(self) -> str:
        """Everything so far."""
        full = self.answers["full"]
        lines = [f"{len(full)} questions; cells {median(self.n_cells):,.0f}"]
        if self.zipped:
            ratio = median(z / p for z, p in zip(self.zipped, self.prefill, strict=True))
            lines[0] += (
                f"; prefill {median(self.prefill):.2f} s, KVzip prune {median(self.zipped):.2f} s, "
                f"ratio {ratio:.2f}"
            )
        lines.append(f"{'way':24}  right        of all  95%          of full  memory")
        for label, right in self.answers.items():
            low, high = wilson(sum(right), len(right))
            lines.append(
                f"{label:24} {sum(right):4} of {len(right):3}  {sum(right) / len(right):7.3f}  "
                f"{low:.3f}-{high:.3f}  {sum(right) / max(1, sum(full)):7.3f}  "
                f"1/{sum(self.memory['full']) / sum(self.memory[label]):.1f}"
            )
        return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="builtin")
    parser.add_argument("--questions", type=int, default=208)
    parser.add_argument("--facts", type=int, default=8, help="facts of one text")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-repack", action="store_true", help="no second, faster copy of the weights")
    parser.add_argument("--quick", action="store_true", help="only what has a bound")
    parser.add_argument("--ways", help="a list as that of stretch eval --prune")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    send_log_to(lambda _level, _text: None)
    names = (args.ways or (BOUNDS if args.quick else every_way())).split(",")
    ways = [way for way in map(PrunedSetting.parse, names) if isinstance(way, PrunedSetting)]
    path = resolve(args.model)
    with Workbench(
        Opening(
            str(path),
            read_shape(read_header(path)).geometry(),
            n_threads=args.threads,
            repack=not args.no_repack,
        )
    ) as bench:
        model = bench.model
        chat = chat_shape(model.metadata("tokenizer.chat_template") or "", "", "", thinks=False)
        task = RecallTask(args.tokens, args.questions, args.facts, chat)
        texts = list(hide_facts(task, built_in_text(), lambda t: len(model.tokenize(t, parse_special=False))))
        longest = max(len(prompt_tokens(model, chat, t)) for t in texts)
        n_ctx = longest + 64 + MAX_REPLY
        before = model.tokenize(chat.between) + model.tokenize(REQUEST) + model.tokenize(chat.after)
        full = REFERENCE.open(bench, n_ctx=n_ctx, n_batch=N_BATCH)
        small = {
            way.label: Setting(way.pair, way.tail).open(bench, n_ctx=n_ctx, n_batch=N_BATCH)
            for way in ways
            if (way.pair, way.tail) != (REFERENCE.pair, REFERENCE.tail)
        }
        extra = extra_cells(policy("kvzip").observation, Text(range(longest), 0, before))
        again = REFERENCE.open(bench, n_ctx=longest + extra, n_batch=N_BATCH).context
        watched = Watched.newest()
        assert watched is not None
        # One thread's processor time is its own, whatever else runs; several also wait for each other.
        clock = process_time if args.threads == 1 else perf_counter
        run = Bench(bench, task, ways, full, Watching(again, watched, before), small, clock)
        for index, hidden in enumerate(texts):
            run.text(hidden)
            print(f"--- {index + 1} of {len(texts)} texts\n{run.table()}", flush=True)
            if args.json:
                args.json.write_text(json.dumps(run.data()) + "\n")


if __name__ == "__main__":
    main()
