"""Mutations of GGUF headers that know their structure: used by the tests and by benchmarks/fuzz_header.py.

Random bytes rarely get past the magic; a hostile file is a right one with a few fields changed.
"""

from __future__ import annotations

import math
import struct
from random import Random

from models.byte_source import MemorySource
from tests.models.gguf_bytes import (
    ARRAY,
    FLOAT32,
    INT32,
    STRING,
    UINT8,
    UINT32,
    UINT64,
    Gguf,
    string,
    tensor,
    value,
)

NUMBERS = (
    *(0, 1, 2, 3, 31, 32, 33, 255, 256, 511, 512, 513, 4096, 65535, 65536),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
)
"""Where arithmetic goes wrong."""

ARCHITECTURES = [
    "llama",
    "qwen3",
    "gemma2",
    "gemma3",
    "gemma3n",
    "gemma4",
    "gpt-oss",
    "deepseek2",
    "mamba",
    "jamba",
    "granitehybrid",
    "lfm2",
    "qwen35",
    "falcon-h1",
    "nemotron_h",
    "rwkv7",
    "kimi-linear",
    "nanbeige",
    "llama4",
    "exaone4",
    "smallthinker",
    "minimax-01",
    "deepseek4",
    "bert",
    "clip",
    "none",
]

KEYS = [
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.key_length_swa",
    "attention.value_length_swa",
    "attention.key_length_mla",
    "attention.value_length_mla",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.shared_kv_layers",
    "attention.recurrent_layers",
    "full_attention_interval",
    "nextn_predict_layers",
    "expert_used_count",
    "expert_feed_forward_length",
    "ssm.conv_kernel",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.group_count",
    "ssm.time_step_rank",
    "shortconv.l_cache",
    "kda.head_dim",
    "wkv.head_size",
    "token_shift_count",
    "num_loops",
    "vocab_size",
    "embedding_length_per_layer_input",
]
_SMALL = {"nextn_predict_layers", "num_loops", "attention.shared_kv_layers", "full_attention_interval"}
_TYPES = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 12: (256, 144), 35: (256, 66), 42: (64, 18)}


def plausible(random: Random) -> Gguf:
    """A header with the keys of some architecture; nearly always one that can be planned."""
    arch = random.choice(ARCHITECTURES)
    n_layer = random.choice((4, 5, 24, 30, 64))
    gguf = Gguf(keys=[("general.architecture", value(STRING, arch))])
    for key in KEYS:
        if random.random() < 0.02:
            continue
        number = random.choice((1, 2)) if key in _SMALL else random.choice((1, 2, 4, 8, 64, 128, 512, 4096))
        if key == "block_count":
            number = n_layer
        if key == "attention.sliding_window_pattern" or (
            key.endswith("head_count_kv") and random.random() < 0.3
        ):
            gguf.key(f"{arch}.{key}", ARRAY, (INT32, [random.choice((0, 1, 8)) for _ in range(n_layer)]))
        else:
            gguf.key(f"{arch}.{key}", UINT32, number)
    words = [b"t" * random.randrange(12) for _ in range(random.choice((0, 3, 300)))]
    gguf.key("tokenizer.ggml.tokens", ARRAY, (STRING, words))
    offset = 0
    for i in range(random.randrange(1, 6)):
        type_id = random.choice((*_TYPES, *_TYPES)) if random.random() < 0.99 else 36
        shape = tuple(random.choice((256, 512)) for _ in range(random.randrange(1, 4)))
        name = random.choice(("attn_q.weight", "ffn_up_exps.weight", "attn_norm.weight"))
        gguf.tensors.append(tensor(f"blk.{i}.{name}", shape, type_id, offset))
        block, size = _TYPES.get(type_id, (1, 1))
        offset += -(-math.prod(shape) // block * size // 32) * 32
    # The size of the data is claimed to the reader; the bytes themselves are not needed.
    gguf.data = b""
    return gguf


def mutate(data: bytes, random: Random) -> bytes:
    """One to four changes to fields, lengths, order or bytes."""
    raw = bytearray(data)
    for _ in range(random.randrange(1, 5)):
        if not raw:
            break
        at = random.randrange(len(raw))
        kind = random.randrange(9)
        if kind == 0:
            raw[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            raw[at : at + 8] = struct.pack("<Q", random.choice(NUMBERS))
        elif kind == 2:
            raw[at : at + 4] = struct.pack("<I", random.choice(NUMBERS) & 0xFFFFFFFF)
        elif kind == 3:
            del raw[at:]
        elif kind == 4:
            del raw[at : at + random.randrange(1, 40)]
        elif kind == 5:
            raw[at:at] = raw[at : at + random.randrange(1, 200)]
        elif kind == 6:
            raw[at:at] = random.randbytes(random.randrange(1, 20))
        elif kind == 7:
            raw[8:24] = struct.pack("<QQ", random.choice(NUMBERS), random.choice(NUMBERS))
        else:
            _change_length(raw, random)
    return bytes(raw)


def _change_length(raw: bytearray, random: Random) -> None:
    """Find something that looks like a length before a name, and change it."""
    mark = random.choice((b"llama", b"attention", b"tokenizer", b"general", b"blk.", b"t" * 3))
    at = raw.find(mark, random.randrange(len(raw)))
    if at >= 8:
        raw[at - 8 : at] = struct.pack("<Q", random.choice(NUMBERS))


def hostile_keys(random: Random) -> bytes:
    """A right structure with wrong numbers in it: what the planner must survive."""
    gguf = plausible(random)
    for _ in range(random.randrange(1, 4)):
        i = random.randrange(1 if random.random() < 0.95 else 0, len(gguf.keys))
        name = gguf.keys[i][0]
        kind = random.choice((UINT32, UINT64, INT32, FLOAT32, UINT8, STRING, ARRAY))
        number = random.choice(NUMBERS)
        if kind == STRING:
            changed = value(STRING, random.randbytes(random.randrange(20)))
        elif kind == ARRAY:
            changed = value(
                ARRAY, (UINT64, [random.choice(NUMBERS[:-1]) for _ in range(random.choice((0, 1, 24, 600)))])
            )
        elif kind == FLOAT32:
            changed = value(FLOAT32, random.choice((0.0, -1.0, float("inf"), float("nan"), 1e30)))
        else:
            limits = {UINT32: 2**32 - 1, UINT64: 2**64 - 1, INT32: 2**31 - 1, UINT8: 255}
            changed = value(kind, min(number, limits[kind]))
        gguf.keys[i] = (name, changed)
    if random.random() < 0.2:
        gguf.keys.append((string("x")[8:].decode(), value(UINT32, 1)))
    return gguf.build()


def header_of(seed: int) -> bytes:
    """The header number ``seed``: a third each of mutated bytes, hostile numbers, and both."""
    random = Random(seed)
    if seed % 3 == 0:
        return mutate(plausible(random).build(), random)
    hostile = hostile_keys(random)
    return hostile if seed % 3 == 1 else mutate(hostile, random)


class Endless(MemorySource):
    """The beginning of a file that claims to be as long as it needs to be, as a sparse file can."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, size=1 << 62)
