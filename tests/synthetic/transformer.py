"""Synthetic models of plain transformer architectures: llama and its relatives.

The gains are chosen so that attention looks at a few dozen of a thousand tokens and the logits
have a spread of about 3: a change of the cache's precision is then visible in them, as it is
with a trained model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.synthetic.vocab import CHAT_TEMPLATE, END
from tests.synthetic.writer import ModelWriter

QUERY_GAIN = 2.0
OUTPUT_GAIN = 2.0
LOGIT_GAIN = 3.0


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What every maker takes; the tests change what they are about."""

    n_layer: int = 2
    n_embd: int = 128
    n_head: int = 4
    n_head_kv: int = 2
    head_dim: int = 64
    n_ff: int = 256
    n_ctx: int = 4096
    """Trained length."""
    n_vocab: int = 512
    seed: int = 0
    weight_type: str = "f16"
    template: str | None = CHAT_TEMPLATE
    levels: int = 0
    """2 or 3: 1-bit or ternary weights in the layers, stored as ``weight_type``."""
    hollow: bool = False
    """Only a header and a hole: for planning."""
    endless: bool = False
    """Give the end of a reply a logit of 0, where the largest is about 9: with ``min_p`` a reply never
    ends by itself, whatever computes it."""
    keys: dict[str, Any] = field(default_factory=dict)
    """More metadata below the architecture's prefix."""
    vectors: dict[str, Sequence[float]] = field(default_factory=dict)
    """More tensors of float32, of one dimension."""

    def start(self, path: Path, arch: str) -> ModelWriter:
        """A writer that has the keys which nearly every transformer has, and the vocabulary."""
        w = ModelWriter(
            path, arch, seed=self.seed, weight_type=self.weight_type, hollow=self.hollow, levels=self.levels
        )
        w.keys(
            {
                "context_length": self.n_ctx,
                "embedding_length": self.n_embd,
                "block_count": self.n_layer,
                "feed_forward_length": self.n_ff,
                "attention.head_count": self.n_head,
                "attention.head_count_kv": self.n_head_kv,
                "attention.key_length": self.head_dim,
                "attention.value_length": self.head_dim,
                "attention.layer_norm_rms_epsilon": 1e-5,
                "rope.dimension_count": self.head_dim,
                "rope.freq_base": 10000.0,
            }
            | self.keys
        )
        w.vocabulary(self.n_vocab, self.template)
        return w


def attention(
    w: ModelWriter, layer: int, s: Sizes, *, bias: bool = False, query_gain: float = QUERY_GAIN
) -> None:
    """The four matrices of an attention layer."""
    blk = f"blk.{layer}."
    n_q, n_kv = s.n_head * s.head_dim, s.n_head_kv * s.head_dim
    w.matrix(blk + "attn_q.weight", s.n_embd, n_q, gain=query_gain)
    w.matrix(blk + "attn_k.weight", s.n_embd, n_kv)
    w.matrix(blk + "attn_v.weight", s.n_embd, n_kv)
    w.matrix(blk + "attn_output.weight", n_q, s.n_embd, gain=OUTPUT_GAIN)
    if bias:
        for name, n in (("q", n_q), ("k", n_kv), ("v", n_kv)):
            w.vector(f"{blk}attn_{name}.bias", n, 0.0, 0.2)


def gated_ffn(w: ModelWriter, layer: int, n_embd: int, n_ff: int) -> None:
    """The three matrices of a gated feed-forward layer."""
    blk = f"blk.{layer}."
    w.matrix(blk + "ffn_gate.weight", n_embd, n_ff)
    w.matrix(blk + "ffn_up.weight", n_embd, n_ff)
    w.matrix(blk + "ffn_down.weight", n_ff, n_embd, gain=OUTPUT_GAIN)


def experts(w: ModelWriter, layer: int, n_embd: int, n_ff: int, n_expert: int, *, bias: bool = False) -> None:
    """A router and the stacked matrices of the experts."""
    blk = f"blk.{layer}."
    router = w.random(blk + "ffn_gate_inp.weight", n_expert, n_embd)
    w.tensor(blk + "ffn_gate_inp.weight", router, scale=1 / math.sqrt(n_embd))
    w.matrix(blk + "ffn_gate_exps.weight", n_embd, n_ff, n_expert)
    w.matrix(blk + "ffn_up_exps.weight", n_embd, n_ff, n_expert)
    w.matrix(blk + "ffn_down_exps.weight", n_ff, n_embd, n_expert, gain=OUTPUT_GAIN)
    if bias:
        w.vector(blk + "ffn_gate_inp.bias", n_expert, 0.0, 0.1)
        for name, n in (("gate", n_ff), ("up", n_ff), ("down", n_embd)):
            w.tensor(
                f"{blk}ffn_{name}_exps.bias", w.random(f"{blk}ffn_{name}_exps.bias", n_expert, n), scale=0.1
            )


