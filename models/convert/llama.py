"""What the configuration of a llama checkpoint says, as GGUF metadata and as a list of tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.convert.safetensors import Checkpoint
from quantize.errors import ModelFileError

ARCHITECTURE = "LlamaForCausalLM"

_MATRICES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


@dataclass(frozen=True)
class LlamaConfig:
    """The sizes of a model."""

    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_vocab: int
    n_ctx: int
    norm_eps: float
    rope_base: float
    rope_scaling: dict[str, Any]
    tied: bool
    scale_multiplied: bool
    """How packed weights and their stored scale go together (see ``ternary.find_matrix``)."""

    def metadata(self) -> dict[str, int | float | str]:
        """GGUF keys below ``llama.``."""
        keys: dict[str, int | float | str] = {
            "context_length": self.n_ctx,
            "embedding_length": self.n_embd,
            "block_count": self.n_layer,
            "feed_forward_length": self.n_ff,
            "attention.head_count": self.n_head,
            "attention.head_count_kv": self.n_head_kv,
            "attention.key_length": self.head_dim,
            "attention.value_length": self.head_dim,
            "attention.layer_norm_rms_epsilon": self.norm_eps,
            "rope.dimension_count": self.head_dim,
            "rope.freq_base": self.rope_base,
            "vocab_size": self.n_vocab,
        }
        if self.rope_type == "linear":
            keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(self.rope_scaling["factor"])}
        return keys

    def rope_factors(self) -> NDArray[np.float32] | None:
        """Factors of the frequencies (Llama 3's scaling), shape (head_dim / 2,); None without it.

        As ``_compute_llama3_parameters`` of transformers: long waves are stretched by the factor, short ones
        are not, those in between partly.
        """
        if self.rope_type != "llama3":
            return None
        said = self.rope_scaling
        factor, low, high = (float(said[k]) for k in ("factor", "low_freq_factor", "high_freq_factor"))
        n_old = float(said["original_max_position_embeddings"])
        frequencies = self.rope_base ** -(np.arange(0, self.head_dim, 2, dtype=np.float64) / self.head_dim)
        waves = 2 * math.pi / frequencies
        smooth = np.clip((n_old / waves - low) / (high - low), 0.0, 1.0)
        return np.asarray(1 / ((1 - smooth) / factor + smooth), np.float32)

    @property
    def rope_type(self) -> str:
        """How positions are scaled: ``default``, ``linear``, ``llama3`` or something else."""
        return str(self.rope_scaling.get("rope_type") or self.rope_scaling.get("type") or "default")


def read_config(config: dict[str, Any]) -> LlamaConfig:
    """Read ``config.json``.

    Raises:
        ModelFileError: if the model is of another architecture, or the file makes no sense.
    """
    names = config.get("architectures")
    if names != [ARCHITECTURE]:
        name = names[0] if isinstance(names, list) and names else "nothing"
        hint = (
            "llama.cpp runs BitNet b1.58-2B wrongly: take a Bonsai or TriLM model."
            if "BitNet" in str(name) or "Bitnet" in str(name)
            else "Use llama.cpp's convert_hf_to_gguf.py for it."
        )
        raise ModelFileError(f"Only {ARCHITECTURE} can be converted, and this is {str(name)[:60]}.", hint)
    if config.get("hidden_act", "silu") != "silu":
        raise ModelFileError("The model has another activation than SiLU, which llama.cpp would not compute.")
    if config.get("attention_bias") or config.get("mlp_bias"):
        raise ModelFileError("Models with biases cannot be converted.")
    n_head, n_embd = _whole(config, "num_attention_heads"), _whole(config, "hidden_size")
    head_dim = _whole(config, "head_dim", n_embd // n_head)
    quantization = config.get("quantization_config") or {}
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(quantization, dict) or not isinstance(rope, dict):
        raise ModelFileError("config.json is damaged.", "Download it again.")
    if quantization and quantization.get("quant_method") != "bitnet":
        method = str(quantization.get("quant_method"))[:40]
        raise ModelFileError(f"The weights are quantized in another way than BitNet's: {method!r}.")
    found = LlamaConfig(
        n_layer=_whole(config, "num_hidden_layers", top=512),
        n_embd=n_embd,
        n_ff=_whole(config, "intermediate_size"),
        n_head=n_head,
        n_head_kv=_whole(config, "num_key_value_heads", n_head),
        head_dim=head_dim,
        n_vocab=_whole(config, "vocab_size"),
        n_ctx=_whole(config, "max_position_embeddings"),
        norm_eps=_number(config, "rms_norm_eps", 1e-6),
        rope_base=_number(rope if "rope_theta" in rope else config, "rope_theta", 10000.0),
        rope_scaling=rope,
        tied=bool(config.get("tie_word_embeddings", False)),
        scale_multiplied=quantization.get("linear_class") == "autobitlinear",
    )
    if found.rope_type not in ("default", "linear", "llama3"):
        what = found.rope_type[:40]
        raise ModelFileError(f"Positions are scaled in a way that is not supported: {what!r}.")
    try:
        found.metadata(), found.rope_factors()
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        raise ModelFileError("config.json says too little about the scaling of positions.") from None
    if head_dim % 2 or found.n_head_kv > n_head:
        raise ModelFileError("config.json gives impossible heads.")
    return found


def _whole(config: dict[str, Any], key: str, default: int | None = None, top: int = 1 << 24) -> int:
    value = config.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= top:
        raise ModelFileError(f"config.json gives {str(value)[:40]!r} for {key}.")
    return value


def _number(config: dict[str, Any], key: str, default: float) -> float:
    value = config.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e30:
        raise ModelFileError(f"config.json gives {str(value)[:40]!r} for {key}.")
    return float(value)


@dataclass(frozen=True, slots=True)
class Planned:
    """One tensor of the new file."""

    name: str
    source: str
    shape: tuple[int, ...]
    """numpy's order."""
    in_layer: bool
    """Whether it is a matrix of a layer: those are ternary."""
    head_dim: int = 0
    """Of the heads whose rows change places; 0 if they stay."""


def tensors(config: LlamaConfig, checkpoint: Checkpoint) -> list[Planned]:
    """Every tensor of the new file, in the order of the layers."""
    c = config
    embedding = (c.n_vocab, c.n_embd)
    out = [Planned("token_embd.weight", "model.embed_tokens.weight", embedding, False)]
    shapes = {
        "attn_q": (c.n_head * c.head_dim, c.n_embd),
        "attn_k": (c.n_head_kv * c.head_dim, c.n_embd),
        "attn_v": (c.n_head_kv * c.head_dim, c.n_embd),
        "attn_output": (c.n_embd, c.n_head * c.head_dim),
        "ffn_gate": (c.n_ff, c.n_embd),
        "ffn_up": (c.n_ff, c.n_embd),
        "ffn_down": (c.n_embd, c.n_ff),
    }
    for layer in range(c.n_layer):
        old, new = f"model.layers.{layer}.", f"blk.{layer}."
        for theirs, ours in _NORMS.items():
            out.append(Planned(f"{new}{ours}.weight", f"{old}{theirs}.weight", (c.n_embd,), False))
        for theirs, ours in _MATRICES.items():
            turned = c.head_dim if ours in ("attn_q", "attn_k") else 0
            out.append(Planned(f"{new}{ours}.weight", f"{old}{theirs}.weight", shapes[ours], True, turned))
    out.append(Planned("output_norm.weight", "model.norm.weight", (c.n_embd,), False))
    if not c.tied and "lm_head.weight" in checkpoint.entries:
        out.append(Planned("output.weight", "lm_head.weight", embedding, False))
    return out
