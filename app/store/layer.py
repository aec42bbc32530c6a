"""One TOML text read into checked values, with a sentence for everything that could not be used."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.store.settings import SECTIONS, setting, to_toml
from quantize.errors import UsageError

_LINES_TO_DROP = 5
"""Lines that are no TOML and are left out one by one before the whole text is given up."""


@dataclass(slots=True)
class Layer:
    """The values of one text."""

    values: dict[str, Any] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Values of the ``[model."..."]`` tables."""
    problems: list[str] = field(default_factory=list)
    sound: bool = True
    """Whether the text is TOML; if not it must not be rewritten."""


def read_layer(text: str, source: str) -> Layer:
    """Read ``text``; ``source`` names it in the problems."""
    layer = Layer()
    data = _parse(text, source, layer)

    def complain(path: tuple[str, ...], sentence: str, consequence: str) -> None:
        line = line_of(text, path)
        layer.problems.append(
            f"{source}{f', line {line}' if line else ''}: {sentence} {consequence}".rstrip()
        )

    def take(table: Mapping[str, Any], path: tuple[str, ...], into: dict[str, Any]) -> None:
        for name, value in table.items():
            here = (*path, name)
            if name == "keys" and isinstance(value, dict):
                into["keys"] = _keys(value, here, complain)
            elif name in SECTIONS and isinstance(value, dict):
                take(value, here, into)
            elif name == "model" and not path and isinstance(value, dict):
                for model, inner in value.items():
                    _take_model(model, inner, (*here, model))
            else:
                _take_one(name, value, here, into)

    def _take_model(model: str, inner: object, path: tuple[str, ...]) -> None:
        if not isinstance(inner, dict):
            complain(path, f"{model} is not a table.", 'Write [model."NAME"] and the settings below it.')
        elif any(isinstance(v, dict) and k not in SECTIONS for k, v in inner.items()):
            complain(path, "a model's name that holds a dot needs quotes.", 'Write [model."NAME"].')
        else:
            take(inner, path, layer.models.setdefault(model, {}))

    def _take_one(name: str, value: object, path: tuple[str, ...], into: dict[str, Any]) -> None:
        try:
            known = setting(name)
        except UsageError as error:
            near = error.hint if error.hint.startswith("Did you mean") else ""
            complain(path, f"there is no setting called {name!r}.", near)
            return
        try:
            into[name] = known.check(value)
        except UsageError as error:
            default = f"The default, {to_toml(known.default)}, is used."
            complain(path, error.message, "It is left out." if path[0] == "model" else default)

    take(data, (), layer.values)
    return layer


def _keys(table: Mapping[str, Any], path: tuple[str, ...], complain: Any) -> dict[str, str]:
    """Keys of actions: a text, or a list of texts."""
    keys = {}
    for action, value in table.items():
        listed = value if isinstance(value, list) else [value]
        if all(isinstance(v, str) for v in listed):
            keys[action] = ",".join(v.strip() for v in listed)
        else:
            complain((*path, action), f"the key of {action} must be a text.", "The built-in key is used.")
    return keys


def _parse(text: str, source: str, layer: Layer) -> dict[str, Any]:
    lines = text.split("\n")  # as TOML counts; splitlines() also splits at other signs
    number, reason = 0, "nested too deeply"
    for _ in range(_LINES_TO_DROP + 1):
        try:
            return tomllib.loads("\n".join(lines))
        except tomllib.TOMLDecodeError as error:
            layer.sound = False
            number, reason = _where(str(error), lines)
            if not 0 < number <= len(lines) or not lines[number - 1]:
                break
            layer.problems.append(f"{source}, line {number}: {reason}. The line is left out.")
            lines[number - 1] = ""
        except RecursionError:
            layer.sound = False
            break
    place = f"{source}, line {number}" if number else source
    layer.problems = [f"{place}: {reason}. The file cannot be used, so the defaults apply."]
    return {}


def _where(message: str, lines: list[str]) -> tuple[int, str]:
    """The line that a message of ``tomllib`` is about, and what is wrong there."""
    reason = re.sub(r" \(at .*", "", message).rstrip(".")
    if found := re.search(r"\(at line (\d+)", message):
        return int(found[1]), reason
    # At the end of the text: something was opened and never closed.
    if found := re.match(r"Expected '(.)'|Expected \"(.)\"", message):
        quote = found[1] or found[2]
        opened = [n for n, line in enumerate(lines, 1) if line.count(quote) % 2]
        return (opened or [len(lines)])[-1], "a quotation mark is missing"
    return len(lines), reason


def line_of(text: str, path: tuple[str, ...]) -> int:
    """The line, from 1, on which the key at ``path`` stands; 0 if it cannot be told."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            table = _header(stripped)
            if table == path:
                return number
        elif "=" in stripped:
            key = _header(f"[{stripped.split('=', 1)[0]}]")
            if (*table, *key) == path:
                return number
    return 0


def _header(line: str) -> tuple[str, ...]:
    """The path in a table's header."""
    try:
        inner: object = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    path: list[str] = []
    while isinstance(inner, dict) and inner:
        name, inner = next(iter(inner.items()))
        path.append(name)
    return tuple(path)
