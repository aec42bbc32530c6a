"""The ways to make a cache smaller that are no cache types, and how another one joins.

A method is a subclass of ``Setting`` in a file of its own, and one line in ``METHODS``. Then ``stretch eval
--KIND`` measures it in the same table, JSON file and picture as the cache types. It needs

- ``kind``: its name, which is also its option, and ``settles = True`` if it works on a text that was read;
- ``label``: as it stands in the table, the same for equal settings and different for all others;
- ``parse(text)``: a class method that reads one entry of the option's list (``split_pair`` cuts off the
  types behind an ``@``) and raises ``CacheTypeError`` or ``UsageError``;
- ``data()``: its own fields added to ``Setting.data``; they come back as arguments of the constructor;
- ``sized(plain, n_ctx)``: its sizes, from those of its types alone. A method that half of the tokens
  survive returns ``replace(plain, bytes_per_token=plain.bytes_per_token / 2, kv_bytes=plain.kv_bytes // 2)``;
- ``open(bench, n_ctx, n_batch, n_outputs)``: a ``Subject``. Usually it opens the cache that the text is
  read into, and wraps it in a subject of its own whose ``settle()`` saves the state, rewrites it, loads it
  into another context and takes that (``Subject.replace``). ``settle`` is called once, after the text and
  before anything that is judged: the next tokens of the text, or questions about it;
- where the size is known only afterwards, ``Subject.footprint`` after ``settle``.

Everything of it but ``open`` runs in processes without llama.cpp: import that inside ``open``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import cast

from quantize.cache_types import CachePair, parse_pair
from quantize.errors import UsageError
from quantize.lab.setting import REFERENCE, Setting


@dataclass(frozen=True, slots=True)
class Method:
    """One way, as the command line offers it."""

    kind: str
    """``Setting.kind``, and the name of the option."""
    place: str
    """``module:class``, imported when it is needed."""
    metavar: str
    help: str

    @property
    def setting_class(self) -> type[Setting]:
        """Its class."""
        module, name = self.place.split(":")
        return cast(type[Setting], getattr(import_module(module), name))

    def parse_list(self, text: str) -> list[Setting]:
        """The settings of one option's value: a list with commas.

        Raises:
            StretchError: if one of them is none.
        """
        return [self.setting_class.parse(part.strip()) for part in text.split(",") if part.strip()]


METHODS: tuple[Method, ...] = (
    Method(
        "switched",
        "quantize.lab.switched:SwitchedSetting",
        "LIST",
        "types that the cache is changed to after it was read as f16: tq3,q4_0",
    ),
    Method(
        "prune",
        "quantize.lab.pruned:PrunedSetting",
        "LIST",
        "ways to prune and percents to keep, with types if wanted: kvzip:25,lagkv:50,kvzip:25@tq3+256",
    ),
    Method(
        "park",
        "quantize.lab.parked:ParkedSetting",
        "LIST",
        "codecs that the text is parked with and resumed: auto,learned,turboquant:3,ggml:q4_0",
    ),
)


def setting_class(kind: str) -> type[Setting]:
    """The class of the settings of a kind.

    Raises:
        UsageError: if there is none.
    """
    if kind == Setting.kind:
        return Setting
    for method in METHODS:
        if method.kind == kind:
            return method.setting_class
    raise UsageError(f"There is no kind of setting called {kind!r}.")


def split_pair(text: str) -> tuple[str, CachePair]:
    """``keydiff:50@tq3`` as ``keydiff:50`` and the types; without ``@`` they are those of the reference.

    Raises:
        CacheTypeError: if the types are none.
    """
    own, at, types = text.partition("@")
    return own.strip(), parse_pair(types) if at else REFERENCE.pair
