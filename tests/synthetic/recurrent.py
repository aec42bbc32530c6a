"""Synthetic models whose layers, or some of them, keep a state of fixed size instead of K and V."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tests.synthetic.transformer import (
    OUTPUT_GAIN,
    QUERY_GAIN,
    Sizes,
    attention,
    embeddings,
    experts,
    gated_ffn,
    norms,
)
from tests.synthetic.writer import ModelWriter

N_FF_EXP = 64
"""Width of an expert."""


def _mamba2_layer(
    w: ModelWriter, layer: int, n_embd: int, inner: int, state: int, groups: int, heads: int
) -> None:
    blk = f"blk.{layer}."
    conv = inner + 2 * groups * state
    w.matrix(blk + "ssm_in.weight", n_embd, inner + conv + heads)
    w.tensor(blk + "ssm_conv1d.weight", w.random(blk + "ssm_conv1d.weight", conv, 4), scale=0.5)
    w.vector(blk + "ssm_conv1d.bias", conv, 0.0, 0.1)
    w.vector(blk + "ssm_dt.bias", heads, -2.0, 0.5)
    w.tensor(blk + "ssm_a", w.random(blk + "ssm_a", heads, 1), scale=0.1, shift=-1.0)
    w.tensor(blk + "ssm_d", w.random(blk + "ssm_d", heads, 1), scale=0.1, shift=1.0)
    w.tensor(
        blk + "ssm_norm.weight",
        w.random(blk + "ssm_norm.weight", groups, inner // groups),
        scale=0.1,
        shift=1.0,
    )
    w.matrix(blk + "ssm_out.weight", inner, n_embd, gain=OUTPUT_GAIN)


def mamba(path: Path, **sizes: Any) -> Path:
    """No attention at all."""
    inner, state, rank = 2 * sizes.get("n_embd", 128), 16, 8
    keys = {
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": rank,
    }
    s = Sizes(**{"n_head": 0, "n_head_kv": 0, "n_ff": 0, "keys": keys} | sizes)
    w = s.start(path, "mamba")
    embeddings(w, s)
    for layer in range(s.n_layer):
        blk = f"blk.{layer}."
        norms(w, layer, s.n_embd, "attn_norm")
        w.matrix(blk + "ssm_in.weight", s.n_embd, 2 * inner)
        w.tensor(blk + "ssm_conv1d.weight", w.random(blk + "ssm_conv1d.weight", inner, 4), scale=0.5)
        w.vector(blk + "ssm_conv1d.bias", inner, 0.0, 0.1)
        w.matrix(blk + "ssm_x.weight", inner, rank + 2 * state)
        w.matrix(blk + "ssm_dt.weight", rank, inner)
        w.vector(blk + "ssm_dt.bias", inner, -2.0, 0.5)
        w.tensor(blk + "ssm_a", w.random(blk + "ssm_a", inner, state), scale=0.1, shift=-1.0)
        w.vector(blk + "ssm_d", inner, 1.0, 0.1)
        w.matrix(blk + "ssm_out.weight", inner, s.n_embd, gain=OUTPUT_GAIN)
    return w.write()


def granitehybrid(path: Path, **sizes: Any) -> Path:
    """Mamba-2 layers with an attention layer in between, told by the counts of KV heads.

    Args:
        attention: numbers of the attention layers.
    """
    n_layer, n_embd = sizes.pop("n_layer", 4), sizes.get("n_embd", 128)
    attends = sizes.pop("attention", range(1, n_layer, 4))
    inner, state, groups, heads = 2 * n_embd, 32, 1, 8
    n_kv = sizes.pop("n_head_kv", 2)
    kv = [n_kv if i in attends else 0 for i in range(n_layer)]
    keys = {
        "attention.head_count_kv": kv,
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": heads,
        "ssm.group_count": groups,
        "logit_scale": 1.0,
        "residual_scale": 1.0,
        "embedding_scale": 1.0,
        "attention.scale": 1 / math.sqrt(sizes.get("head_dim", 64)),
    }
    s = Sizes(**{"n_layer": n_layer, "n_head_kv": n_kv, "keys": keys} | sizes)
    w = s.start(path, "granitehybrid")
    embeddings(w, s)
    for layer in range(n_layer):
        norms(w, layer, n_embd, "attn_norm", "ffn_norm")
        if kv[layer]:
            attention(w, layer, s)
        else:
            _mamba2_layer(w, layer, n_embd, inner, state, groups, heads)
        gated_ffn(w, layer, n_embd, s.n_ff)
    return w.write()


def falcon_h1(path: Path, **sizes: Any) -> Path:
    """Attention and Mamba-2 side by side in every layer."""
    n_embd = sizes.get("n_embd", 128)
    inner, state, groups, heads = 2 * n_embd, 32, 1, 8
    keys = {
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": heads,
        "ssm.group_count": groups,
    }
    s = Sizes(**{"keys": keys} | sizes)
    w = s.start(path, "falcon-h1")
    embeddings(w, s)
    for layer in range(s.n_layer):
        norms(w, layer, n_embd, "attn_norm")
        w.vector(f"blk.{layer}.ffn_norm", n_embd, spread=0.1)
        attention(w, layer, s)
        _mamba2_layer(w, layer, n_embd, inner, state, groups, heads)
        gated_ffn(w, layer, n_embd, s.n_ff)
    return w.write()


def lfm2(path: Path, **sizes: Any) -> Path:
    """Short convolutions with an attention layer in between, told by the counts of KV heads.

    Args:
        attention: numbers of the attention layers.
        n_expert: experts of each layer (then it is ``lfm2moe``), 0 for none.
    """
    n_layer = sizes.pop("n_layer", 4)
    n_kv, l_cache = sizes.pop("n_head_kv", 2), 3
    attends, n_expert = sizes.pop("attention", range(1, n_layer, 2)), sizes.pop("n_expert", 0)
    kv = [n_kv if i in attends else 0 for i in range(n_layer)]
    keys = {"attention.head_count_kv": kv, "shortconv.l_cache": l_cache} | sizes.pop("keys", {})
    if n_expert:
        keys |= {"expert_count": n_expert, "expert_used_count": 2, "expert_feed_forward_length": N_FF_EXP}
        keys |= {"leading_dense_block_count": 0, "expert_gating_func": 2}
    s = Sizes(**{"n_layer": n_layer, "n_embd": 256, "n_head_kv": n_kv, "keys": keys} | sizes)
    w = s.start(path, "lfm2moe" if n_expert else "lfm2")
    w.tensor(
        "token_embd.weight", w.random("token_embd.weight", s.n_vocab, s.n_embd), w.weight_type, scale=0.2
    )
    w.vector("token_embd_norm.weight", s.n_embd, 1.0, 0.1)
    for layer in range(n_layer):
        blk = f"blk.{layer}."
        norms(w, layer, s.n_embd, "attn_norm", "ffn_norm")
        if kv[layer]:
            attention(w, layer, s)
            norms(w, layer, s.head_dim, "attn_q_norm", "attn_k_norm", value=math.sqrt(QUERY_GAIN))
        else:
            name = blk + "shortconv.conv.weight"
            w.tensor(name, w.random(name, s.n_embd, l_cache), scale=0.5)
            w.matrix(blk + "shortconv.in_proj.weight", s.n_embd, 3 * s.n_embd)
            w.matrix(blk + "shortconv.out_proj.weight", s.n_embd, s.n_embd, gain=OUTPUT_GAIN)
        if n_expert:
            experts(w, layer, s.n_embd, N_FF_EXP, n_expert)
            w.vector(blk + "exp_probs_b.bias", n_expert, 0.0, 0.1)
        else:
            gated_ffn(w, layer, s.n_embd, s.n_ff)
    return w.write()


def qwen35(path: Path, **sizes: Any) -> Path:
    """Gated delta nets, and attention with a gate in every fourth layer; positions of M-RoPE.

    Args:
        n_expert: experts of each layer (then it is ``qwen35moe``), 0 for none.
    """
    n_expert = sizes.pop("n_expert", 0)
    state, groups, heads, interval = 32, 2, 4, sizes.pop("interval", 4)
    conv, value = 2 * groups * state + heads * state, heads * state
    keys = {
        "ssm.conv_kernel": 4,
        "ssm.inner_size": value,
        "ssm.state_size": state,
        "ssm.time_step_rank": heads,
        "ssm.group_count": groups,
        "rope.dimension_sections": [11, 11, 10, 0],
        "full_attention_interval": interval,
    } | sizes.pop("keys", {})
    if n_expert:
        keys |= {"expert_count": n_expert, "expert_used_count": 2, "expert_feed_forward_length": N_FF_EXP}
        keys |= {"expert_shared_feed_forward_length": N_FF_EXP}
    s = Sizes(**{"n_layer": 4, "keys": keys} | sizes)
    w = s.start(path, "qwen35moe" if n_expert else "qwen35")
    embeddings(w, s)
    for layer in range(s.n_layer):
        blk = f"blk.{layer}."
        norms(w, layer, s.n_embd, "attn_norm", "post_attention_norm")
        if (layer + 1) % interval == 0:
            n_q, n_kv = s.n_head * s.head_dim, s.n_head_kv * s.head_dim
            w.matrix(blk + "attn_q.weight", s.n_embd, 2 * n_q)
            w.matrix(blk + "attn_k.weight", s.n_embd, n_kv)
            w.matrix(blk + "attn_v.weight", s.n_embd, n_kv)
            w.matrix(blk + "attn_output.weight", n_q, s.n_embd, gain=2 * OUTPUT_GAIN)
            norms(w, layer, s.head_dim, "attn_q_norm", "attn_k_norm", value=math.sqrt(QUERY_GAIN))
        else:
            w.matrix(blk + "attn_qkv.weight", s.n_embd, conv)
            w.matrix(blk + "attn_gate.weight", s.n_embd, value)
            w.tensor(blk + "ssm_conv1d.weight", w.random(blk + "ssm_conv1d.weight", conv, 4), scale=0.5)
            w.vector(blk + "ssm_dt.bias", heads, -2.0, 0.5)
            w.vector(blk + "ssm_a", heads, -1.0, 0.1)
            w.matrix(blk + "ssm_beta.weight", s.n_embd, heads)
            w.matrix(blk + "ssm_alpha.weight", s.n_embd, heads)
            w.vector(blk + "ssm_norm.weight", state, spread=0.1)
            w.matrix(blk + "ssm_out.weight", value, s.n_embd, gain=OUTPUT_GAIN)
        if not n_expert:
            gated_ffn(w, layer, s.n_embd, s.n_ff)
            continue
        experts(w, layer, s.n_embd, N_FF_EXP, n_expert)
        w.vector(blk + "ffn_gate_inp_shexp.weight", s.n_embd, 0.0, 0.1)
        w.matrix(blk + "ffn_gate_shexp.weight", s.n_embd, N_FF_EXP)
        w.matrix(blk + "ffn_up_shexp.weight", s.n_embd, N_FF_EXP)
        w.matrix(blk + "ffn_down_shexp.weight", N_FF_EXP, s.n_embd)
    return w.write()
