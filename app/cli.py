"""The command ``stretch``.

Nothing heavy is imported here: a command's module is imported when the command is asked for, and
the module imports what it needs inside ``run``. A command is a module of ``app.commands`` with
``HELP`` (one line), ``add_arguments(parser)`` and ``run(args) -> int`` (the exit code).
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from app import __version__
from quantize.errors import StretchError, UsageError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


class Command(Protocol):
    """What a module of ``app.commands`` offers."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


COMMANDS: dict[str, str] = {
    "chat": "app.commands.chat",
    "run": "app.commands.run",
    "models": "app.commands.models",
    "search": "app.commands.search",
    "pull": "app.commands.pull",
    "rm": "app.commands.rm",
    "plan": "app.commands.plan",
    "quantize": "app.commands.quantize",
    "convert": "app.commands.convert",
    "eval": "app.commands.eval",
    "bench": "app.commands.bench",
    "park": "app.commands.park",
    "calibrate": "app.commands.calibrate",
    "chats": "app.commands.chats",
    "settings": "app.commands.settings",
    "doctor": "app.commands.doctor",
}
"""The commands in the order of the help, and their modules."""

DEFAULT = "chat"

OK, FAILED, USAGE, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141
"""Exit codes: the last two are what a shell reports for a program ended by SIGINT and SIGPIPE."""


def load(name: str) -> Command:
    """The module of the command ``name``."""
    return cast(Command, import_module(COMMANDS[name]))


class _Parser(argparse.ArgumentParser):
    """Reports a mistake like every other error of the program: one sentence, then what to do."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[:1].upper()}{message[1:]}.", f"See {self.prog} --help.")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        (file or sys.stdout).write(message)  # argparse's own hides a full disk and a closed pipe


class _WholeProgram(_Parser):
    """The parser of the chat. Its help lists the commands, whose modules are imported only for that."""

    def format_help(self) -> str:
        width = max(map(len, COMMANDS)) + 2
        listed = "\n".join(f"  {name:<{width}}{load(name).HELP}" for name in COMMANDS)
        self.epilog = f"commands:\n{listed}\n\nstretch COMMAND --help says more about each."
        return super().format_help()


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26)


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of one command; that of the chat describes the whole program."""
    command = load(name)
    if name != DEFAULT:
        parser = _Parser(prog=f"stretch {name}", description=command.HELP, formatter_class=_Help)
        command.add_arguments(parser)
        return parser
    parser = _WholeProgram(
        prog="stretch",
        usage="stretch [MODEL] [options]\n       stretch COMMAND [arguments]",
        description="Chat with a local GGUF model and stretch its context while you talk.",
        formatter_class=_Help,
    )
    parser.add_argument(
        "--version", action="version", version=f"stretch {__version__}", help="print the version and leave"
    )
    command.add_arguments(parser)
    return parser


def _complain(error: StretchError) -> None:
    from app.plain_text import one_line

    sys.stdout.flush()
    print(f"stretch: {one_line(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"         {one_line(error.hint)}", file=sys.stderr)


def _failed_unexpectedly(error: Exception) -> int:
    """A mistake of the program itself: keep the details for a report and say where they are."""
    if os.environ.get("STRETCH_DEBUG"):
        raise error
    import traceback

    from app import paths

    where = paths.log_dir() / "errors.log"
    try:
        paths.private_dir(where.parent)
        where.touch(mode=0o600)  # it holds what was typed
        with where.open("a", encoding="utf-8", errors="replace") as log:
            log.write(f"stretch {__version__} {sys.argv[1:]}\n{''.join(traceback.format_exception(error))}\n")
        hint = f"The details are in {where}."
    except (OSError, StretchError):
        hint = "Set STRETCH_DEBUG=1 to see the details."
    _complain(StretchError(f"Something unexpected went wrong ({type(error).__name__}: {error}).", hint))
    return FAILED


def _silence_stdout() -> None:
    """Let what is still in the buffer go nowhere: the reader of our output has left."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _run(arguments: Sequence[str]) -> int:
    name, rest = DEFAULT, arguments
    if arguments and arguments[0] in COMMANDS:
        name, rest = arguments[0], arguments[1:]
    if list(arguments) == ["--version"]:  # scripts ask this often: answer without building a parser
        print(f"stretch {__version__}")
        sys.stdout.flush()
        return OK
    try:
        args = parser_of(name).parse_args(rest)
    except SystemExit:  # argparse has printed the help or the version; mistakes are raised by _Parser
        code = OK
    else:
        code = load(name).run(args)
    sys.stdout.flush()
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: those of the command line without the program's name; None takes ``sys.argv``.

    Returns:
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 is no reason to fail
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except UsageError as error:
        _complain(error)
        return USAGE
    except StretchError as error:
        _complain(error)
        return FAILED
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return PIPE_CLOSED
    except OSError as error:
        if error.errno != errno.ENOSPC:
            return _failed_unexpectedly(error)
        _silence_stdout()
        _complain(StretchError(f"The output could not be written: {error.strerror}.", "Free some space."))
        return FAILED
    except MemoryError:
        _complain(StretchError("There is not enough memory for this.", "Close something and try again."))
        return FAILED
    except Exception as error:  # the last resort: a person never sees a traceback unless they ask for it
        return _failed_unexpectedly(error)


if __name__ == "__main__":
    sys.exit(main())
