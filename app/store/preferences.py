"""The settings file and the settings of conversations, in layers.

defaults < the file < its table of the model < the conversation < the command line
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.paths import private_dir
from app.store.layer import Layer, read_layer
from app.store.locking import alone_in
from app.store.settings import SETTINGS, Settings, setting, template
from app.store.store import Store
from app.store.toml_edit import edited, replace_file
from quantize.errors import StoreError


@dataclass(frozen=True, slots=True)
class Scope:
    """For what a setting is set: everywhere, one model, or one conversation."""

    model: str = ""
    conversation: int = 0


EVERYWHERE = Scope()


def model_key(model: str) -> str:
    """The name of a model in the settings file: that of its file without folder and ``.gguf``."""
    name = re.split(r"[/\\]", model.rstrip("/\\"))[-1]
    return name[:-5] if name.lower().endswith(".gguf") else name


class Preferences:
    """Reads settings, and changes one without disturbing what a person wrote around it."""

    def __init__(self, path: Path, store: Store | None = None) -> None:
        self.path = path
        self.problems: tuple[str, ...] = ()
        """One sentence for each thing that could not be used; the layer below is used instead."""
        self._store = store
        self._seen: tuple[int, int, int] | None = None
        self._layer = Layer()
        self._read()

    # ------------------------------------------------------------------ reading

    def _read(self) -> Layer:
        """The file as it is now; parsed again only if it has changed."""
        try:
            stat = self.path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen != self._seen:
                self._layer = read_layer(self.path.read_text(encoding="utf-8-sig"), self.path.name)
                self._seen = seen
        except FileNotFoundError:
            self._layer, self._seen = Layer(), None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            self._layer, self._seen = Layer(sound=False), None
            self._layer.problems = [f"{self.path} cannot be read ({reason}). The defaults are used."]
        self.problems = tuple(self._layer.problems)
        return self._layer

    def _layers(
        self, model: str, conversation: int, overrides: Mapping[str, object] | None
    ) -> list[tuple[str, Mapping[str, Any]]]:
        file = self._read()
        layers: list[tuple[str, Mapping[str, Any]]] = [("file", file.values)]
        if model:
            for name in dict.fromkeys((model_key(model), model)):
                layers.append(("model", file.models.get(name, {})))
        if conversation and self._store is not None:
            own = read_layer(self._store.conversation(conversation).settings, "The conversation's settings")
            layers.append(("conversation", own.values))
            self.problems += tuple(own.problems)
        checked = {name: setting(name).check(value) for name, value in (overrides or {}).items()}
        return [*layers, ("command line", checked)]

    def resolve(
        self, *, model: str = "", conversation: int = 0, overrides: Mapping[str, object] | None = None
    ) -> Settings:
        """The settings that apply. The file is read again if it has changed.

        Raises:
            UsageError: if one of ``overrides`` does not exist or does not suit.
        """
        values: dict[str, Any] = {}
        for _, layer in self._layers(model, conversation, overrides):
            values.update(layer)
        return Settings(**values)

    def origins(
        self, *, model: str = "", conversation: int = 0, overrides: Mapping[str, object] | None = None
    ) -> dict[str, str]:
        """Where values come from: ``default``, ``file``, ``model``, ``conversation``, ``command line``."""
        found = dict.fromkeys(SETTINGS, "default")
        for origin, layer in self._layers(model, conversation, overrides):
            found.update(dict.fromkeys(layer, origin))
        return found

    # ------------------------------------------------------------------ writing

    def set_for(self, scope: Scope, key: str, value: object) -> None:
        """Set one setting. ``value`` may be of its type or a text that is read as such (``/set``).

        Raises:
            UsageError: if there is no such setting or the value does not suit it.
            StoreError: if the file cannot be written, or holds a mistake that must be mended first.
        """
        known = setting(key)
        wanted = known.parse(value) if isinstance(value, str) else known.check(value)
        self._change(scope, key, wanted)

    def unset_for(self, scope: Scope, key: str) -> None:
        """Let the layer below decide again.

        Raises:
            UsageError: if there is no such setting.
            StoreError: as for ``set_for``.
        """
        setting(key)
        self._change(scope, key, None)

    def create(self) -> None:
        """Write the file with every default as a comment, unless it exists."""
        if not self.path.exists():
            private_dir(self.path.parent)
            with alone_in(self.path.parent):
                if not self.path.exists():
                    replace_file(self.path, template())

    def _change(self, scope: Scope, key: str, value: object) -> None:
        if scope.conversation:
            if self._store is None:
                raise StoreError("There is no database of conversations to keep this setting in.")
            text = self._store.conversation(scope.conversation).settings
            self._store.set_settings(scope.conversation, edited(text, "", key, value, flat=True))
            return
        private_dir(self.path.parent)
        with alone_in(self.path.parent):
            self._seen = None
            if not self._read().sound:
                raise StoreError(
                    f"The setting cannot be saved, since {self.path} holds a mistake.", self.problems[0]
                )
            text = self.path.read_text(encoding="utf-8-sig") if self.path.exists() else template()
            table = self._table_of(scope.model)
            replace_file(self.path, edited(text, table, key, value, flat=bool(scope.model)))

    def _table_of(self, model: str) -> str:
        """The name that the person used for ``model``, if there is a table already."""
        return model if model in self._layer.models else model_key(model)
