"""``stretch convert``: a checkpoint made from a ternary model becomes that model again, bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize

from app.cli import main
from models.convert.llama import read_config
from models.convert.safetensors import Checkpoint
from models.convert.tokenizer import _split_name
from models.header import read_header
from models.levels import look_at
from models.resolve import resolve
from models.splits import read_model
from quantize.errors import ModelFileError
from quantize.llama import Context, Model
from quantize.weights.process import LossJob, run
from tests.synthetic import SyntheticModels
from tests.weights.checkpoints import SPLIT, write_checkpoint, write_safetensors

SIZES = {"n_embd": 256, "n_ff": 512, "n_vocab": 300, "head_dim": 64, "n_head": 4, "n_head_kv": 2}
TEXT = "The cache of a model holds a key and a value for every token that it has read so far. " * 6


def convert(*arguments: object) -> int:
    return main(["convert", *map(str, arguments)])


@pytest.fixture(scope="module")
def source(synthetic: SyntheticModels) -> Path:
    """A llama with ternary weights, written out in f16."""
    return synthetic("llama", levels=3, **SIZES)


def values(path: Path) -> dict[str, np.ndarray]:
    """Every tensor as float32, its scale multiplied in."""
    found = {t.name: dequantize(t.data, t.tensor_type).astype(np.float32) for t in GGUFReader(path).tensors}
    for name in [n for n in found if n.endswith(".scale")]:
        found[name.replace(".scale", ".weight")] *= found.pop(name)
    return found


def loss(a: Path, b: Path) -> dict[str, Any]:
    return list(run(LossJob(str(a), str(b), TEXT, 200)))[-1]


@pytest.mark.parametrize("how", ["packed", "multiplied", "f32", "f16"])
@pytest.mark.parametrize("kind", ["tq2_0", "tq1_0"])
def test_every_weight_comes_back(source: Path, tmp_path: Path, capsys: Any, how: str, kind: str) -> None:
    write_checkpoint(source, tmp_path / "in", how=how)
    out = tmp_path / "out.gguf"
    assert convert(tmp_path / "in", out, "--to", kind) == 0
    assert "exactly as it was" in capsys.readouterr().out
    was, now = values(source), values(out)
    assert set(now) == set(was)
    for name in was:
        # An inverse scale of the checkpoint is itself rounded to float32.
        assert np.allclose(now[name], was[name], rtol=1e-6 if how == "packed" else 0, atol=0), name
    assert look_at(out, read_model(out)).levels == 3
    said = loss(source, out)
    assert said["kld_mean"] < 0.02 and said["top1"] > 0.8, "only the other factor is rounded, to 8 bits"


def test_the_built_in_ternary_model_through_a_checkpoint_and_back(tmp_path: Path, capsys: Any) -> None:
    """The real one, its real tokenizer, its logits."""
    builtin = resolve("builtin-ternary")
    write_checkpoint(builtin, tmp_path / "in", how="f32", n_parts=3)  # a scale for each block of 256
    assert convert(tmp_path / "in", tmp_path, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    out = Path(said["path"])
    assert (
        out == tmp_path / "in-tq2_0.gguf"
        and said["pre"] == read_header(builtin).text("tokenizer.ggml.pre")
        and said["template"]
    )
    was, now = read_header(builtin), read_header(out)
    for key in was.metadata:
        if key.startswith("llama."):
            assert now.metadata[key] == pytest.approx(was.metadata[key]), key
    texts = ("What is the KV cache?", "<|im_start|>user\nIt's 12,345 €\n\n  x<|im_end|>", TEXT)
    with Model(builtin) as a, Model(out) as b:
        for text in texts:
            assert a.tokenize(text) == b.tokenize(text)
        tokens = a.tokenize(TEXT)[:100]
        logits = []
        for model in (a, b):
            sizes = {"n_ctx": 256, "n_batch": 100, "n_ubatch": 100, "n_outputs_max": 100}
            with Context(model, type_k=1, type_v=1, n_threads=1, **sizes) as context:
                assert context.decode(tokens, 0, logits="all") == 0
                logits.append(context.all_logits(len(tokens)).copy())
    spread = logits[0].std()
    # The old file's embedding is q8_0, so the last product rounded its other factor; the new one is f32.
    assert np.abs(logits[0] - logits[1]).max() < 0.1 * spread
    assert (logits[0].argmax(1) == logits[1].argmax(1)).mean() > 0.95


def test_a_converted_model_is_loaded_and_planned_like_any_other(source: Path, tmp_path: Path) -> None:
    write_checkpoint(source, tmp_path / "in")
    assert convert(tmp_path / "in", tmp_path / "out.gguf") == 0
    assert main(["plan", str(tmp_path / "out.gguf")]) == 0
    assert main(["quantize", str(tmp_path / "out.gguf"), str(tmp_path / "tq1.gguf"), "--to", "tq1_0"]) == 0


def test_it_takes_little_memory(source: Path, tmp_path: Path) -> None:
    """Rows are read some at a time: a matrix of 64 MiB as float32 never exists whole."""
    rng = np.random.default_rng(0)
    packed = rng.integers(0, 3, (2048, 2048), np.uint8)
    packed |= packed << 2 | packed << 4 | packed << 6
    write_safetensors(
        tmp_path / "model.safetensors", {"a.weight": packed, "a.weight_scale": np.ones(1, np.float32)}
    )
    code = (
        "import sys, tracemalloc; sys.path.insert(0, '.')\n"
        "from pathlib import Path\n"
        "from models.convert import ternary\n"
        "from models.convert.safetensors import Checkpoint\n"
        "ternary.CHUNK_VALUES = 1 << 18\n"
        "with Checkpoint(Path(sys.argv[1])) as c:\n"
        "    m = ternary.find_matrix(c, 'a.weight', multiplied=True)\n"
        "    tracemalloc.start()\n"
        "    n = sum(rows.size for rows in ternary.chunks(c, m))\n"
        "    print(n, tracemalloc.get_traced_memory()[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    n, peak = map(int, done.stdout.split())
    assert n == 8192 * 2048 and peak < 8 << 20


def test_scaled_positions(source: Path, tmp_path: Path) -> None:
    """Llama 3's factors: 1 for short waves, the factor for long ones, as transformers computes them."""
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 512,
    }
    write_checkpoint(source, tmp_path / "in", rope_scaling=scaling)
    assert convert(tmp_path / "in", tmp_path / "out.gguf") == 0
    factors = values(tmp_path / "out.gguf")["rope_freqs.weight"]
    assert factors[0] == 1 and factors[-1] == 8 and (np.diff(factors) >= 0).all() and factors.size == 32
    waves = 2 * np.pi * 10000.0 ** (np.arange(0, 64, 2) / 64)
    between = (waves > 512 / 4) & (waves < 512)
    assert between.any() and ((factors[between] > 1) & (factors[between] < 8)).all()
    with Model(tmp_path / "out.gguf") as model:
        assert model.n_vocab == 300
    linear = {"type": "linear", "factor": 4.0}
    write_checkpoint(source, tmp_path / "linear", rope_scaling=linear)
    assert convert(tmp_path / "linear", tmp_path / "linear.gguf") == 0
    assert read_header(tmp_path / "linear.gguf").metadata["llama.rope.scaling.factor"] == 4.0


