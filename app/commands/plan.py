"""``stretch plan``: how far a model's context can stretch on this machine, without loading it.

A model on the hub (``hf:owner/repo/file.gguf``) is planned from its header, before it is downloaded.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.commands.chat import window
from app.lengths import parse_length
from quantize.cache_types import AUTO_TAIL
from quantize.errors import ModelNotFoundError, UsageError

if TYPE_CHECKING:
    from models.header import Header
    from models.hub.names import HubName
    from models.memory import Memory
    from models.plan import MemoryPlan, Planner, StretchRow

HELP = "Say how far a model's context can stretch here, without loading it."

DEFAULT_N_CTX = 8192
"""Length for which the size of the cache is shown unless another one is asked for."""

_BAR_WIDTH = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument(
        "model",
        nargs="?",
        default="builtin",
        help="a path, a name, or hf:owner/repo[/file.gguf] on the hub (the built-in model by default)",
    )
    parser.add_argument(
        "--ram", metavar="SIZE", help="plan for a machine with this much memory to spare, for example 8G"
    )
    parser.add_argument(
        "--ctx",
        metavar="N",
        help=f"length of the context in tokens (default: {DEFAULT_N_CTX:,} or the trained length)",
    )
    parser.add_argument(
        "--tail",
        metavar="N",
        type=window,
        default=AUTO_TAIL,
        help="newest tokens that stay exact beside compressed types: 256, off, auto (default)",
    )
    parser.add_argument(
        "--no-repack", action="store_true", help="without the faster second copy of some weights"
    )
    parser.add_argument(
        "--header-only",
        action="store_true",
        help="do not ask the engine's allocator, only compute from the header",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the table.

    Raises:
        UsageError: if a size or a length makes no sense.
        ModelNotFoundError: if there is no such model.
        ModelFileError: if the file cannot be read, or the engine does not take it.
        HubError: if the hub does not give the header.
    """
    from app import paths
    from models.resolve import display_name, resolve
    from models.splits import read_model

    ram = parse_size(args.ram) if args.ram is not None else None
    n_ctx = parse_length(args.ctx) if args.ctx is not None else 0
    budget = _budget(ram)
    try:
        path = resolve(args.model, paths.models_dir())
    except ModelNotFoundError:
        from app.fetch.wanted import hub_name

        name = hub_name(args.model)
        if name is None:
            raise
        return _on_hub(name, args, n_ctx, budget)
    header = read_model(path)
    planner = _planner(path, header, args)
    return _print(args, n_ctx, budget, planner, header, display_name(path), str(path), path)


def _print(
    args: argparse.Namespace,
    n_ctx: int,
    budget: Memory,
    planner: Planner,
    header: Header,
    name: str,
    place: str,
    path: Path | None = None,
) -> int:
    n_ctx = n_ctx or min(DEFAULT_N_CTX, planner.shape.n_ctx_train or DEFAULT_N_CTX)
    from quantize.native import attention

    tail = 0 if args.tail == AUTO_TAIL and not attention.expected() else args.tail
    from app import paths
    from models.model_losses import losses_of

    kernel = "own" if attention.expected() else "stock"
    losses = losses_of(header, path, paths.calibrations_dir(), kernel=kernel)
    table = planner.stretch_table(n_ctx=n_ctx, budget=budget.available, tail=tail)
    rows = list(losses.with_losses(table))
    report = _Report(name, place, header, planner, n_ctx, budget, rows, exact=not args.header_only)
    if args.json:
        print(json.dumps(report.data(), ensure_ascii=False))
    else:
        from app.lab.table import has_colour

        print("\n".join(report.lines(shutil.get_terminal_size((100, 24)).columns, colour=has_colour())))
    return 0


def parse_size(text: str) -> int:
    """``8G``, ``7.5 GiB``, ``512M`` or plain bytes.

    Raises:
        UsageError: if it is none of these, or nothing.
    """
    from models.memory import read_size

    size = read_size(text)
    if size is None:
        raise UsageError(f"{text!r} is no size of a memory.", "Write for example 8G, 512M or 7.5GiB.")
    return size


