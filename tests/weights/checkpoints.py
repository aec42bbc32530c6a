"""Turns a GGUF file of the llama architecture back into a checkpoint, as the hub holds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from numpy.typing import NDArray

Array = NDArray[Any]

_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_DTYPES = {"uint8": "U8", "float32": "F32", "float16": "F16", "uint16": "BF16"}

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""How the built-in models cut a text (``qwen2``)."""


def hub_name(name: str) -> str:
    """The checkpoint's name of a tensor."""
    part, _, ending = name.rpartition(".")
    if part in _OUTER:
        return f"{_OUTER[part]}.{ending}"
    _, layer, inner = part.split(".")
    return f"model.layers.{layer}.{_NAMES[inner]}.{ending}"


def write_safetensors(path: Path, tensors: dict[str, Array]) -> None:
    """bfloat16 is given as uint16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, values in tensors.items():
        header[name] = {
            "dtype": _DTYPES[str(values.dtype)],
            "shape": list(values.shape),
            "data_offsets": [place, place + values.nbytes],
        }
        place += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            file.write(values.tobytes())


def unpermuted(rows: Array, n_head: int) -> Array:
    """The order of a checkpoint: the first half of a head, then the second."""
    heads = rows.reshape(n_head, -1, 2, rows.shape[-1])
    return np.ascontiguousarray(heads.swapaxes(1, 2).reshape(rows.shape))


def packed(ternary: Array) -> Array:
    """Four rows in one, as transformers' ``pack_weights`` does: bits 2i of row r hold row i * n + r."""
    n = ternary.shape[0] // 4
    codes = (np.sign(ternary) + 1).astype(np.uint8)
    return codes[:n] | codes[n : 2 * n] << 2 | codes[2 * n : 3 * n] << 4 | codes[3 * n :] << 6


def bf16(values: Array) -> Array:
    """bfloat16 by cutting off."""
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def write_checkpoint(
    gguf: Path, folder: Path, *, how: str = "packed", n_parts: int = 1, **config: Any
) -> dict[str, Array]:
    """Write the checkpoint; its tensors.

    Args:
        how: ``packed`` (uint8 with an inverse scale), ``multiplied`` (with the scale itself), ``f32`` or
            ``f16``: the ternary weights written out.
        config: more keys of config.json.
    """
    folder.mkdir(exist_ok=True)
    reader = GGUFReader(gguf)

    def key(name: str) -> Any:
        return reader.fields[name].contents()

    heads = {"attn_q": key("llama.attention.head_count"), "attn_k": key("llama.attention.head_count_kv")}
    tensors: dict[str, Array] = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        name, inner = hub_name(tensor.name), tensor.name.split(".")[-2]
        if inner in heads:
            values = unpermuted(values, heads[inner])
        if values.ndim == 1 or not tensor.name.startswith("blk."):
            tensors[name] = values
        elif how in ("packed", "multiplied"):
            size = np.abs(values).max()
            tensors[name] = packed(values)
            stored = size if how == "multiplied" else np.float32(1) / size
            tensors[f"{name}_scale"] = np.array([stored], np.float32)
        else:
            tensors[name] = values.astype({"f32": np.float32, "f16": np.float16}[how])
    _write_parts(folder, tensors, n_parts)
    quantization = {"quant_method": "bitnet"} | (
        {"linear_class": "autobitlinear"} if how == "multiplied" else {}
    )
    said = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_act": "silu",
        "hidden_size": key("llama.embedding_length"),
        "intermediate_size": key("llama.feed_forward_length"),
        "num_hidden_layers": key("llama.block_count"),
        "num_attention_heads": heads["attn_q"],
        "num_key_value_heads": heads["attn_k"],
        "head_dim": key("llama.attention.key_length"),
        "max_position_embeddings": key("llama.context_length"),
        "rms_norm_eps": float(key("llama.attention.layer_norm_rms_epsilon")),
        "rope_theta": float(key("llama.rope.freq_base")),
        "vocab_size": len(key("tokenizer.ggml.tokens")),
        "tie_word_embeddings": "lm_head.weight" not in tensors,
    }
    if how in ("packed", "multiplied"):
        said["quantization_config"] = quantization
    (folder / "config.json").write_text(json.dumps(said | config))
    _write_tokenizer(folder, key)
    return tensors


def _write_parts(folder: Path, tensors: dict[str, Array], n_parts: int) -> None:
    if n_parts == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return
    places = {}
    names = list(tensors)
    for i in range(n_parts):
        file = f"model-{i + 1:05}-of-{n_parts:05}.safetensors"
        write_safetensors(folder / file, {name: tensors[name] for name in names[i::n_parts]})
        places |= {name: file for name in names[i::n_parts]}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def _write_tokenizer(folder: Path, key: Any) -> None:
    tokens, types = key("tokenizer.ggml.tokens"), key("tokenizer.ggml.token_type")
    gpt2 = key("tokenizer.ggml.pre") == "gpt-2"
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": gpt2}
    said = {
        "added_tokens": [
            {"id": i, "content": t, "special": True} for i, t in enumerate(tokens) if types[i] == 3
        ],
        "pre_tokenizer": level if gpt2 else {"type": "Sequence", "pretokenizers": [split, level]},
        "model": {
            "type": "BPE",
            "vocab": {t: i for i, t in enumerate(tokens) if types[i] == 1},
            "merges": [m.split(" ") for m in key("tokenizer.ggml.merges")],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(said))
    settings = {
        "eos_token": {"content": tokens[key("tokenizer.ggml.eos_token_id")]},
        "pad_token": tokens[key("tokenizer.ggml.padding_token_id")],
        "add_bos_token": False,
        "chat_template": key("tokenizer.chat_template"),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
