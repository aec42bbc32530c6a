"""Every slash command: its name, what follows it, what it does and the key that does the same.

One table for the completion, the palette, the help and the parser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["Cache", "Conversation", "Message", "Model", "Program"]


@dataclass(frozen=True, slots=True)
class SlashCommand:
    """One command."""

    name: str
    args: str
    """What follows the name, as the help shows it."""
    summary: str
    group: Group
    key: str = ""
    """The key that does the same, as Textual names it (``ctrl+k``), or empty."""
    aliases: tuple[str, ...] = ()
    palette: bool = True
    """Whether it makes sense without an argument."""


COMMANDS: tuple[SlashCommand, ...] = (
    SlashCommand("kv", "[K[/V]]", "Change the cache types, for example /kv q8_0/q4_0", "Cache", "ctrl+k"),
    SlashCommand("next", "", "Go on to the next cache preset", "Cache", "ctrl+t"),
    SlashCommand("ctx", "[N]", "Change the length of the context, for example /ctx 16384", "Cache", "ctrl+l"),
    SlashCommand("tail", "N", "Keep the last N tokens exact", "Cache", palette=False),
    SlashCommand("undo", "", "Go back to the cache before the last change", "Cache", "ctrl+z"),
    SlashCommand("reprefill", "", "Read the conversation again, exactly", "Cache", "f8"),
    SlashCommand("panel", "", "Fold or open the memory panel", "Cache", "ctrl+b"),
    SlashCommand("stats", "", "Show the figures of the engine in the conversation", "Cache"),
    SlashCommand("new", "", "Begin a new conversation", "Conversation", "ctrl+n"),
    SlashCommand("chats", "", "List, search and open conversations", "Conversation", "ctrl+r"),
    SlashCommand("search", "TEXT", "Search all conversations", "Conversation", "f3"),
    SlashCommand("rename", "TITLE", "Give this conversation a title", "Conversation", palette=False),
    SlashCommand("delete", "", "Delete this conversation", "Conversation"),
    SlashCommand("export", "md|json [FILE]", "Write this conversation to a file", "Conversation"),
    SlashCommand("system", "[TEXT]", "Show or set the system prompt", "Conversation"),
    SlashCommand("edit", "[TEXT]", "Say your last message differently", "Message", "f2"),
    SlashCommand("regenerate", "", "Write the last reply again", "Message", "f5", ("retry",)),
    SlashCommand("continue", "", "Let an unfinished reply go on", "Message", "f6"),
    SlashCommand(
        "branch", "[N|next|prev]", "Walk between the versions of the last turn", "Message", "alt+right"
    ),
    SlashCommand("copy", "[code]", "Copy the last reply, or its last code block", "Message", "ctrl+y"),
    SlashCommand("stop", "", "Stop the reply or the reading", "Message", "escape"),
    SlashCommand("model", "[NAME]", "Choose or load a model", "Model", "ctrl+o"),
    SlashCommand(
        "set", "[NAME VALUE]", "Change a setting, for example /set temperature 0.2", "Program", "f4"
    ),
    SlashCommand("theme", "[NAME]", "Change the colours", "Program"),
    SlashCommand("log", "", "Say where the engine's log is", "Program"),
    SlashCommand("help", "", "Show all keys and commands", "Program", "f1"),
    SlashCommand("quit", "", "Leave; everything is saved", "Program", "ctrl+q", ("exit",)),
)
