"""What of a text is still there after a prune, and how long the prune takes.

    python -m benchmarks.prune [MODEL] [--texts 6] [--tokens 1500] [--quick] [--json FILE]

A text is read and the cache is pruned. Then passages of the text, which no policy knows beforehand, are begun
again after a request to repeat it, and every next token counts as one question: does the model still
expect it most? Only tokens count that an empty cache does not give: what has to come from the cache. Shares
have Wilson's 95% interval. Facts that are asked for in words are what ``stretch eval --prune`` measures; the
built-in model recalls too few of them in a long text, with a full cache too, to compare.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
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
from quantize.prune.selection import Request
from quantize.rope import rope_of
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


def save(context: Context) -> SavedState:
    """The state of a context."""
    data = allocate(context.state_size())
    return read_state(data[: context.save_state(data)])


PASSAGE = 40
"""Tokens of a passage."""
BEGUN = 8
"""Of them are given before anything is asked."""
PASSAGES = 8


def expected(subject: Subject, request: list[int], passage: list[int], n: int) -> NDArray[np.int64]:
    """The most likely token after each of the passage's, behind ``n`` tokens and the request to repeat."""
    subject.read(request, n)
    subject.read(passage, n + len(request), "all")
    return subject.logits(len(passage)).argmax(axis=1)


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
    exact: SavedState | None = None

    def text(self, tokens: list[int], request: list[int], starts: list[int]) -> None:
        """Read one text and ask for passages of it in every way."""
        passages = [tokens[s : s + PASSAGE] for s in starts]
        began = perf_counter()
        self.full.context.clear()
        self.full.read(tokens, 0)
        self.prefill.append(perf_counter() - began)
        state = save(self.full.context)
        n = len(tokens)
        wanted = [np.array(p[BEGUN:]) for p in passages]
        known = self.replies(self.full, state.data, request, passages, n)
        blank = self.replies(self.full, None, request, passages, 0)
        asked = [b != w for b, w in zip(blank, wanted, strict=True)]
        self.note("full", known, wanted, asked)
        seen: dict[str, Observed | None] = {}
        for way in self.ways:
            chosen = policy(way.policy)
            began = perf_counter()
            if chosen.needs_kernel and chosen.name not in seen:
                self.watching.clear()
                assert self.watching.load_state(state.data)
                text, n_layer = Text(tokens, 0, request), len(state.parts[0].k)
                seen[chosen.name] = observe(self.watching, self.watched, chosen.observation, text, n, n_layer)
            rope, observed = rope_of(self.bench.model), seen.get(chosen.name)
            plan = plan_prune(state, self.bench.geometry, chosen, way.request, rope=rope, observed=observed)
            out = allocate(plan.size)
            write_pruned(state, self.bench.geometry, plan, out)
            if way.name == "kvzip 50%":
                self.zipped.append(perf_counter() - began)
            subject = self.full
            if way.pair != "f16":
                subject = self.small[way.name]
                self.exact = read_state(out)
                types = parse_pair(way.pair).type_ids(self.bench.head_dims_k, self.bench.head_dims_v)
                out = allocate(transcoded_size(self.exact, self.bench.geometry, *types))
                transcode(self.exact, self.bench.geometry, *types, out)
            replies = self.replies(subject, out, request, passages, n)
            self.note(way.name, replies, wanted, asked)

    def note(
        self,
        name: str,
        replies: list[NDArray[np.int64]],
        wanted: list[NDArray[np.int64]],
        asked: list[NDArray[np.bool_]],
    ) -> None:
        """Which of the asked tokens were right."""
        for reply, right, which in zip(replies, wanted, asked, strict=True):
            self.answers.setdefault(name, []).extend((reply == right)[which].tolist())

    def replies(
        self,
        subject: Subject,
        data: NDArray[np.uint8] | None,
        request: list[int],
        passages: list[list[int]],
        n: int,
    ) -> list[NDArray[np.int64]]:
        """What the model expects after each token of each passage beyond the first ones."""
        out = []
        for passage in passages:
            subject.context.clear()
            if data is not None:
                assert subject.context.load_state(data)
                if subject.tail is not None and self.exact is not None:
                    fill_window(subject.tail, self.exact, read_state(data), self.bench.geometry)
            out.append(expected(subject, request, passage, n)[BEGUN - 1 : -1])
        return out

    def table(self) -> str:
        """Everything so far."""
        ratio = median(z / p for z, p in zip(self.zipped, self.prefill, strict=True))
        n = len(next(iter(self.answers.values())))
        lines = [
            f"{n} questions; prefill {median(self.prefill):.2f} s, "
            f"KVzip prune {median(self.zipped):.2f} s, ratio {ratio:.2f}"
        ]
        for name, right in self.answers.items():
            low, high = wilson(sum(right), len(right))
            full = self.answers["full"]
            ratio = sum(right) / max(1, sum(full))
            held = sum(a and b for a, b in zip(right, full, strict=True)) / max(1, sum(full))
            lines.append(
                f"{name:24} {sum(right) / max(1, len(right)):.3f} ({low:.3f}-{high:.3f})  "
                f"of full {ratio:.3f}  of what full had right {held:.3f}"
            )
        return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="builtin")
    parser.add_argument("--texts", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="only what has a bound")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    send_log_to(lambda _level, _text: None)
    path = resolve(args.model)
    policy("kvzip")
    assert set(KEYS_ONLY) | set(LOOKING) | {"kvzip"} == set(POLICIES)
    with Workbench(
        Opening(str(path), read_shape(read_header(path)).geometry(), n_threads=args.threads)
    ) as bench:
        model = bench.model
        chat = chat_shape(model.metadata("tokenizer.chat_template") or "", "", "", thinks=False)
        before = model.tokenize(chat.between) + model.tokenize(REQUEST) + model.tokenize(chat.after)
        n_ctx = args.tokens + 768
        watching_ctx = n_ctx + extra_cells(policy("kvzip").observation, Text(range(n_ctx), 0, before))
        chosen_ways = ways(args.quick)
        full = REFERENCE.open(bench, n_ctx=n_ctx, n_batch=512, n_outputs=PASSAGE)
        small = {
            way.name: bench.open(
                *parse_pair(way.pair).type_ids(bench.head_dims_k, bench.head_dims_v),
                tail=way.tail,
                n_ctx=n_ctx,
                n_batch=512,
                n_outputs=PASSAGE,
            )
            for way in chosen_ways
            if way.pair != "f16"
        }
        watching = REFERENCE.open(bench, n_ctx=watching_ctx, n_batch=512).context
        watched = Watched.newest()
        assert watched is not None
        run = Bench(bench, full, watching, watched, small, chosen_ways)
        words = model.tokenize(built_in_text(), parse_special=False)
        head = model.tokenize(chat.before)
        step = max(1, (len(words) - args.tokens) // args.texts)
        for index in range(args.texts):
            rng = Random(f"prune {index}")
            tokens = head + words[index * step : index * step + args.tokens - len(head)]
            places = range(len(head), len(tokens) - PASSAGE - 64, PASSAGE)
            run.text(tokens, before, rng.sample(places, PASSAGES))
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
