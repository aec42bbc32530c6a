"""Messages as lines: one JSON object per message, ``{"type": "Load", "id": 1, ...}``.

Strict in both directions: a line that is too long, is not JSON, names an unknown type or field,
or holds a value of another type is an ``EngineError``, never a half-filled message. Lines are
pure ASCII (other characters are escaped), so no text can break the framing.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import typing
from collections.abc import Iterator
from typing import Any, NoReturn

from app.engine.protocol.commands import Command
from app.engine.protocol.events import Event
from quantize.errors import EngineError

MAX_LINE = 64 * 1024 * 1024
"""Longest line in bytes, the newline included. A conversation of millions of tokens fits."""

COMMANDS: dict[str, type[Command]] = {kind.__name__: kind for kind in typing.get_args(Command)}
EVENTS: dict[str, type[Event]] = {kind.__name__: kind for kind in typing.get_args(Event)}


def encode(message: Command | Event) -> bytes:
    """``message`` as one line.

    Raises:
        EngineError: if it is longer than ``MAX_LINE`` or holds a number that JSON does not know.
    """
    fields = {"type": type(message).__name__} | _plain(message)
    try:
        line = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
    except ValueError as error:
        raise EngineError(f"{fields['type']} holds a number that cannot be sent: {error}.") from error
    if len(line) > MAX_LINE:
        raise EngineError(f"{fields['type']} is too long to send: {len(line):,} bytes.")
    return line


def decode_command(line: bytes) -> Command:
    """The command in ``line``.

    Raises:
        EngineError: if it is not exactly one known command.
    """
    return typing.cast(Command, _decode(line, COMMANDS))


def decode_event(line: bytes) -> Event:
    """The event in ``line``.

    Raises:
        EngineError: if it is not exactly one known event.
    """
    return typing.cast(Event, _decode(line, EVENTS))


def read_lines(stream: typing.BinaryIO) -> Iterator[bytes]:
    """The lines of ``stream`` until it ends; an unfinished last line is dropped.

    Raises:
        EngineError: as soon as a line is longer than ``MAX_LINE``.
    """
    while line := stream.readline(MAX_LINE + 1):
        if line.endswith(b"\n") and len(line) <= MAX_LINE:
            yield line
        elif len(line) > MAX_LINE:
            raise EngineError(f"A message is longer than {MAX_LINE:,} bytes.")


# --------------------------------------------------------------------------- details


def _plain(message: Any) -> dict[str, Any]:
    """The fields of a dataclass, nested ones too. ``dataclasses.asdict`` copies deeply and is slower."""
    return {name: _plain_value(getattr(message, name)) for name in _fields(message.__class__)[0]}


def _plain_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain_value(item) for item in value]
    if dataclasses.is_dataclass(value):
        return _plain(value)
    return value


@functools.cache
def _fields(kind: type) -> tuple[dict[str, Any], frozenset[str]]:
    """Types by field name, and the names that have no default."""
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    required = frozenset(
        f.name
        for f in fields
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    )
    return {f.name: hints[f.name] for f in fields}, required


def _decode(line: bytes, kinds: dict[str, Any]) -> Any:
    if len(line) > MAX_LINE:
        raise EngineError(f"A message is longer than {MAX_LINE:,} bytes.")
    try:
        data = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise EngineError("A message is not JSON.") from error
    if not isinstance(data, dict):
        raise EngineError("A message is not a JSON object.")
    name = data.pop("type", None)
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise EngineError(f"There is no message called {name!r:.80}.")
    return _build(kind, data, name)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _build(kind: Any, data: dict[str, Any], where: str) -> Any:
    hints, required = _fields(kind)
    unknown = data.keys() - hints.keys()
    if unknown:
        raise EngineError(f"{where} has no field {min(unknown)!r:.80}.")
    missing = required - data.keys()
    if missing:
        raise EngineError(f"{where} lacks the field {min(missing)!r}.")
    return kind(**{name: _value(hints[name], value, f"{where}.{name}") for name, value in data.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if hint is float and type(value) is int and abs(value) < 1 << 53:
        return float(value)
    if hint in (int, float, str, bool):
        if type(value) is hint:
            return value
    elif dataclasses.is_dataclass(hint):
        if isinstance(value, dict):
            return _build(hint, value, where)
    elif typing.get_origin(hint) is tuple and isinstance(value, list):
        item = typing.get_args(hint)[0]
        return tuple(_value(item, v, where) for v in value)
    raise EngineError(f"{where} has a value of another type: {type(value).__name__}.")
