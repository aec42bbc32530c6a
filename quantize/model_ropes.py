"""How every layer of a model turns K: asked of the engine's own graph, or read from the metadata.

The graph is right for every architecture and costs a context of a few cells. The metadata is read where the
native library is missing; what an architecture decides by itself (layers without positions, a base of its own
in sliding layers) is then known for some architectures only.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import replace

from quantize.errors import StretchError
from quantize.geometry import Geometry
from quantize.llama import Context, Model
from quantize.native.rope_node import recording
from quantize.rope import Rope, Ropes
from quantize.rope_parameters import NEOX, NORM, RopeParameters
from quantize.tensor_file import read_floats

_PROBE_CELLS = 256
_SHORT, _LONG = "rope_factors_short.weight", "rope_factors_long.weight"
_FREQUENCIES = "rope_freqs.weight"
_OWN_BASE = {"gemma3", "gemma3n", "gemma4"}
"""Architectures whose sliding layers have a base and no scaling if the file does not say which."""
_SWA_BASE = 10000.0
_ONLY_SLIDING = {"cohere2", "exaone4", "muse-glimmer"}
"""Architectures whose layers without a window know no positions."""
_EVERY_FOURTH = {"smollm3", "llama4"}
"""Architectures of which every fourth layer knows none."""

Parameters = list[list[RopeParameters]]

_found: weakref.WeakKeyDictionary[Model, dict[Geometry, Parameters]] = weakref.WeakKeyDictionary()


def same_for_all(geometry: Geometry, rope: Rope) -> Ropes:
    """``rope`` in every layer."""
    return tuple((rope,) * len(part) for part in geometry.parts)


def ropes_of(model: Model, geometry: Geometry, n_ctx: int = 0) -> Ropes:
    """How each layer turns K. The model is asked once.

    Args:
        geometry: the model's caches.
        n_ctx: of the context whose K it is, for models with other frequencies in long contexts (LongRoPE);
            0 for a short one.
    """
    known = _found.setdefault(model, {})
    if geometry not in known:
        known[geometry] = _from_graph(model, geometry) or _from_metadata(model, geometry)
    return tuple(tuple(_for_length(model, layer, n_ctx).rope() for layer in part) for part in known[geometry])


def _from_graph(model: Model, geometry: Geometry) -> Parameters | None:
    """What a small context shows; None without the library, without a context, or without some layer."""
    with recording() as recorded:
        if recorded is None:
            return None
        try:
            # in host memory whatever the layers are computed on: other devices do not ask Stretch's
            Context(model, n_ctx=_PROBE_CELLS, n_batch=32, n_ubatch=32, n_threads=1, offload_kv=False).close()
        except StretchError:
            return None
        parts: Parameters = []
        for p, layers in enumerate(geometry.parts):
            found = [recorded(geometry.number(p, i)) for i in range(len(layers))]
            parts.append([one for one in found if one is not None])
            if len(parts[-1]) != len(layers):
                return None
        return parts


def _for_length(model: Model, found: RopeParameters, n_ctx: int) -> RopeParameters:
    """With the factors of a context of this length, as ``llama_model::get_rope_factors`` chooses them."""
    name = _LONG if n_ctx > found.n_ctx_orig else _SHORT
    if found.factors_name not in (_SHORT, _LONG) or found.factors_name == name:
        return found
    factors = read_floats(model.path, name)
    return replace(found, factors=factors, factors_name=name) if factors else found


# ---------------------------------------------------------------- without the graph


def _from_metadata(model: Model, geometry: Geometry) -> Parameters:
    """By the keys that llama.cpp reads (``llama_model_base::load_hparams`` and ``llama_context``)."""
    import llama_cpp.llama_cpp as L

    mode = int(L.llama_model_rope_type(model.handle))
    if mode not in (NORM, NEOX):  # the sections of M-RoPE are an array, which llama.cpp does not give out
        none = RopeParameters(known=mode < 0)
        return [[none] * len(part) for part in geometry.parts]
    architecture = model.metadata("general.architecture") or ""

    def number(key: str, default: float) -> float:
        try:
            value = float(model.metadata(f"{architecture}.{key}") or default)
        except ValueError:
            return default
        return value if math.isfinite(value) and value > 0 else default

    kind = model.metadata(f"{architecture}.rope.scaling.type") or "linear"
    factor = number("rope.scaling.factor", number("rope.scale_linear", 1.0))
    base = number("rope.freq_base", 10000.0)
    frequencies = read_floats(model.path, _FREQUENCIES)
    full = RopeParameters(
        mode=mode,
        n_ctx_orig=int(number("rope.scaling.original_context_length", number("context_length", 0))),
        freq_base=base,
        freq_scale=1.0 if kind == "none" else 1 / factor,
        ext_factor=float(kind == "yarn"),
        attn_factor=number("rope.scaling.attn_factor", 1.0),  # the operation multiplies by YaRN's own
        beta_fast=number("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=number("rope.scaling.yarn_beta_slow", 1.0),
        factors=frequencies or read_floats(model.path, _SHORT),
        factors_name=_FREQUENCIES if frequencies else _SHORT,
    )
    own = architecture in _OWN_BASE
    sliding = replace(full, freq_base=number("rope.freq_base_swa", _SWA_BASE if own else base))
    if own:
        sliding = replace(sliding, freq_scale=1.0, factors=(), factors_name="")
    parts: Parameters = []
    for p, (part, common) in enumerate(zip(geometry.parts, (full, sliding), strict=False)):
        parts.append([])
        for i, heads in enumerate(part):
            fourth = geometry.number(p, i) % 4 == 3
            only = architecture in _ONLY_SLIDING and len(geometry.parts) > 1 and common is full
            if only or (architecture in _EVERY_FOURTH and fourth):
                parts[-1].append(RopeParameters())
                continue
            n_dims = number("rope.dimension_count", heads.head_dim_k)
            if common is sliding:
                n_dims = number("rope.dimension_count_swa", n_dims)
            n_pairs = min(int(n_dims), heads.head_dim_k) // 2
            fits = not common.factors or len(common.factors) >= n_pairs
            parts[-1].append(replace(common, n_dims=2 * n_pairs, known=fits))
    return parts
