"""What ``stretch eval`` and ``stretch bench`` have in common: options, the model, its sizes."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantize.errors import OutOfMemoryError, UsageError

if TYPE_CHECKING:
    from models.header import Header
    from models.plan import Planner
    from quantize.lab.candidate import Candidate
    from quantize.lab.methods import Method
    from quantize.lab.opening import Opening
    from quantize.lab.setting import Setting

ROOM = 0.85
"""Share of the available memory that a measurement may take."""


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The model and the settings."""
    parser.add_argument("model", metavar="MODEL", nargs="?", default="builtin", help="a GGUF file or a name")
    parser.add_argument(
        "--kv",
        metavar="LIST",
        type=setting_list,
        help="settings, separated by commas: q8_0,q8_0/q4_0,q4_0+256 (+N: with a window)",
    )
    parser.add_argument(
        "--tail",
        metavar="N",
        type=window,
        nargs="+",
        help="measure every setting with these windows of exact newest tokens: --tail 0 256",
    )


def add_method_options(parser: argparse.ArgumentParser) -> None:
    """The other ways to make a cache smaller."""
    from quantize.lab.methods import METHODS

    group = parser.add_argument_group("other methods, measured in the same table")
    for method in METHODS:
        group.add_argument(
            f"--{method.kind}",
            metavar=method.metavar,
            type=partial(method_list, method),
            dest=f"method_{method.kind}",
            default=[],
            action="extend",
            help=method.help,
        )


def method_list(method: Method, text: str) -> list[Setting]:
    """The settings of one method's option."""
    from quantize.errors import StretchError

    try:
        return method.parse_list(text)
    except StretchError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """How the engine runs."""
    engine = parser.add_argument_group("engine")
    engine.add_argument("--threads", metavar="N", type=natural, default=0, help="threads; 0 takes the cores")
    engine.add_argument("--no-repack", action="store_true", help="no second, faster copy of the weights")


def setting_list(text: str) -> list[Setting]:
    """Read ``f16,q8_0/q4_0,q4_0+256``."""
    from quantize.errors import CacheTypeError
    from quantize.lab.setting import parse_setting

    try:
        return [parse_setting(part) for part in text.split(",") if part.strip()]
    except CacheTypeError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error


def natural(text: str) -> int:
    """A number that is not negative."""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of that kind, for example 4")
    return int(text)


def window(text: str) -> int:
    """A number of tokens of a window."""
    from quantize.cache_types import MAX_TAIL

    n = natural(text)
    if n > MAX_TAIL:
        raise argparse.ArgumentTypeError(f"a window of {n:,} tokens is too long")
    return n


@dataclass(frozen=True)
class Experiment:
    """A model with its sizes."""

    path: Path
    name: str
    header: Header
    planner: Planner
    opening: Opening

    @classmethod
    def of(cls, args: argparse.Namespace) -> Experiment:
        """The model that the arguments name.

        Raises:
            StretchError: if there is none, or if it is not for this engine.
        """
        from app import paths
        from app.engine.threads import default_threads
        from models.plan import Planner
        from models.resolve import display_name, resolve
        from models.splits import read_model
        from quantize.lab.opening import Opening

        path = resolve(args.model, paths.models_dir())
        header = read_model(path)
        planner = Planner(header, repack=not args.no_repack)
        opening = Opening(
            path=str(path),
            geometry=planner.shape.geometry(),
            mla=planner.shape.mla,
            n_threads=args.threads or default_threads(),
            repack=not args.no_repack,
            calibrations=str(paths.calibrations_dir()),
        )
        return cls(path, display_name(path), header, planner, opening)

    def settings(self, args: argparse.Namespace, *, windows: bool) -> list[Setting]:
        """What is measured: a list of cache types, other methods, or both; without either the usual ones.

        Args:
            windows: whether there is a kernel that can have windows.

        Raises:
            UsageError: if the list is empty.
        """
        from models.candidates import default_settings, with_windows

        others = [s for name, found in vars(args).items() if name.startswith("method_") for s in found]
        if args.kv is None and args.tail is None:
            return others or default_settings(windows)
        chosen = args.kv if args.kv is not None else default_settings(False)
        if not chosen:
            raise UsageError("No cache setting is named.", "Write for example --kv q8_0,q4_0.")
        return with_windows(chosen, args.tail or [0]) + others

    def candidates(self, settings: list[Setting], n_ctx: int) -> list[Candidate]:
        """The settings with their sizes, the reference first."""
        from models.candidates import candidates

        return candidates(self.planner, settings, n_ctx)

    def room(self, copies: int = 1) -> int:
        """Bytes that all caches may take which are open at the same time.

        Args:
            copies: processes that load the model; the mapped weights are shared.
        """
        from models.memory import memory
        from quantize.lab.setting import REFERENCE

        plan = self.planner.plan(REFERENCE.pair, 256)
        weights = plan.weights_mapped + copies * (plan.weights_repacked + plan.overhead)
        return int(ROOM * memory().available) - weights

    def refuse_too_large(self, candidates: list[Candidate], room: int) -> list[Candidate]:
        """Mark what does not fit beside the reference.

        Raises:
            OutOfMemoryError: if not even the reference fits.
        """
        from app.engine.words import size

        reference = candidates[0]
        if reference.context_bytes > room:
            raise OutOfMemoryError(
                f"Measuring {self.name} takes {size(reference.context_bytes)} beside the weights, and "
                f"{size(max(room, 0))} can be used.",
                "Measure fewer tokens (--ctx), or close other programs.",
            )
        both = [c.context_bytes + reference.context_bytes for c in candidates]
        return [
            candidate
            if candidate.refused or candidate is reference or needed <= room
            else replace(
                candidate,
                refused=f"It takes {size(needed)} together with f16, and {size(room)} can be used.",
            )
            for candidate, needed in zip(candidates, both, strict=True)
        ]

    def facts(self) -> dict[str, Any]:
        """What a report says of the model and of the program, for JSON."""
        from app import __version__

        return {
            "stretch": __version__,
            "llama_cpp_python": _version("llama-cpp-python"),
            "model": self.name,
            "architecture": self.planner.shape.architecture,
            "file_bytes": self.header.file_bytes,
            "n_threads": self.opening.n_threads,
        }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def write_text(path: Path, text: str) -> None:
    """Write a report.

    Raises:
        UsageError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from error


def file_name(name: str) -> str:
    """A model's name as a part of a file's name."""
    kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip(".-")
    return kept[:80] or "model"
