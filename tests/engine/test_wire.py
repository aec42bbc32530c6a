"""Messages as lines: everything arrives as it was sent, and nothing else arrives at all."""

from __future__ import annotations

import dataclasses
import io
import json
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.protocol import Command, Event, Generate, Load, Sampling, Stop, TextChunk, Turn, wire
from quantize.errors import EngineError


def values(hint: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Any value of a field."""
    if hint is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if hint is int:
        return st.integers()
    if hint is str:
        return st.text()
    if hint is bool:
        return st.booleans()
    if typing.get_origin(hint) is tuple:
        return st.lists(values(typing.get_args(hint)[0]), max_size=3).map(tuple)
    return messages(hint)


def messages(kind: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Any message of a kind."""
    hints, _ = wire._fields(kind)
    return st.builds(kind, **{name: values(hint) for name, hint in hints.items()})


@given(st.one_of([messages(kind) for kind in typing.get_args(Command)]))
def test_commands_arrive_as_they_were_sent(command: Command) -> None:
    line = wire.encode(command)
    assert line.isascii() and line.count(b"\n") == 1 and line.endswith(b"\n")
    assert wire.decode_command(line) == command


@given(st.one_of([messages(kind) for kind in typing.get_args(Event)]))
def test_events_arrive_as_they_were_sent(event: Event) -> None:
    assert wire.decode_event(wire.encode(event)) == event


def test_every_field_has_a_type_that_travels() -> None:
    for kind in (*typing.get_args(Command), *typing.get_args(Event)):
        assert dataclasses.is_dataclass(kind)
        assert messages(kind) is not None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"null\n",
        b"[]\n",
        b"{}\n",
        b'"Stop"\n',
        b'{"type":"Stop"}\n',
        b'{"type":"Stop","id":1,"more":2}\n',
        b'{"type":"Stop","id":"1"}\n',
        b'{"type":"Stop","id":true}\n',
        b'{"type":"Stop","id":1.5}\n',
        b'{"type":"Stop","id":null}\n',
        b'{"type":["Stop"],"id":1}\n',
        b'{"type":"Hello","id":1,"pid":1,"engine":""}\n',
        b'{"type":"Load","id":1,"path":"a","n_ctx":NaN}\n',
        b'{"type":"Generate","id":1,"turns":[{"role":"user"}]}\n',
        b'{"type":"Generate","id":1,"turns":{"role":"user","content":""}}\n',
        b'{"type":"Generate","id":1,"turns":[],"sampling":{"temperature":"hot"}}\n',
        b'{"type":"Generate","id":1,"turns":[],"sampling":{"temperature":Infinity}}\n',
        b"[" * 100_000 + b"\n",
        b'{"type":"Stop","id":1}{"type":"Stop","id":2}\n',
        b"\xff\xfe\n",
    ],
)
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(EngineError):
        wire.decode_command(line)


@given(messages(Load), st.data())
def test_a_damaged_line_is_refused_or_another_whole_message(command: Load, data: st.DataObject) -> None:
    line = bytearray(wire.encode(command))
    for _ in range(data.draw(st.integers(1, 4))):
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = wire.decode_command(bytes(line))
    except EngineError:
        return
    again = wire.decode_command(wire.encode(decoded))
    assert again == decoded


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(EngineError):
        wire.decode_event(noise)


def test_a_line_has_a_longest_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_LINE", 100)
    short = TextChunk(1, "x", 1, 1.0)
    assert wire.decode_event(wire.encode(short)) == short
    with pytest.raises(EngineError):
        wire.encode(TextChunk(1, "x" * 100, 1, 1.0))
    with pytest.raises(EngineError):
        wire.decode_event(b" " * 101)
    with pytest.raises(EngineError):
        list(wire.read_lines(io.BytesIO(b"x" * 200)))


def test_lines_are_cut_at_newlines_and_an_unfinished_one_is_dropped() -> None:
    lines = [wire.encode(Stop(1)), wire.encode(Stop(2))]
    assert list(wire.read_lines(io.BytesIO(b"".join(lines) + b'{"type":"St'))) == lines


def test_text_cannot_break_the_framing() -> None:
    hostile = "\n\r\x0b\x1b]0;title\x07\u2028\u2029\x00{[/bold]}\ud800"
    command = Generate(1, (Turn("user", hostile),), Sampling())
    line = wire.encode(command)
    assert line.count(b"\n") == 1
    assert b"\x1b" not in line
    assert wire.decode_command(line) == command


def test_a_number_that_json_does_not_know_is_not_sent() -> None:
    with pytest.raises(EngineError):
        wire.encode(TextChunk(1, "", 1, float("inf")))
    assert "tokens_per_second" in json.loads(wire.encode(TextChunk(1, "", 1, 0.5)))
