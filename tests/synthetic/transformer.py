"""Synthetic models of plain transformer architectures: llama and its relatives.

The gains are chosen so that attention looks at a few dozen of a thousand tokens and the logits
have a spread of about 3: a change of the cache's precision is then visible in them, as it is
with a trained model.
"""

from __future__ import annotations

from pathlib import Path

from tests.synthetic.vocab import CHAT_TEMPLATE
from tests.synthetic.writer import ModelWriter

QUERY_GAIN = 2.0
OUTPUT_GAIN = 2.0
LOGIT_GAIN = 3.0


def attention(w: ModelWriter, layer: int, n_embd: int, n_head: int, n_head_kv: int, head_dim: int) -> None:
    """The four matrices of an attention layer."""
    blk = f"blk.{layer}."
    w.matrix(blk + "attn_q.weight", n_embd, n_head * head_dim, gain=QUERY_GAIN)
    w.matrix(blk + "attn_k.weight", n_embd, n_head_kv * head_dim)
    w.matrix(blk + "attn_v.weight", n_embd, n_head_kv * head_dim)
    w.matrix(blk + "attn_output.weight", n_head * head_dim, n_embd, gain=OUTPUT_GAIN)


def gated_ffn(w: ModelWriter, layer: int, n_embd: int, n_ff: int) -> None:
    """The three matrices of a gated feed-forward layer."""
    blk = f"blk.{layer}."
    w.matrix(blk + "ffn_gate.weight", n_embd, n_ff)
    w.matrix(blk + "ffn_up.weight", n_embd, n_ff)
    w.matrix(blk + "ffn_down.weight", n_ff, n_embd, gain=OUTPUT_GAIN)


def norms(w: ModelWriter, layer: int, n_embd: int, *names: str) -> None:
    """Norm vectors of a layer, a little uneven so that their place matters."""
    for name in names:
        w.vector(f"blk.{layer}.{name}.weight", n_embd, spread=0.1)


def embeddings(w: ModelWriter, n_embd: int, n_vocab: int, *, tied: bool = False, size: float = 1.0) -> None:
    """Token embedding of that size per value, last norm and (unless tied) the output matrix."""
    w.tensor("token_embd.weight", size * w.random("token_embd.weight", n_vocab, n_embd), w.weight_type)
    w.vector("output_norm.weight", n_embd, spread=0.1)
    if not tied:
        w.matrix("output.weight", n_embd, n_vocab, gain=LOGIT_GAIN)


def sizes(
    w: ModelWriter,
    *,
    n_ctx: int,
    n_embd: int,
    n_layer: int,
    n_ff: int,
    n_head: int,
    n_head_kv: int | list[int],
    head_dim: int,
) -> None:
    """The keys that nearly every transformer has."""
    w.keys(
        {
            "context_length": n_ctx,
            "embedding_length": n_embd,
            "block_count": n_layer,
            "feed_forward_length": n_ff,
            "attention.head_count": n_head,
            "attention.head_count_kv": n_head_kv,
            "attention.key_length": head_dim,
            "attention.value_length": head_dim,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "rope.dimension_count": head_dim,
            "rope.freq_base": 10000.0,
        }
    )


def llama(
    path: Path,
    *,
    n_layer: int = 2,
    n_embd: int = 128,
    n_head: int = 4,
    n_head_kv: int = 2,
    head_dim: int = 64,
    n_ff: int = 256,
    n_ctx: int = 4096,
    n_vocab: int = 512,
    seed: int = 0,
    weight_type: str = "f16",
    template: str | None = CHAT_TEMPLATE,
) -> Path:
    """Full attention, rotary positions, gated feed-forward."""
    w = ModelWriter(path, "llama", seed=seed, weight_type=weight_type)
    sizes(
        w,
        n_ctx=n_ctx,
        n_embd=n_embd,
        n_layer=n_layer,
        n_ff=n_ff,
        n_head=n_head,
        n_head_kv=n_head_kv,
        head_dim=head_dim,
    )
    w.vocabulary(n_vocab, template)
    embeddings(w, n_embd, n_vocab)
    for layer in range(n_layer):
        norms(w, layer, n_embd, "attn_norm", "ffn_norm")
        attention(w, layer, n_embd, n_head, n_head_kv, head_dim)
        gated_ffn(w, layer, n_embd, n_ff)
    return w.write()