def norms(w: ModelWriter, layer: int, n: int, *names: str, value: float = 1.0) -> None:
    """Norm vectors of a layer, a little uneven so that their place matters."""
    for name in names:
        w.vector(f"blk.{layer}.{name}.weight", n, value, spread=0.1 * value)


def embeddings(w: ModelWriter, s: Sizes, *, tied: bool = False, size: float = 1.0, norm: float = 1.0) -> None:
    """Token embedding of that size per value, last norm and (unless tied) the output matrix."""
    if not tied:  # first in the file, as llama.cpp's own quantizer puts it
        rows = w.random("output.weight", s.n_vocab, s.n_embd)
        if s.endless:
            rows[END] = 0
        w.tensor("output.weight", rows, w.weight_type, scale=LOGIT_GAIN / math.sqrt(s.n_embd))
    values = w.random("token_embd.weight", s.n_vocab, s.n_embd)
    w.tensor("token_embd.weight", values, w.weight_type, scale=size)
    w.vector("output_norm.weight", s.n_embd, norm, spread=0.1 * norm)
    for name, numbers in s.vectors.items():
        w.tensor(name, np.array(numbers, np.float32))


def _plain(path: Path, arch: str, s: Sizes, *, bias: bool = False, qk_norm: bool = False) -> Path:
    w = s.start(path, arch)
    embeddings(w, s)
    for layer in range(s.n_layer):
        norms(w, layer, s.n_embd, "attn_norm", "ffn_norm")
        attention(w, layer, s, bias=bias)
        if qk_norm:
            norms(w, layer, s.head_dim, "attn_q_norm", "attn_k_norm", value=math.sqrt(QUERY_GAIN))
        gated_ffn(w, layer, s.n_embd, s.n_ff)
    return w.write()


def llama(path: Path, **sizes: Any) -> Path:
    """Full attention, rotary positions, gated feed-forward."""
    return _plain(path, "llama", Sizes(**sizes))


def mistral(path: Path, **sizes: Any) -> Path:
    """Old Mistral files: llama's architecture with a sliding window that llama.cpp does not apply."""
    return _plain(path, "llama", Sizes(**{"keys": {"attention.sliding_window": 256}} | sizes))


def qwen2(path: Path, **sizes: Any) -> Path:
    """Biases on Q, K and V; the heads of Q fill the embedding."""
    return _plain(path, "qwen2", Sizes(**{"n_embd": 256} | sizes), bias=True)


def huge_bias_qwen2(
    path: Path, *, bias: float = 10.0, biased_layers: tuple[int, ...] = (0,), n_pairs: int = 8, **sizes: Any
) -> Path:
    """Qwen2 with a constant in K like that of the trained ones: far larger than what varies, in a few
    channel pairs of a few layers.

    The pairs are those that RoPE turns slowest. There the constant adds nearly the same to the score of
    every token, so the exact model is not disturbed by it; a type with few bits spreads noise of its size
    over all values.

    Args:
        bias: RMS of ``attn_k.bias`` in the ``biased_layers``; all others have 0.2.
        n_pairs: pairs of a head that hold it.
    """
    defaults = {"n_embd": 256, "keys": {"rope.freq_base": 1e6}}
    s = Sizes(**defaults | sizes)
    w = s.start(path, "qwen2")
    embeddings(w, s)
    for layer in range(s.n_layer):
        norms(w, layer, s.n_embd, "attn_norm", "ffn_norm")
        attention(w, layer, s)
        blk = f"blk.{layer}.attn_"
        w.vector(blk + "q.bias", s.n_head * s.head_dim, 0.0, 0.2)
        w.vector(blk + "v.bias", s.n_head_kv * s.head_dim, 0.0, 0.2)
        signs = np.sign(w.random(blk + "k.bias", s.n_head_kv, s.head_dim))
        constant = 0.2 * signs
        if layer in biased_layers:
            half = s.head_dim // 2  # value i and value i + half make a pair
            slow = (np.arange(s.head_dim) % half) >= half - n_pairs
            constant += signs * slow * bias * math.sqrt(half / n_pairs)
        w.tensor(blk + "k.bias", constant.astype(np.float32).reshape(-1))
        gated_ffn(w, layer, s.n_embd, s.n_ff)
    return w.write()


def qwen2vl(path: Path, **sizes: Any) -> Path:
    """Positions in two dimensions (M-RoPE), which a saved state holds for each token."""
    sections = {"rope.dimension_sections": [8, 12, 12, 0]}
    return _plain(path, "qwen2vl", Sizes(**{"n_embd": 256, "keys": sections} | sizes), bias=True)