def test_how_a_text_is_cut_is_found_out() -> None:
    level = {"type": "ByteLevel", "use_regex": False}
    words = {"type": "Split", "behavior": "Isolated", "invert": False, "pattern": {"Regex": SPLIT}}
    threes = words | {"pattern": {"Regex": SPLIT.replace(r"\p{N}|", r"\p{N}{1,3}|")}}
    digits = {"type": "Digits", "individual_digits": True}
    for steps, name in (
        ([words, level], "qwen2"),
        ([threes, level], "llama-bpe"),
        ([digits, {"type": "ByteLevel", "use_regex": True}], "smollm"),
        ([{"type": "ByteLevel"}], "gpt-2"),
    ):
        said = {"type": "Sequence", "pretokenizers": steps}
        assert _split_name({"pre_tokenizer": said}) == name
    assert _split_name({"pre_tokenizer": {"type": "ByteLevel"}}) == "gpt-2"


# --------------------------------------------------------------------------- what is refused


def refused(folder: Path, out: Path, capsys: Any) -> str:
    assert convert(folder, out) == 1
    assert not out.exists()
    return str(capsys.readouterr().err)


def test_ordinary_weights_are_refused(synthetic: SyntheticModels, tmp_path: Path, capsys: Any) -> None:
    write_checkpoint(synthetic("llama", **SIZES), tmp_path / "in", how="f16")
    said = refused(tmp_path / "in", tmp_path / "x.gguf", capsys)
    assert "not ternary" in said and "stretch quantize" in said


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "another architecture": ({"architectures": ["Qwen3ForCausalLM"]}, "convert_hf_to_gguf"),
    "BitNet 2B": ({"architectures": ["BitNetForCausalLM"]}, "Bonsai"),
    "no architecture": ({"architectures": None}, "LlamaForCausalLM"),
    "squared ReLU": ({"hidden_act": "relu2"}, "activation"),
    "biases": ({"attention_bias": True}, "biases"),
    "another way of packing": ({"quantization_config": {"quant_method": "gptq"}}, "gptq"),
    "unknown scaling": ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
    "half a scaling": ({"rope_scaling": {"rope_type": "llama3", "factor": 4.0}}, "too little"),
    "no heads": ({"num_attention_heads": 0}, "num_attention_heads"),
    "a size that is no number": ({"hidden_size": "256"}, "hidden_size"),
    "a wrong size": ({"intermediate_size": 300}, "unexpected shape"),
    "more layers than there are": ({"num_hidden_layers": 9}, "lacks model.layers.2"),
    "a smaller vocabulary": ({"vocab_size": 200}, "beyond the 200"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_configurations_that_cannot_be_converted(
    source: Path, tmp_path: Path, capsys: Any, case: str
) -> None:
    config, words = CONFIGS[case]
    write_checkpoint(source, tmp_path / "in", **config)
    assert words in refused(tmp_path / "in", tmp_path / "x.gguf", capsys)


def test_tokenizers_that_cannot_be_converted(source: Path, tmp_path: Path, capsys: Any) -> None:
    folder, out = tmp_path / "in", tmp_path / "x.gguf"
    write_checkpoint(source, folder)
    right = json.loads((folder / "tokenizer.json").read_text())
    for change, words in (
        ({"model": right["model"] | {"type": "Unigram"}}, "not byte-level BPE"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split"}]}}, "not byte-level BPE"),
        ({"model": {"type": "BPE"}}, "damaged"),
        ({"added_tokens": [{"id": -1, "content": "x", "special": True}]}, "beyond the 300"),
        ({"added_tokens": [{"id": 1, "content": "a", "special": True}]}, "token twice"),
    ):
        (folder / "tokenizer.json").write_text(json.dumps(right | change))
        assert words in refused(folder, out, capsys)
    unknown = {"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "use_regex": False}
    said = right | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [unknown, level]}}
    (folder / "tokenizer.json").write_text(json.dumps(said))
    assert "--pre" in refused(folder, out, capsys)
    assert convert(folder, out, "--pre", "llama-bpe") == 0
    assert read_header(out).text("tokenizer.ggml.pre") == "llama-bpe"


def test_packed_values_that_are_none(source: Path, tmp_path: Path, capsys: Any) -> None:
    tensors = write_checkpoint(source, tmp_path / "in")
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name][3, 5] |= 0b11
    write_safetensors(tmp_path / "in" / "model.safetensors", tensors)
    assert "not packed as BitNet" in refused(tmp_path / "in", tmp_path / "x.gguf", capsys)
    del tensors[f"{name}_scale"]
    write_safetensors(tmp_path / "in" / "model.safetensors", tensors)
    assert "does not say the scale" in refused(tmp_path / "in", tmp_path / "x.gguf", capsys)