def _planner(path: Path, header: Header, args: argparse.Namespace) -> Planner:
    """The engine's figures, remembered from the last time if the file is the same."""
    if args.header_only:
        from models.plan import Planner

        return Planner(header, repack=not args.no_repack)
    from app import paths
    from models.exact import exact_planner

    return exact_planner(
        path, header, repack=not args.no_repack, memory_of_results=paths.cache_dir() / "plans"
    )


def _on_hub(name: HubName, args: argparse.Namespace, n_ctx: int, budget: Memory) -> int:
    """The plan of a model on the hub; of all its quantizations if none was named."""
    from app import paths
    from app.fetch.quants import data_of, lines_of
    from app.fetch.wanted import look_up
    from app.lab.status_line import StatusLine
    from app.lab.table import has_colour
    from models.hub.client import Hub
    from models.hub.prospects import Prospects
    from models.plan import Planner

    line = StatusLine()
    with Prospects(Hub(), lambda: budget.available) as prospects:
        try:
            wanted = look_up(prospects, name, line.show)
            line.clear()
            if wanted.all and args.json:
                for p in wanted.all:
                    data = data_of(p, best=p.model == wanted.model, repo=wanted.repo.name)
                    print(json.dumps(data, ensure_ascii=False))
                return 0
            if wanted.all:
                print("\n".join(lines_of(wanted, colour=has_colour())))
                return 0
            line.show(f"asking the engine about {wanted.model.path} ...")
            found = prospects.header(wanted.repo, wanted.model)
            planner: Planner = Planner(found.header, repack=not args.no_repack)
            if not args.header_only:
                memory_of_results = paths.cache_dir() / "plans"
                planner = prospects.planner(
                    wanted.repo, wanted.model, repack=not args.no_repack, memory=memory_of_results
                )
        finally:
            line.clear()
    stem = wanted.model.path.rsplit("/", 1)[-1].removesuffix(".gguf")
    return _print(args, n_ctx, budget, planner, found.header, stem, f"hf:{wanted.name}")


def _budget(ram: int | None) -> Memory:
    """What may be taken: the size that was given, or what is available now."""
    from models.memory import Memory, memory

    return memory() if ram is None else Memory(ram, ram, "given")


