"""Models on this computer: where their files are, and whether they run here.

Looked at are the built-in models, the program's own directory, folders of the user's and the
cache of the model hub. A model that is split into parts is one model. Nothing is loaded: the
verdict follows from the header of the file and the plan that is made from it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from models.header import Header
from models.plan import Planner, StretchRow
from models.resolve import BUILTIN, BUILTIN_WEIGHTS, resolve
from models.splits import PART, read_model
from quantize.cache_types import PRESETS
from quantize.errors import StretchError

_ENDING = re.compile(r"\.gguf$", re.IGNORECASE)
_NOT_A_MODEL = re.compile(r"mmproj|imatrix|[-_.]mtp[-_.]", re.IGNORECASE)
"""Companions of models: image projectors, statistics, heads for drafts."""

_DEEPEST = 6
"""Levels of folders that are searched; the hub's cache needs four."""

_MOST_ENTRIES = 50_000
"""Entries that are looked at in one folder of the user's, so that a wrong one costs a moment only."""

_COMFORTABLE = 2048
"""Tokens below which a context is too short to chat in."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model file on this computer."""

    name: str
    """What ``models.resolve`` takes: a built-in name or a path."""
    title: str
    """The same for the eye."""
    place: str
    """Where it is, in a few words."""
    path: Path
    """The file, or the first of its parts."""
    n_bytes: int
    """Of all parts."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a model runs on this computer now."""

    runnable: bool
    sentence: str
    """``fits, up to 77k tokens at q8_0``, or why it does not run."""
    instead: str = ""
    """What to do if it does not run, or empty."""
    license: str = ""
    rows: tuple[StretchRow, ...] = ()


def hub_cache() -> Path:
    """Where ``huggingface-hub`` keeps what it downloaded (its own rules, without importing it)."""
    env = os.environ
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if env.get(name):
            return Path(env[name]).expanduser()
    home = env.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    return Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def find_local(own: Path, folders: Iterable[str] = (), cache: Path | None = None) -> Iterator[LocalModel]:
    """Every model on this computer: built in, the program's own, in the user's folders, in the hub's cache.

    Args:
        own: the program's own directory of models.
        folders: of the user's; one that cannot be read is passed over.
        cache: of the hub; None takes the usual one.
    """
    seen: set[Path] = set()
    for name in BUILTIN:
        path = resolve(name)
        seen.add(path)
        place = f"comes with Stretch, {BUILTIN_WEIGHTS[name]}"
        yield LocalModel(name, name, place, path, path.stat().st_size)
    yield from _new(_find_own(own), seen)
    for folder in folders:
        yield from _new(find_in(Path(folder).expanduser(), folder), seen)
    yield from _new(_find_in_hub(cache or hub_cache()), seen)


def _new(found: Iterable[LocalModel], seen: set[Path]) -> Iterator[LocalModel]:
    for model in found:
        real = Path(os.path.realpath(model.path))
        if real not in seen:
            seen.add(real)
            yield model


def find_in(folder: Path, place: str) -> list[LocalModel]:
    """The models below one folder, in the order of their names."""
    sizes: dict[Path, int] = {}
    for path, n_bytes in _gguf_files(folder):
        part = PART.search(path.name)
        first = path.with_name(f"{path.name[: part.start()]}-00001-of-{part[2]}.gguf") if part else path
        sizes[first] = sizes.get(first, 0) + n_bytes
    models = [
        LocalModel(str(path), _ENDING.sub("", PART.sub("", path.name)), place, path, n_bytes)
        for path, n_bytes in sizes.items()
    ]
    return sorted(models, key=lambda m: m.title.lower())


def _find_own(own: Path) -> Iterator[LocalModel]:
    """What was downloaded, ``OWN/owner/repo/FILE``, and what was put beside it."""
    for model in find_in(own, "downloaded"):
        parts = model.path.relative_to(own).parts
        yield replace(model, place="/".join(parts[:2])) if len(parts) > 2 else model


def _find_in_hub(cache: Path) -> list[LocalModel]:
    """The hub's cache: ``models--owner--repo/snapshots/REVISION/FILE``."""
    found: list[LocalModel] = []
    for model in find_in(cache, "in the cache of the hub"):
        parts = model.path.relative_to(cache).parts
        if parts[0].startswith("models--") and "snapshots" in parts:
            repo = parts[0].removeprefix("models--").replace("--", "/", 1)
            found.append(replace(model, place=repo))
    return found


def _gguf_files(folder: Path) -> Iterator[tuple[Path, int]]:
    """GGUF files below ``folder`` with their sizes. Links to folders are not followed: there are rings."""
    left = _MOST_ENTRIES
    waiting = [(folder, 0)]
    while waiting:
        here, depth = waiting.pop()
        try:
            entries = list(os.scandir(here))
        except OSError:
            continue
        for entry in entries:
            left -= 1
            if left < 0:
                return
            try:
                if entry.is_dir(follow_symlinks=False):
                    if depth < _DEEPEST:
                        waiting.append((Path(entry.path), depth + 1))
                elif _is_model(entry.name) and entry.is_file():
                    yield Path(entry.path), entry.stat().st_size
            except OSError:
                continue  # it vanished, or a link leads nowhere


def _is_model(name: str) -> bool:
    return name.lower().endswith(".gguf") and not _NOT_A_MODEL.search(name)


def judge(header: Header, budget: int) -> Verdict:
    """Whether a model runs with ``budget`` bytes of memory, and how far its context reaches."""
    license = header.text("general.license")
    try:
        planner = Planner(header)
        rows = tuple(planner.stretch_table(n_ctx=_COMFORTABLE, budget=budget))
    except StretchError as error:
        return Verdict(False, error.message, error.hint, license)
    usable = [row for row in rows if not row.refused]
    fits = [row for row in usable if row.max_ctx > 0]
    if not fits:
        least = min(planner.plan(pair, _COMFORTABLE).total for pair in PRESETS if not planner.refusal(pair))
        return Verdict(
            False, f"needs {_size(least)}, and {_size(budget)} are free", license=license, rows=rows
        )
    row = _telling(fits)
    least_ctx = min(_COMFORTABLE, planner.shape.n_ctx_train or _COMFORTABLE)
    word = "fits" if row.max_ctx >= least_ctx else "fits barely"
    return Verdict(
        True, f"{word}, up to {tokens(row.max_ctx)} tokens at {_label(row)}", license=license, rows=rows
    )


def judge_file(path: Path, budget: int) -> Verdict:
    """As ``judge``, for a file; one that cannot be read does not run."""
    try:
        return judge(read_model(path), budget)
    except StretchError as error:
        return Verdict(False, error.message, error.hint)


def _telling(rows: list[StretchRow]) -> StretchRow:
    """The row that says most: the first that reaches the trained length, else q8_0, else the farthest."""
    for row in rows:
        if row.limit == "trained":
            return row
    wanted = next((r for r in rows if r.type_k == r.type_v == "q8_0"), None)
    if wanted is not None and wanted.max_ctx >= _COMFORTABLE:
        return wanted
    return max(rows, key=lambda r: r.max_ctx)


def _label(row: StretchRow) -> str:
    return row.type_k if row.type_k == row.type_v else f"{row.type_k}/{row.type_v}"


def tokens(n: int) -> str:
    """A length of a context in a few letters: ``77k``."""
    return str(n) if n < 1000 else f"{n // 1000}k" if n < 1_000_000 else f"{n / 1e6:.1f}M"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MiB"
