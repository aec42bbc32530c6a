"""The process that renders chat templates, and nothing else.

A template is a program from a stranger. Jinja's sandbox keeps it away from Python's objects; this
process keeps it from taking all time and memory: it has a limit of its own for memory, writes no
file, and the engine ends it when a deadline passes.

Each request is a line ``{"source", "variables"}``, each answer ``{"text"}`` or ``{"error"}``.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import resource
import sys
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY_LIMIT = 512 * 1024 * 1024
CPU_SECONDS = 10
"""Processor time for one rendering. The engine's own deadline is shorter; this one holds when the
engine itself is gone."""
OUTPUT_FACTOR = 8
OUTPUT_BASE = 1024 * 1024
"""A rendering may have ``OUTPUT_BASE`` characters and ``OUTPUT_FACTOR`` for each one that went in."""


class _Generation(Extension):
    """``{% generation %}`` marks the assistant's part for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012  (declared so by Jinja)

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML, which a prompt must not be.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def environment() -> ImmutableSandboxedEnvironment:
    """The environment that chat templates are written for, with the helpers that they expect."""
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    env.filters["tojson"] = _tojson
    env.globals["raise_exception"] = _raise_exception
    env.globals["strftime_now"] = _strftime_now
    return env


def render(env: ImmutableSandboxedEnvironment, source: str, variables: dict[str, Any]) -> str:
    """The text of one rendering.

    Raises:
        TemplateError: if the template is wrong, refuses the conversation or writes too much.
    """
    size = sum(len(turn["content"]) + len(turn["role"]) for turn in variables["messages"])
    room = OUTPUT_BASE + OUTPUT_FACTOR * size
    parts = []
    for part in _compile(env, source).generate(**variables):
        room -= len(part)
        if room < 0:
            raise SecurityError("it writes far more than it was given")
        parts.append(part)
    return "".join(parts)


@functools.lru_cache(maxsize=2)
def _compile(env: ImmutableSandboxedEnvironment, source: str) -> Any:
    return env.from_string(source)


def _limit_time() -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(usage.ru_utime + usage.ru_stime) + CPU_SECONDS
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def main() -> None:
    """Answer requests until the pipe closes."""
    for limit, size in ((resource.RLIMIT_AS, MEMORY_LIMIT), (resource.RLIMIT_FSIZE, 0)):
        with contextlib.suppress(ValueError, OSError):  # macOS does not know every limit
            resource.setrlimit(limit, (size, size))
    env = environment()
    answers = sys.stdout
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        _limit_time()
        try:
            answer = {"text": render(env, **json.loads(line))}
        except MemoryError:
            answer = {"error": "it needs too much memory"}
        except Exception as error:  # the template is a program: it can raise anything
            answer = {"error": f"{error or type(error).__name__}"[:500]}
        print(json.dumps(answer), file=answers, flush=True)