class _Report:
    """The plan, for people and for programs."""

    def __init__(
        self,
        name: str,
        place: str,
        header: Header,
        planner: Planner,
        n_ctx: int,
        budget: Memory,
        rows: list[StretchRow],
        *,
        exact: bool,
    ) -> None:
        from quantize.cache_types import CachePair, cache_type

        self.name, self.place, self.header = name, place, header
        self.planner, self.n_ctx = planner, n_ctx
        self.budget, self.rows, self.exact = budget, rows, exact
        plans = [
            planner.plan(CachePair(cache_type(r.type_k), cache_type(r.type_v)), n_ctx, tail=r.tail)
            if not r.refused
            else None
            for r in rows
        ]
        self.plans: list[MemoryPlan | None] = plans
        self.first = next((p for p in plans if p is not None), None)

    def data(self) -> dict[str, Any]:
        """For ``--json``."""
        shape, first = self.planner.shape, self.first
        return {
            "model": self.name,
            "path": self.place,
            "architecture": shape.architecture,
            "file_bytes": self.header.file_bytes,
            "n_layer": len(shape.layers),
            "n_ctx_train": shape.n_ctx_train,
            "n_ctx": self.n_ctx,
            "ram_bytes": self.budget.available,
            "ram_source": self.budget.source,
            "weights_mapped": self.planner.weights.mapped,
            "weights_repacked": self.planner.weights.repacked,
            "compute_bytes": first.compute if first else 0,
            "overhead_bytes": first.overhead if first else 0,
            "exact": self.exact,
            "notes": [*self.planner.notes, *(first.unknown if first else ())],
            "rows": [
                {
                    "type_k": row.type_k,
                    "type_v": row.type_v,
                    "tail": row.tail,
                    "bytes_per_token": _whole(row.bytes_per_token),
                    "kv_bytes": row.kv_bytes,
                    "total_bytes": plan.total if plan else 0,
                    "max_ctx": row.max_ctx,
                    "max_ctx_memory": row.max_ctx_memory,
                    "limit": row.limit,
                    "loss": row.loss.data(),
                    "refused": row.refused,
                }
                for row, plan in zip(self.rows, self.plans, strict=True)
            ],
        }

    def lines(self, width: int, *, colour: bool) -> list[str]:
        """For a terminal of ``width`` columns."""
        from app.engine.words import label, size
        from app.plain_text import one_line

        bold, dim, mark, plain = ("\x1b[1m", "\x1b[2m", "\x1b[36m", "\x1b[0m") if colour else ("",) * 4
        shape = self.planner.shape
        trained = (
            f"trained for {shape.n_ctx_train:,} tokens" if shape.n_ctx_train else "trained length unknown"
        )
        facts = f"{one_line(shape.architecture, 40)}, {size(self.header.file_bytes)}, {trained}"
        out = [f"{bold}{one_line(self.name, 60)}{plain}  {facts}", *self._memory_lines()]
        cells = [("cache", "per token", f"at {self.n_ctx:,}", "whole program", "reaches", "loss", "", "")]
        longest = max((row.max_ctx for row in self.rows), default=0)
        for row, plan in zip(self.rows, self.plans, strict=True):
            name = label(row.type_k, row.type_v, row.tail)
            if row.refused or plan is None:
                cells.append((name, "", "", "", "", "", "", row.refused))
                continue
            cells.append(
                (
                    name,
                    size(row.bytes_per_token) if row.bytes_per_token else "constant",
                    size(row.kv_bytes),
                    size(plan.total),
                    f"{row.max_ctx:,}" if row.max_ctx else "too large",
                    _loss(row),
                    _bar(row.max_ctx, longest),
                    self._limit(row),
                )
            )
        widths = [max(len(c[i]) for c in cells) for i in range(7)]
        shown = max((len(c[7]) for c in cells if c[1]), default=0)
        bars = sum(widths) + 2 * 7 + shown <= width
        out.append("")
        for i, cell in enumerate(cells):
            left = f"{cell[0]:<{widths[0]}}"
            if cell[7] and not cell[1]:
                out.append(f"{left}  {dim}{one_line(cell[7])}{plain}")
                continue
            figures = "".join(f"  {cell[n]:>{widths[n]}}" for n in range(1, 5))
            figures += f"  {cell[5]:<{widths[5]}}"
            bar = f"  {mark}{cell[6]:<{widths[6]}}{plain}" if bars else ""
            text = f"{left}{figures}{bar}  {dim}{cell[7]}{plain}"
            out.append(f"{bold}{left}{figures}{plain}" if i == 0 else text.rstrip() if not colour else text)
        notes = (*self.planner.notes, *(self.first.unknown if self.first else ()))
        if notes:
            out += ["", *(one_line(note) for note in notes)]
        return out

    def _memory_lines(self) -> list[str]:
        """What there is and what the model takes before any cache."""
        from app.engine.words import size

        sources = {"given": "given", "cgroup": "available in this container", "metal": "available to the GPU"}
        have = f"{size(self.budget.available)} of memory {sources.get(self.budget.source, 'available now')}"
        if self.first is None:
            return [have]
        parts = [f"weights {size(self.first.weights_mapped)}"]
        if self.first.weights_repacked:
            parts.append(f"their faster copy {size(self.first.weights_repacked)}")
        parts += [f"computing {size(self.first.compute)}", f"the program itself {size(self.first.overhead)}"]
        return [f"{have}; beside the cache: {', '.join(parts)}"]

    @staticmethod
    def _limit(row: StretchRow) -> str:
        if row.limit == "memory":
            return "memory"
        beyond = "" if row.max_ctx_memory <= row.max_ctx else f", memory for {row.max_ctx_memory:,}"
        return f"trained length{beyond}"


def _loss(row: StretchRow) -> str:
    """``small loss, KLD 0.012``; ``small loss, KLD about 0.02`` while it is estimated."""
    from quantize.lab.loss import kld_words

    loss = row.loss
    if not loss.known or (row.type_k, row.type_v) == ("f16", "f16"):
        return "none" if loss.known else ""
    about = "" if loss.measured else "about "
    return f"{loss.verdict.words}, KLD {about}{kld_words(loss.kld)}"


def _bar(value: int, longest: int) -> str:
    """A bar of at most ``_BAR_WIDTH`` cells."""
    eighths = round(_BAR_WIDTH * 8 * value / longest) if longest else 0
    full, rest = divmod(eighths, 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def _whole(value: float) -> int | float:
    """An int where nothing is lost."""
    return int(value) if value == int(value) else value
