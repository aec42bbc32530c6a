"""The settings: what there is to set, of which type, and how values are checked.

Reading and writing them is ``app.store.preferences``. Every setting has one name that is the same
everywhere: the attribute of ``Settings``, the key in the TOML file, the word after ``/set``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.engine.protocol import Sampling

_SAMPLING = Sampling()


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, resolved."""

    # [cache]
    type_k: str = "f16"
    type_v: str = "f16"
    n_ctx: int = 0
    """0 lets Stretch choose."""
    tail: int = 0
    """Newest tokens that are kept exact beside a compressed cache."""
    on_full: str = "ask"
    """When the context is full: ``ask``, ``longer``, ``smaller``, ``drop`` or ``stop``."""
    # [engine]
    repack: bool = True
    n_threads: int = 0
    n_gpu_layers: int = 0
    # [sampling]
    temperature: float = _SAMPLING.temperature
    top_k: int = _SAMPLING.top_k
    top_p: float = _SAMPLING.top_p
    min_p: float = _SAMPLING.min_p
    repeat_penalty: float = _SAMPLING.repeat_penalty
    seed: int = _SAMPLING.seed
    max_tokens: int = _SAMPLING.max_tokens
    # [chat]
    system_prompt: str = ""
    thinking: str = "folded"
    """Thinking blocks are shown ``folded``, ``open`` or not at all (``hidden``)."""
    # [screen]
    theme: str = "stretch"
    panel: bool = True
    # [models]
    default_model: str = "builtin"
    model_folders: tuple[str, ...] = ()
    # [keys]
    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys of actions that differ from the built-in ones: ``cycle_cache = "ctrl+k"``."""

    @property
    def sampling(self) -> Sampling:
        """The sampling settings as the engine takes them."""
        return Sampling(**{name: getattr(self, name) for name in Sampling.__dataclass_fields__})
