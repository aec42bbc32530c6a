"""Synthetic models with sliding-window layers, some with layers that share a cache."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tests.synthetic.transformer import (
    QUERY_GAIN,
    Sizes,
    attention,
    embeddings,
    experts,
    gated_ffn,
    norms,
)
from tests.synthetic.writer import ModelWriter

WINDOW = 256
TIED_POST_NORM = 2.0
"""Size of what a layer adds to the stream where the output is tied to the embedding: it must
outgrow the embedding, or the model repeats each token."""


def _window(sizes: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """``keys`` with the width of the window (the parameter ``n_swa``) and those of the caller."""
    n_swa = sizes.pop("n_swa", WINDOW)
    return {"attention.sliding_window": n_swa} | keys | sizes.pop("keys", {})


def _gemma_layer(w: ModelWriter, layer: int, s: Sizes, post_norm: float) -> None:
    norms(w, layer, s.n_embd, "attn_norm", "ffn_norm")
    norms(w, layer, s.n_embd, "post_attention_norm", "post_ffw_norm", value=post_norm)
    attention(w, layer, s)
    gated_ffn(w, layer, s.n_embd, s.n_ff)


def gemma2(path: Path, **sizes: Any) -> Path:
    """Every second layer slides; soft-capped attention and logits."""
    keys = _window(sizes, **{"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0})
    s = Sizes(**{"n_layer": 4, "keys": keys} | sizes)
    w = s.start(path, "gemma2")
    embeddings(w, s, tied=True, size=1 / math.sqrt(s.n_embd), norm=QUERY_GAIN)
    for layer in range(s.n_layer):
        _gemma_layer(w, layer, s, TIED_POST_NORM)
    return w.write()


def gemma3(path: Path, **sizes: Any) -> Path:
    """Five layers of six slide; norms on the heads of Q and K."""
    keys = _window(sizes, **{"rope.freq_base": 1000000.0})
    s = Sizes(**{"n_layer": 6, "n_head_kv": 1, "keys": keys} | sizes)
    w = s.start(path, "gemma3")
    embeddings(w, s, size=1 / math.sqrt(s.n_embd))
    for layer in range(s.n_layer):
        _gemma_layer(w, layer, s, 0.7)
        norms(w, layer, s.head_dim, "attn_q_norm", "attn_k_norm", value=math.sqrt(QUERY_GAIN))
    return w.write()


def gemma3n(path: Path, **sizes: Any) -> Path:
    """Only the first 20 layers have a cache; the others look into those of layers 18 and 19."""
    n_altup, n_embd_altup, rank = 4, 256, 64  # fixed in llama.cpp
    s = Sizes(
        **{
            "n_layer": 24,
            "n_embd": 64,
            "n_head": 2,
            "n_head_kv": 1,
            "n_ff": 64,
            "n_vocab": 320,
            "weight_type": "q4_0",
            "keys": _window(sizes),
        }
        | sizes
    )
    w = s.start(path, "gemma3n")
    embeddings(w, s, size=1 / math.sqrt(s.n_embd))
    w.matrix("altup_proj.weight", s.n_embd, s.n_embd, n_altup - 1)
    w.matrix("altup_unembd_proj.weight", s.n_embd, s.n_embd, n_altup - 1)
    name = "per_layer_token_embd.weight"
    w.tensor(name, w.random(name, s.n_vocab, n_embd_altup * s.n_layer), w.weight_type, scale=0.1)
    w.matrix("per_layer_model_proj.weight", s.n_embd, n_embd_altup * s.n_layer)
    w.vector("per_layer_proj_norm.weight", n_embd_altup)
    for layer in range(s.n_layer):
        blk = f"blk.{layer}."
        _gemma_layer(w, layer, s, 0.2)
        norms(w, layer, s.head_dim, "attn_q_norm", "attn_k_norm", value=math.sqrt(QUERY_GAIN / 8))
        w.matrix(blk + "inp_gate.weight", s.n_embd, n_embd_altup)
        w.matrix(blk + "proj.weight", n_embd_altup, s.n_embd)
        norms(w, layer, s.n_embd, "post_norm", "altup_router_norm", "laurel_post_norm")
        w.vector(blk + "altup_correct_scale.weight", s.n_embd, spread=0.1)
        for part, shape in (
            ("altup_correct_coef", (n_altup, n_altup)),
            ("altup_predict_coef", (n_altup * n_altup, n_altup)),
            ("altup_router", (n_altup, s.n_embd)),
        ):
            w.tensor(f"{blk}{part}.weight", w.random(f"{blk}{part}.weight", *shape), scale=0.1)
        w.matrix(blk + "laurel_l.weight", s.n_embd, rank)
        w.matrix(blk + "laurel_r.weight", rank, s.n_embd)
    return w.write()


def gemma4(path: Path, **sizes: Any) -> Path:
    """Heads of another size in sliding layers, layers that share a cache, embeddings per layer.

    Args:
        n_shared: layers at the end without a cache of their own; a multiple of 3, since the two
            before them must be one with a window and one without.
        per_layer: width of the embeddings per layer, 0 for none.
        period: every so many layers one sees everything.
        n_head_kv_swa: KV heads of the layers with a window, if they are others.
    """
    period, n_kv = sizes.pop("period", 3), sizes.get("n_head_kv", 1)
    n_kv_swa = sizes.pop("n_head_kv_swa", n_kv)
    n_shared, per_layer = sizes.pop("n_shared", 3), sizes.pop("per_layer", 32)
    n_layer, head_dim = sizes.get("n_layer", 6), sizes.get("head_dim", 128)
    slides = [i % period != period - 1 for i in range(n_layer)]
    counts = (
        {"attention.head_count_kv": [n_kv_swa if x else n_kv for x in slides]} if n_kv_swa != n_kv else {}
    )
    keys = _window(
        sizes,
        **{
            "attention.sliding_window_pattern": slides,
            "attention.shared_kv_layers": n_shared,
            "attention.key_length_swa": head_dim // 2,
            "attention.value_length_swa": head_dim // 2,
            "rope.dimension_count_swa": head_dim // 2,
            "embedding_length_per_layer_input": per_layer,
            **counts,
        },
    )
    s = Sizes(**{"n_layer": n_layer, "n_head_kv": 1, "head_dim": head_dim, "keys": keys} | sizes)
    small = Sizes(
        **{"n_layer": n_layer, "n_head_kv": 1, "head_dim": head_dim // 2}
        | sizes
        | {"head_dim": head_dim // 2, "n_head_kv": n_kv_swa}
    )
    w = s.start(path, "gemma4")
    embeddings(w, s, size=1 / math.sqrt(s.n_embd))
    w.vector("rope_freqs.weight", head_dim // 2)
    if per_layer:
        name = "per_layer_token_embd.weight"
        w.tensor(name, w.random(name, s.n_vocab, per_layer * n_layer), w.weight_type, scale=0.1)
        w.matrix("per_layer_model_proj.weight", s.n_embd, per_layer * n_layer)
        w.vector("per_layer_proj_norm.weight", per_layer)
    for layer in range(n_layer):
        blk = f"blk.{layer}."
        of_layer = small if slides[layer] else s
        _gemma_layer(w, layer, of_layer, 0.7)
        norms(w, layer, of_layer.head_dim, "attn_q_norm", "attn_k_norm", value=math.sqrt(QUERY_GAIN / 8))
        if per_layer:
            w.matrix(blk + "inp_gate.weight", s.n_embd, per_layer)
            w.matrix(blk + "proj.weight", per_layer, s.n_embd)
            norms(w, layer, s.n_embd, "post_norm")
    return w.write()


def gpt_oss(path: Path, **sizes: Any) -> Path:
    """Every second layer slides; attention sinks; experts with biases."""
    n_expert, n_used = sizes.pop("n_expert", 4), sizes.pop("n_expert_used", 2)
    n_ff_exp = sizes.pop("n_ff_exp", 64)
    keys = _window(
        sizes,
        **{"expert_count": n_expert, "expert_used_count": n_used, "expert_feed_forward_length": n_ff_exp},
    )
    s = Sizes(**{"n_layer": 4, "keys": keys} | sizes)
    w = s.start(path, "gpt-oss")
    embeddings(w, s)
    for layer in range(s.n_layer):
        blk = f"blk.{layer}."
        norms(w, layer, s.n_embd, "attn_norm", "post_attention_norm")
        attention(w, layer, s, bias=True)
        w.vector(blk + "attn_output.bias", s.n_embd, 0.0, 0.1)
        w.vector(blk + "attn_sinks.weight", s.n_head, 0.0, 1.0)
        experts(w, layer, s.n_embd, n_ff_exp, n_expert, bias=True)
    return w.write()


def cohere2(path: Path, **sizes: Any) -> Path:
    """Three layers of four slide; attention and feed-forward side by side; output tied."""
    keys = _window(sizes, **{"logit_scale": 1.0, "attention.layer_norm_epsilon": 1e-5})
    s = Sizes(**{"n_layer": 4, "n_embd": 256, "keys": keys} | sizes)
    w = s.start(path, "cohere2")
    embeddings(w, s, tied=True, size=0.2, norm=1.5)
    for layer in range(s.n_layer):
        norms(w, layer, s.n_embd, "attn_norm")
        attention(w, layer, s)
        gated_ffn(w, layer, s.n_embd, s.n_ff)
    return w.write()


def olmo2(path: Path, **sizes: Any) -> Path:
    """Three layers of four slide; norms behind attention and feed-forward."""
    s = Sizes(**{"n_layer": 4, "n_embd": 256, "keys": _window(sizes)} | sizes)
    w = s.start(path, "olmo2")
    embeddings(w, s)
    for layer in range(s.n_layer):
        norms(w, layer, s.n_embd, "post_attention_norm", "post_ffw_norm")
        norms(w, layer, s.n_head * s.head_dim, "attn_q_norm", value=math.sqrt(QUERY_GAIN))
        norms(w, layer, s.n_head_kv * s.head_dim, "attn_k_norm", value=math.sqrt(QUERY_GAIN))
        attention(w, layer, s)
        gated_ffn(w, layer, s.n_embd, s.n_ff)
    return w.write()
