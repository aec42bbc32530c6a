"""Every slash command: its name, what follows it, what it does and the key that does the same.

One table for the parser, the completion, the palette, the keys and the help.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

Group = Literal["Cache", "Conversation", "Message", "Model", "Program"]


@dataclass(frozen=True, slots=True)
class SlashCommand:
    """One command. Its name is also the name of its key in the settings file."""

    name: str
    args: str
    """What follows the name, as the help shows it; in brackets what may be left out."""
    summary: str
    group: Group
    key: str = ""
    """The key that does the same, as Textual names it (``ctrl+k``), or empty."""
    aliases: tuple[str, ...] = ()

    @property
    def takes_args(self) -> bool:
        """Whether something may follow the name."""
        return bool(self.args)

    @property
    def needs_args(self) -> bool:
        """Whether it does nothing without an argument."""
        return bool(self.args) and not self.args.startswith("[")


COMMANDS: tuple[SlashCommand, ...] = (
    SlashCommand("kv", "[K[/V]]", "Change the cache types, for example /kv q8_0/q4_0", "Cache", "ctrl+k"),
    SlashCommand("next", "", "Go on to the next cache preset", "Cache", "ctrl+t"),
    SlashCommand("ctx", "[N]", "Change the length of the context, for example /ctx 16384", "Cache", "ctrl+l"),
    SlashCommand("tail", "N|off|auto", "Keep the newest N tokens exact beside a compressed cache", "Cache"),
    SlashCommand("prune", "[50%] [POLICY]", "Show what the cache can do without, then leave it out", "Cache"),
    SlashCommand("pin", "[TEXT]", "Keep a passage, or your last message, from being pruned", "Cache"),
    SlashCommand("undo", "", "Go back to the cache before the last change", "Cache", "f7"),
    SlashCommand("reprefill", "", "Read the conversation again, exactly", "Cache", "f8"),
    SlashCommand("measure", "[model]", "Measure what this chat or the model loses elsewhere", "Cache", "f9"),
    SlashCommand("panel", "", "Fold or open the memory panel", "Cache", "ctrl+g"),
    SlashCommand("stats", "", "Write the engine's figures into the page", "Cache"),
    SlashCommand("new", "", "Begin a new conversation", "Conversation", "ctrl+n"),
    SlashCommand("chats", "[TEXT]", "List, search and open conversations", "Conversation", "ctrl+r"),
    SlashCommand("park", "[CODEC]", "Put this conversation's cache on the disk, compressed", "Conversation"),
    SlashCommand("resume", "", "Take this conversation's cache from the disk", "Conversation"),
    SlashCommand("search", "[TEXT]", "Search in all conversations", "Conversation", "f3"),
    SlashCommand("rename", "TITLE", "Give this conversation a title", "Conversation"),
    SlashCommand("delete", "", "Delete this conversation", "Conversation"),
    SlashCommand("restore", "", "Bring back the conversation that was deleted last", "Conversation"),
    SlashCommand("export", "md|json [FILE]", "Write this conversation to a file", "Conversation"),
    SlashCommand("system", "[TEXT]", "Show or set the system prompt; 'none' removes it", "Conversation"),
    SlashCommand("edit", "[TEXT]", "Say your last message differently", "Message", "f2"),
    SlashCommand("regenerate", "", "Write the last reply again", "Message", "f5", ("retry",)),
    SlashCommand("continue", "", "Let an unfinished reply go on", "Message", "f6"),
    SlashCommand("branch", "[next|prev|N]", "Show another version of the last turn", "Message", "alt+right"),
    SlashCommand("copy", "[code]", "Copy the last reply, or its last block of code", "Message", "ctrl+y"),
    SlashCommand("stop", "", "Stop the reply or the reading", "Message", "escape"),
    SlashCommand("model", "[NAME]", "Choose or load a model", "Model", "ctrl+o", ("models",)),
    SlashCommand("restart", "", "Start the engine again, with the settings as they are now", "Model"),
    SlashCommand(
        "set", "[NAME [VALUE]]", "Change a setting, for example /set temperature 0.2", "Program", "f4"
    ),
    SlashCommand("theme", "[NAME]", "Change the colours", "Program"),
    SlashCommand("log", "", "Say where the engine's log is", "Program"),
    SlashCommand("help", "", "Show all keys and commands", "Program", "f1"),
    SlashCommand("quit", "", "Leave; everything is saved", "Program", "ctrl+q", ("exit",)),
)

BY_NAME: dict[str, SlashCommand] = {
    name: command for command in COMMANDS for name in (command.name, *command.aliases)
}

_WORD = re.compile(r"/([A-Za-z][A-Za-z_-]*)(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Call:
    """A command and what followed it."""

    command: SlashCommand
    args: str


@dataclass(frozen=True, slots=True)
class UnknownCommand:
    """Something that looks like a command and is none."""

    name: str
    nearest: str
    """The command that was probably meant, or empty."""


def parse(text: str) -> Call | UnknownCommand | None:
    """Read a line as a command; None if it is something to say.

    ``/usr/bin`` and ``/ 2`` are no commands, and a second slash (``//kv``) says that the text
    is meant for the model.
    """
    match = _WORD.match(text)
    if match is None:
        return None
    name = match[1].lower()
    if name in BY_NAME:
        return Call(BY_NAME[name], text[match.end() :].strip())
    return UnknownCommand(match[1], nearest(name))


def unescape(text: str) -> str:
    """``//kv`` as the message ``/kv``."""
    return text[1:] if text.startswith("//") else text


def nearest(name: str) -> str:
    """The command whose name is most like ``name``, or empty."""
    begun = [known for known in BY_NAME if known.startswith(name)]
    if len(begun) == 1:
        return begun[0]
    found = difflib.get_close_matches(name, BY_NAME, n=1, cutoff=0.5)
    return found[0] if found else (begun[0] if begun else "")
