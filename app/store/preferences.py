"""The settings file and the settings of conversations, in layers.

defaults < the file < its table of the model < the conversation < the command line
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.store.settings import Settings
from app.store.store import Store


@dataclass(frozen=True, slots=True)
class Scope:
    """For what a setting is set: everywhere, one model, or one conversation."""

    model: str = ""
    conversation: int = 0


EVERYWHERE = Scope()


class Preferences:
    """Reads settings, and changes one without disturbing what a person wrote around it."""

    def __init__(self, path: Path, store: Store | None = None) -> None:
        self.path = path
        self.problems: tuple[str, ...] = ()
        """One sentence for each thing in the file that could not be used; the default is used instead."""

    def resolve(
        self, *, model: str = "", conversation: int = 0, overrides: Mapping[str, object] | None = None
    ) -> Settings:
        """The settings that apply. The file is read again if it has changed."""
        return Settings()

    def origins(
        self, *, model: str = "", conversation: int = 0, overrides: Mapping[str, object] | None = None
    ) -> dict[str, str]:
        """Where values come from: ``default``, ``file``, ``model``, ``conversation``, ``command line``."""
        return {}

    def set_for(self, scope: Scope, key: str, value: object) -> None:
        """Set one setting. ``value`` may be of its type or a text that is read as such (``/set``).

        Raises:
            UsageError: if there is no such setting or the value does not suit it.
            StoreError: if the file cannot be written, or holds a mistake that must be mended first.
        """

    def unset_for(self, scope: Scope, key: str) -> None:
        """Let the layer below decide again."""