def test_missing_files(source: Path, tmp_path: Path, capsys: Any) -> None:
    folder, out = tmp_path / "in", tmp_path / "x.gguf"
    assert "no directory" in refused(folder, out, capsys)
    write_checkpoint(source, folder, n_parts=2)
    (folder / "model-00002-of-00002.safetensors").rename(folder / "hidden")
    assert "model-00002-of-00002.safetensors" in refused(folder, out, capsys)
    (folder / "hidden").rename(folder / "model-00002-of-00002.safetensors")
    for name in ("config.json", "tokenizer.json"):
        text = (folder / name).read_text()
        (folder / name).unlink()
        assert name in refused(folder, out, capsys)
        (folder / name).write_text(text)
    assert convert(folder, out) == 0


def test_nothing_is_overwritten(source: Path, tmp_path: Path, capsys: Any) -> None:
    write_checkpoint(source, tmp_path / "in")
    out = tmp_path / "x.gguf"
    out.write_text("precious")
    assert convert(tmp_path / "in", out) == 2 and out.read_text() == "precious"
    assert convert(tmp_path / "in", out, "--overwrite") == 0 and read_header(out).tensors


def test_configurations_of_every_kind_end_in_one_sentence() -> None:
    for config in ({}, {"architectures": ["LlamaForCausalLM"]}, {"architectures": [7]}):
        with pytest.raises(ModelFileError):
            read_config(config)


def test_a_checkpoint_that_becomes_shorter(source: Path, tmp_path: Path) -> None:
    write_checkpoint(source, tmp_path / "in")
    path = tmp_path / "in" / "model.safetensors"
    with Checkpoint(tmp_path / "in") as checkpoint:
        last = max(checkpoint.entries.values(), key=lambda e: e.start)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ModelFileError, match="cut off"):
            checkpoint.rows(last.name, 0, max(last.n_elements // last.row_values, 1))
