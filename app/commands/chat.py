"""``stretch`` and ``stretch chat``: the chat itself."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from dataclasses import replace

from app.lengths import read_length
from app.options import LATEST, ChatOptions
from quantize.errors import CacheTypeError, ModelNotFoundError, UsageError

HELP = "Open the chat (what stretch does without a command)."


def token_count(text: str) -> int:
    """Read ``16384``, ``16k`` or ``0``."""
    tokens = 0 if text.strip() == "0" else read_length(text)
    if tokens is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of a context, for example 16384 or 16k")
    return tokens


def cache_pair(text: str) -> tuple[str, str]:
    """Read ``q8_0`` or ``q8_0/q4_0`` into the names of K and V."""
    from quantize.cache_types import parse_pair

    try:
        pair = parse_pair(text)
    except CacheTypeError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error
    return pair.k.name, pair.v.name


def window(text: str) -> int:
    """Read ``256``, ``off`` or ``auto``: a window of newest tokens that stay exact."""
    from quantize.cache_types import parse_tail

    try:
        return parse_tail(text)
    except CacheTypeError as error:
        raise argparse.ArgumentTypeError(error.message.rstrip(".")) from error


def conversation_id(text: str) -> int:
    """Read the number of a conversation."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a conversation, see stretch chats")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the chat."""
    parser.add_argument(
        "name",
        metavar="MODEL",
        nargs="?",
        default="",
        help="a GGUF file, a name (builtin), or a model on the hub (owner/repo)",
    )
    chat = parser.add_argument_group("conversation")
    chat.add_argument(
        "-r",
        "--resume",
        metavar="ID",
        nargs="?",
        type=conversation_id,
        const=LATEST,
        help="go on with a conversation (the last)",
    )
    chat.add_argument("-m", "--model", metavar="MODEL", default="", help="the same as MODEL in front")
    memory = parser.add_argument_group("memory (changeable at any time in the chat)")
    memory.add_argument("--kv", metavar="K[/V]", type=cache_pair, help="types of the cache: q8_0, q8_0/q4_0")
    memory.add_argument(
        "--ctx", metavar="N", type=token_count, help="length of the context: 16384, 16k; 0 chooses"
    )
    memory.add_argument(
        "--tail", metavar="N", type=window, help="newest tokens that stay exact: 256, off, auto"
    )
    screen = parser.add_argument_group("screen")
    screen.add_argument("--theme", metavar="NAME", help="colours; the palette in the chat lists the themes")


def options_of(args: argparse.Namespace) -> ChatOptions:
    """What the parsed arguments ask for.

    Raises:
        UsageError: if two models are named.
    """
    if args.name and args.model and args.name != args.model:
        raise UsageError(f"Two models are named: {args.name} and {args.model}.", "Name one of them.")
    overrides: dict[str, object] = {}
    if args.kv:
        overrides["type_k"], overrides["type_v"] = args.kv
    if args.ctx is not None:
        overrides["n_ctx"] = args.ctx
    if args.tail is not None:
        overrides["tail"] = args.tail
    if args.theme:
        overrides["theme"] = args.theme
    return ChatOptions(model=args.model or args.name, resume=args.resume, overrides=overrides)


def _check_model(name: str) -> str:
    """Look at the model before the screen opens, so that a mistake is answered where it was typed.

    Returns:
        What to load: ``name``, or the file that was downloaded for it.
    """
    from app import paths
    from models.resolve import resolve
    from models.splits import read_model

    try:
        read_model(resolve(name, paths.models_dir()))
        return name
    except ModelNotFoundError as error:
        from app.fetch.offer import offered

        path = offered(name)
        if path is not None:
            return str(path)
        from difflib import get_close_matches

        from app.cli import COMMANDS

        near = get_close_matches(name, COMMANDS, n=1)
        if near:
            raise UsageError(
                f"There is no command and no model called {name!r}.", f"Did you mean stretch {near[0]}?"
            ) from error
        raise


def run(args: argparse.Namespace) -> int:
    """Open the chat; returns when the person leaves it."""
    options = options_of(args)
    if options.model:
        options = replace(options, model=_check_model(options.model))
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "The chat needs a terminal, and this is not one.",
            "Use stretch run -p TEXT to get a reply without it.",
        )
    if os.environ.get("TERM") in ("dumb", "unknown"):  # Textual would draw all the same, half of it wrongly
        raise UsageError(
            f"The chat draws a screen, and TERM={os.environ['TERM']} says that this terminal cannot.",
            "Set TERM to what it is, often xterm-256color, or use stretch run -p TEXT.",
        )
    from app.hangup import leave_with_the_terminal

    leave_with_the_terminal()
    # What is imported stays: looking through it for garbage would only delay the first frame.
    gc.disable()
    from app.chat.app import StretchApp
    from app.pasted import read_pastes_as_text

    read_pastes_as_text()
    app = StretchApp(options)
    if options.resume:
        app.store.conversation(options.resume)  # says so here if there is none
    theme = options.overrides.get("theme")
    if theme is not None and theme not in app.available_themes:
        raise UsageError(
            f"There is no theme called {theme!r}.", f"There are {', '.join(sorted(app.available_themes))}."
        )
    return app.run() or app.return_code or 0
