"""``stretch run``: a reply, or a whole scripted conversation, without a screen."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from app.commands.chat import cache_pair, token_count, window
from quantize.cache_types import AUTO_TAIL
from quantize.errors import BreaksModelError, UsageError

if TYPE_CHECKING:
    from app.engine.protocol import Load

HELP = "Print a reply, or run a script of messages and slash commands, without a screen."

EPILOG = """\
A script holds one turn per line: a message, or a slash command (/kv q8_0/q4_0, /ctx 8192, /tail 256,
/undo, /reprefill, /stats, /system TEXT, /set NAME VALUE, /regenerate, /continue, /edit TEXT, /new).
A cache that breaks the model is refused, unless the line ends with the word anyway (--kv: --anyway).
With --json each
turn prints one JSON object: {"event": "reply" | "kv" | "stats" | "note" | "error", ...}.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    from app.engine.policies import POLICIES

    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", nargs="?", default="builtin", help="a GGUF file or a name")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("-p", "--prompt", metavar="TEXT", help="the message; text from a pipe is put behind it")
    what.add_argument(
        "--script", metavar="FILE", help="a message or slash command per line; - reads the input"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per turn")
    parser.add_argument("--system", metavar="TEXT", default="", help="the system prompt")
    parser.add_argument(
        "--on-full",
        choices=POLICIES,
        default="stop",
        help="a full context: stop (default), a longer one, smaller cache types, "
        "prune the cache, drop the oldest turns",
    )
    cache = parser.add_argument_group("memory")
    cache.add_argument(
        "--kv", metavar="K[/V]", type=cache_pair, default=("f16", "f16"), help="types of the cache"
    )
    cache.add_argument(
        "--ctx", metavar="N", type=token_count, default=0, help="length of the context: 16384, 16k"
    )
    cache.add_argument(
        "--tail",
        metavar="N",
        type=window,
        default=AUTO_TAIL,
        help="newest tokens that stay exact: 256, off, auto (default)",
    )
    cache.add_argument(
        "--anyway", action="store_true", help="take the types of --kv even if they break this model"
    )
    cache.add_argument("--no-repack", action="store_true", help="no second, faster copy of the weights")
    cache.add_argument(
        "--threads", metavar="N", type=_natural, default=0, help="most threads; 0 takes the cores"
    )
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument(
        "--temp", metavar="T", type=_not_negative, default=0.7, help="temperature; 0 is greedy"
    )
    sampling.add_argument("--top-k", metavar="K", type=_natural, default=40)
    sampling.add_argument("--top-p", metavar="P", type=_not_negative, default=0.95)
    sampling.add_argument("--min-p", metavar="P", type=_not_negative, default=0.05)
    sampling.add_argument("--repeat-penalty", metavar="R", type=_not_negative, default=1.0)
    sampling.add_argument(
        "--seed", metavar="N", type=_natural, default=-1, help="the same seed, the same reply"
    )
    sampling.add_argument("-n", "--max-tokens", metavar="N", type=_natural, default=-1)


def run(args: argparse.Namespace) -> int:
    """Run the prompt or the script; the exit code is 1 if any turn failed."""
    from app import paths
    from app.engine.protocol import Sampling
    from app.engine.report import JsonReport, PlainReport
    from app.engine.script import Runner
    from models.resolve import resolve

    lines = _lines(args)
    sampling = Sampling(
        args.temp, args.top_k, args.top_p, args.min_p, args.repeat_penalty, args.seed, args.max_tokens
    )
    report = JsonReport() if args.json else PlainReport(echo=args.script is not None)
    load = _load(args, str(resolve(args.model, paths.models_dir())))
    try:
        with Runner(paths.log_path(), load, sampling, args.system, args.on_full, report) as runner:
            if args.script is None:
                return 0 if runner.say(next(iter(lines))) else 1
            return 0 if runner.run(lines) else 1
    except BreaksModelError as error:
        raise BreaksModelError(error.message, "To have it all the same, add --anyway.") from None


def _load(args: argparse.Namespace, path: str) -> Load:
    from app.engine.protocol import Load

    type_k, type_v = args.kv
    return Load(
        1,
        path,
        args.ctx,
        type_k,
        type_v,
        args.tail,
        args.threads,
        repack=not args.no_repack,
        accept_loss=args.anyway,
        adapt_threads=args.seed < 0,  # another number rounds otherwise, and then other words are drawn
    )


def _lines(args: argparse.Namespace) -> list[str]:
    """The turns to run.

    Raises:
        UsageError: if there is nothing to say, or what there is cannot be read.
    """
    if args.script is not None:
        try:
            if args.script == "-":
                return _text(sys.stdin.buffer.read(), "The script").splitlines()
            with open(args.script, "rb") as script:  # noqa: PTH123
                return _text(script.read(), f"The script {args.script}").splitlines()
        except OSError as error:
            raise UsageError(f"The script {args.script} cannot be read: {error.strerror}.") from error
    piped = _piped()
    if args.prompt is None and piped is None:
        raise UsageError("There is nothing to say.", "Give -p TEXT, --script FILE, or text from a pipe.")
    text = "\n\n".join(part for part in (args.prompt, piped) if part)
    if not text.strip():
        raise UsageError("The message is empty.", "Give -p TEXT or text from a pipe.")
    return [text]


def _piped() -> str | None:
    """What was piped or redirected into the program, None if its input is a terminal or nothing.

    Raises:
        UsageError: if it is no text.
    """
    import os
    import stat

    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):  # closed
        return None
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
        return None
    return _text(sys.stdin.buffer.read(), "What was piped in").strip("\r\n") or None


def _text(data: bytes, name: str) -> str:
    from app.decoding import decode

    convert = "Convert it to UTF-8 first, for example with iconv -f latin1 -t utf-8."
    return decode(data, name, "The model reads text only: give it a text.", convert)


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _not_negative(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return number
