"""Checkpoint to GGUF: ``python -m models.training.export CHECKPOINT OUT.gguf --to q8_0|f16|tq2_0``.

The rotary embedding of the network rotates neighbouring pairs as llama.cpp's ``llama`` architecture
does, so that no row has to be permuted. Ternary weights are stored without loss.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch

from models.training.chatml import SPECIAL
from models.training.config import Shape
from models.training.network import TernaryRound
from models.training.tokenizer import PATH, PRE

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TYPES = {
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
    "f16": gguf.GGMLQuantizationType.F16,
    "tq2_0": gguf.GGMLQuantizationType.TQ2_0,
}
_FILE_TYPES = {
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "tq2_0": gguf.LlamaFileType.MOSTLY_TQ2_0,
}


def export(checkpoint: Path, out: Path, to: str, name: str, description: str) -> None:
    """Write the GGUF file."""
    saved = torch.load(checkpoint, map_location="cpu")
    shape = Shape(**saved["run"]["shape"])
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name(name)
    writer.add_description(description)
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_vocab_size(shape.n_vocab)
    writer.add_file_type(_FILE_TYPES[to])
    tokenizer = json.loads(PATH.read_text())
    vocab = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE)
    writer.add_token_list([t for t, _ in vocab])
    writer.add_token_types(
        [gguf.TokenType.CONTROL if t in SPECIAL else gguf.TokenType.NORMAL for t, _ in vocab]
    )
    writer.add_token_merges(merges)
    writer.add_eos_token_id(SPECIAL.index("<|im_end|>"))
    writer.add_eot_token_id(SPECIAL.index("<|im_end|>"))
    writer.add_pad_token_id(SPECIAL.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for key, tensor in saved["weights"].items():
        data = tensor.float()
        kind = _TYPES[to]
        if data.ndim == 1:
            writer.add_tensor(key, data.numpy())
            continue
        if to == "tq2_0":
            if key.startswith("blk"):
                data = TernaryRound.apply(data)
            else:
                kind = _TYPES["q8_0"]
        packed = gguf.quants.quantize(data.numpy(), kind)
        if to == "tq2_0" and key.startswith("blk"):
            assert np.array_equal(gguf.quants.dequantize(packed, kind), data.numpy()), f"{key} is not ternary"
        writer.add_tensor(key, packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--to", choices=_TYPES, default="q8_0")
    parser.add_argument("--name", default="Stretch demonstration")
    parser.add_argument("--description", default="A small demonstration model that comes with Stretch.")
    args = parser.parse_args()
    export(args.checkpoint, args.out, args.to, args.name, args.description)


if __name__ == "__main__":
    main()
