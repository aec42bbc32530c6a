"""The settings: what there is to set, of which type, and how values are checked.

Reading and writing them is ``app.store.preferences``. Every setting has one name that is the same
everywhere: the attribute of ``Settings``, the key in the TOML file, the word after ``/set``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from app.engine.protocol import Sampling
from quantize.cache_types import AUTO_TAIL, MAX_TAIL, cache_type
from quantize.errors import CacheTypeError, UsageError

_SAMPLING = Sampling()


def _setting(
    default: Any,
    section: str,
    about: str,
    *,
    low: float = 0,
    high: float = 0,
    choices: tuple[str, ...] = (),
    cache: bool = False,
) -> Any:
    about_it = {
        "section": section,
        "about": about,
        "low": low,
        "high": high,
        "choices": choices,
        "cache": cache,
    }
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=about_it)
    return field(default=default, metadata=about_it)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, resolved."""

    type_k: str = _setting("f16", "cache", "Type of the keys in the cache.", cache=True)
    type_v: str = _setting("f16", "cache", "Type of the values in the cache.", cache=True)
    n_ctx: int = _setting(
        0, "cache", "Length of the context in tokens; 0 lets Stretch choose.", low=0, high=1 << 24
    )
    tail: int = _setting(
        AUTO_TAIL,
        "cache",
        "Newest tokens that are kept exact beside a compressed cache; 0 keeps none, -1 lets Stretch choose.",
        low=AUTO_TAIL,
        high=MAX_TAIL,
    )
    on_full: str = _setting(
        "ask",
        "cache",
        "What happens when the context is full.",
        choices=("ask", "longer", "smaller", "prune", "drop", "stop"),
    )

    park: bool = _setting(True, "parking", "Put the cache of a conversation away when you leave it.")
    park_codec: str = _setting(
        "auto", "parking", "How it is compressed; auto takes the smallest that is good enough."
    )
    park_kld: float = _setting(
        0.002, "parking", "What auto accepts: mean KLD of the tokens that follow.", low=0, high=1
    )
    park_budget: int = _setting(
        2048, "parking", "MiB of the disk for parked conversations; the oldest go first.", low=0, high=1 << 24
    )

    n_threads: int = _setting(
        0,
        "engine",
        "Most threads that compute; 0 takes the fastest number.",
        low=0,
        high=1024,
    )
    adapt_threads: bool = _setting(
        True, "engine", "Compute with fewer threads while other programs keep the cores busy."
    )
    measure_loss: bool = _setting(
        True, "engine", "Measure at idle, once per model, what each cache setting costs on it."
    )
    repack: bool = _setting(True, "engine", "Keep a second, faster copy of some weights in memory.")
    n_gpu_layers: int = _setting(
        0, "engine", "Layers that a GPU computes, if there is one.", low=-1, high=1 << 16
    )

    temperature: float = _setting(
        _SAMPLING.temperature, "sampling", "0 always takes the likeliest token.", low=0, high=10
    )
    top_k: int = _setting(
        _SAMPLING.top_k, "sampling", "Choose among this many tokens; 0 among all.", low=0, high=1 << 20
    )
    top_p: float = _setting(
        _SAMPLING.top_p, "sampling", "Choose among this share of probability.", low=0, high=1
    )
    min_p: float = _setting(
        _SAMPLING.min_p, "sampling", "Leave out tokens below this share of the likeliest.", low=0, high=1
    )
    repeat_penalty: float = _setting(
        _SAMPLING.repeat_penalty, "sampling", "Above 1 avoids repetition.", low=0.01, high=10
    )
    seed: int = _setting(
        _SAMPLING.seed, "sampling", "-1 draws a new one for every reply.", low=-1, high=(1 << 32) - 1
    )
    max_tokens: int = _setting(
        _SAMPLING.max_tokens, "sampling", "Longest reply; -1 lets the model end it.", low=-1, high=1 << 24
    )

    system_prompt: str = _setting("", "chat", "What the model is told before every conversation.")
    thinking: str = _setting(
        "folded", "chat", "How thinking blocks are shown.", choices=("folded", "open", "hidden")
    )

    theme: str = _setting("stretch", "screen", "Colours; the palette in the chat lists the themes.")
    panel: bool = _setting(True, "screen", "Show the memory panel beside the chat.")

    default_model: str = _setting("builtin", "models", "The model that stretch opens without a name.")
    model_folders: tuple[str, ...] = _setting((), "models", "Folders with GGUF files of your own.")

    keys: Mapping[str, str] = _setting({}, "keys", "Keys that differ from the built-in ones.")

    @property
    def sampling(self) -> Sampling:
        """The sampling settings as the engine takes them."""
        return Sampling(**{name: getattr(self, name) for name in Sampling.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of one setting."""

    name: str
    section: str
    """Its table in the file."""
    default: Any
    about: str
    """One sentence."""
    low: float
    high: float
    choices: tuple[str, ...]
    cache: bool
    """Whether it names a cache type."""

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        match self.default:
            case bool():
                return "true or false"
            case int():
                return f"a whole number from {_round(self.low)} to {_round(self.high)}"
            case float():
                return f"a number from {_round(self.low)} to {_round(self.high)}"
            case tuple():
                return "a list of texts"
            case dict():
                return "a table of texts"
        return "a text"

    def check(self, value: Any) -> Any:
        """``value`` in its exact type.

        Raises:
            UsageError: if it does not suit; the message names the setting.
        """
        match self.default:
            case bool():
                if isinstance(value, bool):
                    return value
            case int() | float() as default:
                if self._is_number(value, whole=isinstance(default, int)) and self.low <= value <= self.high:
                    return type(default)(value)
            case tuple():
                if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
                    return tuple(str(v) for v in value)
            case dict():
                if isinstance(value, Mapping) and all(isinstance(v, str) for v in value.values()):
                    return {str(k): str(v) for k, v in value.items()}
            case _:
                if isinstance(value, str):
                    return self._check_text(str(value))
        raise self._unsuitable(value)

    @staticmethod
    def _is_number(value: Any, *, whole: bool) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return not whole or isinstance(value, int) or value.is_integer()

    def _check_text(self, value: str) -> str:
        if self.cache:
            try:
                return cache_type(value).name
            except CacheTypeError as error:
                raise UsageError(f"{self.name}: {error.message}", error.hint) from error
        if self.choices and value not in self.choices:
            raise self._unsuitable(value)
        return value

    def _unsuitable(self, value: object) -> UsageError:
        shown = (
            value
            if isinstance(value, int | float | str) and not isinstance(value, bool)
            else str(value).lower()
        )
        return UsageError(f"{self.name} must be {self.expected}, not {shown!r}.")

    def parse(self, text: str) -> Any:
        """Read what a person typed: ``0.7``, ``16k``, ``on``, ``a, b``.

        Raises:
            UsageError: if it does not suit.
        """
        text = text.strip()
        if isinstance(self.default, bool):
            words = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}
            return self.check(words.get(text.lower(), text))
        if isinstance(self.default, int | float):
            thousands = isinstance(self.default, int) and text[-1:] in ("k", "K")
            try:
                return self.check(float(text[:-1]) * 1024 if thousands else float(text))
            except (ValueError, UsageError):
                raise self._unsuitable(text) from None
        if isinstance(self.default, tuple):
            return self.check([part.strip() for part in text.split(",") if part.strip()])
        return self.check(text)


def _round(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _table() -> dict[str, Setting]:
    plain = Settings()
    return {
        f.name: Setting(name=f.name, default=getattr(plain, f.name), **f.metadata) for f in fields(Settings)
    }


SETTINGS: dict[str, Setting] = _table()
"""Every setting by name, in the order of the file."""

SECTIONS: tuple[str, ...] = tuple(dict.fromkeys(s.section for s in SETTINGS.values()))
"""The tables of the file."""


def setting(name: str) -> Setting:
    """The setting called ``name``.

    Raises:
        UsageError: if there is none; the hint names the nearest.
    """
    found = SETTINGS.get(name)
    if found is None:
        near = get_close_matches(name, SETTINGS, n=1)
        hint = f"Did you mean {near[0]}?" if near else "The settings are " + ", ".join(SETTINGS) + "."
        raise UsageError(f"There is no setting called {name!r}.", hint)
    return found


def template() -> str:
    """A settings file in which every default stands as a comment."""
    parts = [
        "# Settings of Stretch. A line without # in front is in force; delete it to return to the default.",
        '# A table like [model."Qwen3-4B-Q4_K_M"] holds settings for one model: the name of its file without',
        "# .gguf. What is changed inside a conversation stays with that conversation.",
    ]
    for section in SECTIONS:
        parts += ["", f"[{section}]"]
        for s in SETTINGS.values():
            if s.section != section:
                continue
            if s.name == "keys":
                parts += [f"# {s.about} F1 in the chat lists the names.", '# kv = "ctrl+k"']
                continue
            choices = f" One of: {', '.join(s.choices)}." if s.choices else ""
            parts += [f"# {s.about}{choices}", f"# {s.name} = {to_toml(s.default)}"]
    return "\n".join(parts) + "\n"


def to_toml(value: object) -> str:
    """One value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        import json

        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple | list):
        return "[" + ", ".join(to_toml(v) for v in value) + "]"
    return repr(value)
