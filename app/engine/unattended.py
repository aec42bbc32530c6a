"""A conversation without a person: turns, slash commands, and a policy for a full context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from app.engine.dialogue import Dialogue
from app.engine.protocol import (
    KEEP_TAIL,
    Ask,
    CacheChanged,
    ContextFull,
    Finished,
    Forget,
    FullOption,
    Generate,
    Pin,
    PruneCache,
    Sampling,
    SetCache,
    Status,
    Turn,
    UndoCache,
)
from app.engine.prune_words import parse_prune
from app.lengths import parse_length
from quantize.cache_types import parse_cache, parse_tail
from quantize.errors import BreaksModelError, ContextFullError, UsageError

MAX_REMEDIES = 16
"""Changes that one reply may need before it is given up."""

_SETTINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "temperature": ("temperature", float),
    "temp": ("temperature", float),
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
    "min_p": ("min_p", float),
    "repeat_penalty": ("repeat_penalty", float),
    "seed": ("seed", int),
    "max_tokens": ("max_tokens", int),
}

ANYWAY = "anyway"
"""Behind /kv or /tail: even if it breaks the model."""

HELP = (
    "/kv K[/V] [anyway], /ctx N, /tail N|off|auto [anyway], /prune 50% [POLICY], /pin [TEXT], /undo, "
    "/reprefill, /stats, /system [TEXT], /set NAME VALUE, /regenerate, /continue, /edit TEXT, /new"
)


@dataclass
class Reply:
    """A finished reply: the last ``Finished``, with text and counts of all its pieces."""

    finished: Finished
    text: str
    n_generated: int
    prefill_s: float
    generate_s: float


@dataclass
class Conversation:
    """The turns, and how to go on with them."""

    dialogue: Dialogue
    sampling: Sampling
    on_full: str = "stop"
    """One of ``app.engine.policies.POLICIES``."""
    system: str = ""
    turns: list[Turn] = field(default_factory=list)
    pins: list[tuple[int, str]] = field(default_factory=list)
    """Messages by their index, with the passage that must not be pruned (empty: all of it)."""
    on_change: Callable[[CacheChanged], None] = lambda _changed: None
    """Called with every change of the cache, those of the policy too."""
    on_drop: Callable[[int], None] = lambda _n: None
    """Called with the number of turns that the policy dropped."""

    def say(self, text: str) -> Reply:
        """Send a user's message and wait for the reply. Without one the message is taken back.

        Raises:
            StretchError: as the engine says; ``ContextFullError`` if it does not fit and the policy
                has no way out.
        """
        self.turns.append(Turn("user", text))
        try:
            reply = self._reply()
        except BaseException:
            # A policy may have dropped older turns; the newest one is still the last.
            self.turns.pop()
            raise
        self.turns.append(Turn("assistant", reply.text))
        return reply

    def regenerate(self) -> Reply:
        """Write the last reply again.

        Raises:
            UsageError: if there is none.
        """
        if not self.turns:
            raise UsageError("There is no reply to write again.")
        del self.turns[-1]
        return self.say(self.turns.pop().content)

    def go_on(self) -> Reply:
        """Let the last reply go on from where it ended.

        Raises:
            UsageError: if there is none.
        """
        if not self.turns:
            raise UsageError("There is no reply that could go on.")
        before = self.turns.pop()
        try:
            more = self._reply(before.content)
        except BaseException:
            self.turns.append(before)
            raise
        self.turns.append(Turn("assistant", before.content + more.text))
        return more

    def edit(self, text: str) -> Reply:
        """Say the last message differently.

        Raises:
            UsageError: if there is none.
        """
        if not self.turns:
            raise UsageError("There is no message to edit.")
        del self.turns[-2:]
        return self.say(text)

    # ------------------------------------------------------------------ the full context

    def _reply(self, prefix: str = "") -> Reply:
        text, n_generated, prefill_s, generate_s = "", 0, 0.0, 0.0
        for _ in range(MAX_REMEDIES):
            left = self.sampling.max_tokens - n_generated if self.sampling.max_tokens >= 0 else -1
            answer = self.dialogue.ask(
                Generate(
                    self.dialogue.next_id(),
                    self._with_system(),
                    replace(self.sampling, max_tokens=left),
                    prefix=prefix + text,
                ),
                Finished,
                ContextFull,
            )
            if isinstance(answer, Finished):
                text += answer.text
                n_generated += answer.n_generated
                prefill_s += answer.prefill_s
                generate_s += answer.generate_s
                if answer.reason != "context" or self.on_full == "stop" or answer.n_generated == 0:
                    return Reply(answer, text, n_generated, prefill_s, generate_s)
                continue  # asking to go on says what the ways out are
            if not self._remedy(answer):
                if text:  # as far as it came
                    stopped = Finished(answer.id, "context", "", answer.n_needed, 0, 0, 0.0, 0.0, 0.0)
                    return Reply(stopped, text, n_generated, prefill_s, generate_s)
                needed, n_ctx = f"{answer.n_needed:,}", f"{answer.n_ctx:,}"
                raise ContextFullError(
                    f"The conversation needs {needed} tokens and the context has {n_ctx}.",
                    _ways_out(answer.options),
                )
        raise ContextFullError("The context stayed full after every remedy that was tried.")

    def _with_system(self) -> tuple[Turn, ...]:
        return (Turn("system", self.system), *self.turns) if self.system else tuple(self.turns)

    def _remedy(self, full: ContextFull) -> bool:
        option = next((o for o in full.options if o.action == self.on_full), None)
        if option is None:
            return False
        if option.action == "drop":
            del self.turns[: option.n_drop]
            self.on_drop(option.n_drop)
        elif option.action == "prune":
            id = self.dialogue.next_id()
            self.change(PruneCache(id, self._with_system(), pins=self._pins(), until=option.n_ctx))
        else:
            self.change(
                SetCache(self.dialogue.next_id(), option.type_k, option.type_v, option.n_ctx, option.tail)
            )
        return True

    # ------------------------------------------------------------------ commands

    def _pins(self) -> tuple[Pin, ...]:
        first = 1 if self.system else 0
        return tuple(Pin(first + turn, text) for turn, text in self.pins if turn < len(self.turns))

    def prune(self, rest: str) -> CacheChanged:
        """``50% [POLICY] [whole]``.

        Raises:
            UsageError: if it is none.
        """
        keep, name, whole = parse_prune(rest)
        return self.change(
            PruneCache(self.dialogue.next_id(), self._with_system(), keep, name, self._pins(), whole)
        )

    def pin(self, text: str) -> str:
        """Protect a passage, or the last message, from pruning.

        Raises:
            UsageError: if there is no such passage.
        """
        for turn in reversed(range(len(self.turns))):
            if (text and text in self.turns[turn].content) or (not text and self.turns[turn].role == "user"):
                self.pins.append((turn, text))
                return "It stays whole whatever is pruned."
        raise UsageError("No message holds that." if text else "There is no message to pin yet.")

    def change(self, command: SetCache | UndoCache | PruneCache) -> CacheChanged:
        """Change the cache.

        Raises:
            StretchError: as the engine says.
        """
        try:
            changed = self.dialogue.ask(command, CacheChanged)
        except BreaksModelError as error:
            hint = f"To have it all the same, end the line with {ANYWAY}."
            raise BreaksModelError(error.message, hint) from None
        self.on_change(changed)
        return changed

    def stats(self) -> Status:
        """The figures."""
        return self.dialogue.ask(Ask(self.dialogue.next_id()), Status)

    def command(self, line: str) -> Reply | CacheChanged | Status | str:
        """Do a slash command; a sentence is returned where nothing else describes what was done.

        Raises:
            UsageError: if there is no such command or it makes no sense.
            StretchError: as the engine says.
        """
        name, _, rest = line.removeprefix("/").partition(" ")
        rest = rest.strip()
        id = self.dialogue.next_id()
        match name.lower():
            case "kv":
                wish, anyway = _anyway(_needed(name, rest))
                pair, tail = parse_cache(_needed(name, wish))
                tail = KEEP_TAIL if tail is None else tail
                return self.change(SetCache(id, pair.k.name, pair.v.name, tail=tail, accept_loss=anyway))
            case "ctx":
                return self.change(SetCache(id, n_ctx=parse_length(_needed(name, rest))))
            case "tail":
                wish, anyway = _anyway(_needed(name, rest))
                return self.change(SetCache(id, tail=parse_tail(wish), accept_loss=anyway))
            case "undo":
                return self.change(UndoCache(id))
            case "prune":
                return self.prune(rest)
            case "pin":
                return self.pin(rest)
            case "reprefill":
                return self.change(SetCache(id, reprefill=True))
            case "stats":
                return self.stats()
            case "system":
                if not rest:
                    return (
                        f"The system prompt: {self.system}" if self.system else "There is no system prompt."
                    )
                self.system = "" if rest == "none" else rest
                return "The system prompt is set." if self.system else "The system prompt is gone."
            case "set":
                return self._set(rest)
            case "regenerate" | "retry":
                return self.regenerate()
            case "continue":
                return self.go_on()
            case "edit":
                return self.edit(_needed(name, rest))
            case "new":
                self.turns.clear()
                self.pins.clear()
                self.dialogue.ask(Forget(id), Status)
                return "A new conversation begins."
        raise UsageError(f"There is no command /{name}.", f"There are: {HELP}.")

    def _set(self, rest: str) -> str:
        name, _, value = rest.partition(" ")
        known = _SETTINGS.get(name.strip().lower().replace("-", "_"))
        if known is None:
            raise UsageError(
                f"There is no setting called {name!r}.", "There are: " + ", ".join(_SETTINGS) + "."
            )
        key, kind = known
        try:
            number = kind(value)
        except ValueError:
            raise UsageError(f"{value!r} is no value for {key}.") from None
        self.sampling = replace(self.sampling, **{key: number})
        return f"{key} is now {number}."


def _anyway(text: str) -> tuple[str, bool]:
    """What was asked for, and whether it was said that it is meant whatever it does to the model."""
    wish, _, word = text.rpartition(" ")
    return (wish.strip(), True) if word == ANYWAY else (text, False)


def _needed(name: str, rest: str) -> str:
    if not rest:
        raise UsageError(f"/{name} needs an argument.", f"There are: {HELP}.")
    return rest


def _ways_out(options: tuple[FullOption, ...]) -> str:
    if not options:
        return "Nothing that fits in the memory would make enough room: begin a new conversation."
    return " ".join(f"--on-full {o.action}: {o.sentence}" for o in options)