def qwen3(path: Path, **sizes: Any) -> Path:
    """Norms on the heads of Q and K."""
    return _plain(path, "qwen3", Sizes(**{"head_dim": 128, "n_head_kv": 1} | sizes), qk_norm=True)


def smollm3(path: Path, **sizes: Any) -> Path:
    """Every fourth layer knows no positions."""
    return _plain(path, "smollm3", Sizes(**sizes))


def mistral3(path: Path, **sizes: Any) -> Path:
    """New Mistral files: full attention."""
    return _plain(path, "mistral3", Sizes(**sizes))


def phi3(path: Path, **sizes: Any) -> Path:
    """Q, K and V in one matrix, gate and up in one; a sliding window that llama.cpp ignores."""
    s = Sizes(**{"n_embd": 256, "keys": {"attention.sliding_window": 256}} | sizes)
    w = s.start(path, "phi3")
    embeddings(w, s)
    for layer in range(s.n_layer):
        blk = f"blk.{layer}."
        norms(w, layer, s.n_embd, "attn_norm", "ffn_norm")
        w.matrix(blk + "attn_qkv.weight", s.n_embd, (s.n_head + 2 * s.n_head_kv) * s.head_dim, gain=1.5)
        w.matrix(blk + "attn_output.weight", s.n_head * s.head_dim, s.n_embd, gain=OUTPUT_GAIN)
        w.matrix(blk + "ffn_up.weight", s.n_embd, 2 * s.n_ff)
        w.matrix(blk + "ffn_down.weight", s.n_ff, s.n_embd, gain=OUTPUT_GAIN)
    return w.write()


def bitnet(path: Path, **sizes: Any) -> Path:
    """Norms inside attention and feed-forward, output tied to the embedding, ternary weights."""
    s = Sizes(**{"n_embd": 256, "weight_type": "tq2_0"} | sizes)
    w = s.start(path, "bitnet")
    embeddings(w, s, tied=True, size=0.1, norm=2.0)
    for layer in range(s.n_layer):
        norms(w, layer, s.n_embd, "attn_norm", "attn_sub_norm", "ffn_norm")
        norms(w, layer, s.n_ff, "ffn_sub_norm")
        attention(w, layer, s)
        gated_ffn(w, layer, s.n_embd, s.n_ff)
    return w.write()


def deepseek2(path: Path, **sizes: Any) -> Path:
    """Multi-head latent attention: one compressed row per token instead of K and V; experts."""
    rank, rope, nope, v_dim, n_expert, n_ff_exp = 128, 64, 64, 64, 4, 64
    mla = {
        "attention.q_lora_rank": 64,
        "attention.kv_lora_rank": rank,
        "attention.key_length": rank + rope,
        "attention.value_length": rank,
        "attention.key_length_mla": nope + rope,
        "attention.value_length_mla": v_dim,
        "rope.dimension_count": rope,
        "leading_dense_block_count": 1,
        "expert_count": n_expert,
        "expert_used_count": 2,
        "expert_shared_count": 1,
        "expert_feed_forward_length": n_ff_exp,
        "expert_weights_scale": 1.0,
    }
    s = Sizes(**{"n_head_kv": 1, "keys": mla} | sizes)
    w = s.start(path, "deepseek2")
    embeddings(w, s)
    for layer in range(s.n_layer):
        blk = f"blk.{layer}."
        norms(w, layer, s.n_embd, "attn_norm", "ffn_norm")
        norms(w, layer, 64, "attn_q_a_norm")
        norms(w, layer, rank, "attn_kv_a_norm")
        w.matrix(blk + "attn_q_a.weight", s.n_embd, 64)
        w.matrix(blk + "attn_q_b.weight", 64, s.n_head * (nope + rope), gain=QUERY_GAIN)
        w.matrix(blk + "attn_kv_a_mqa.weight", s.n_embd, rank + rope)
        w.matrix(blk + "attn_k_b.weight", nope, rank, s.n_head)
        w.matrix(blk + "attn_v_b.weight", rank, v_dim, s.n_head)
        w.matrix(blk + "attn_output.weight", s.n_head * v_dim, s.n_embd, gain=OUTPUT_GAIN)
        if layer == 0:
            gated_ffn(w, layer, s.n_embd, s.n_ff)
        else:
            experts(w, layer, s.n_embd, n_ff_exp, n_expert)
            w.matrix(blk + "ffn_gate_shexp.weight", s.n_embd, n_ff_exp)
            w.matrix(blk + "ffn_up_shexp.weight", s.n_embd, n_ff_exp)
            w.matrix(blk + "ffn_down_shexp.weight", n_ff_exp, s.n_embd)
    return w.write()
