"""What llama.cpp does differently from architecture to architecture when it makes a cache.

Read from the sources of llama.cpp 0c1e57098 (``src/llama-arch.cpp``, ``llama_model::create_memory``
and ``load_arch_hparams`` of every file in ``src/models``). Whatever is not in a table here follows
the general rule.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sliding:
    """How an architecture finds out which layers have a sliding window."""

    period: int = 0
    """Every ``period``-th layer sees everything. 0: the file must list the layers."""
    dense_first: bool = False
    """Whether the layer that sees everything is the first of a period, not the last."""
    required: bool = False
    """Whether the file must give the width; otherwise a file without it has no window."""
    window: int = 0
    """Width if the file does not say."""
    fixed: int | None = None
    """Width whatever the file says (0 in the file still means none)."""


SLIDING: dict[str, Sliding] = {
    "afmoe": Sliding(4),
    "cohere2": Sliding(4, required=True),
    "cohere2moe": Sliding(4, dense_first=True, required=True),
    "exaone-moe": Sliding(4, required=True),
    "exaone4": Sliding(4, window=4096),
    "gemma2": Sliding(2, window=4096),
    "gemma3": Sliding(6),
    "gemma3n": Sliding(5, required=True),
    "gemma4": Sliding(required=True),
    "gpt-oss": Sliding(2, required=True),
    "granite_swa": Sliding(required=True),
    "laguna": Sliding(4, dense_first=True),
    "llama4": Sliding(4, window=8192, fixed=8192),
    "maple": Sliding(required=True),
    "mellum": Sliding(4),
    "mimo2": Sliding(required=True),
    "muse-glimmer": Sliding(4, required=True),
    "olmo2": Sliding(4),
    "plamo3": Sliding(8),
    "smallthinker": Sliding(4, dense_first=True, fixed=4096),
    "spark2_5": Sliding(required=True),
    "step35": Sliding(required=True),
}
"""Architectures with sliding-window layers. (phi3's window is disabled in llama.cpp; lfm2 is
treated in ``models.geometry``.)"""

RECURRENT = frozenset({"arwkv7", "mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7"})
"""No attention at all: a state of fixed size in every layer."""

HYBRID: dict[str, int] = {
    "bailingmoe3": 0,
    "falcon-h1": 0,
    "granitehybrid": 0,
    "jamba": 0,
    "kimi-k3": 0,
    "kimi-linear": 0,
    "lfm2": 0,
    "lfm2moe": 0,
    "minimax-01": 8,
    "nemotron_h": 0,
    "nemotron_h_moe": 0,
    "plamo2": 0,
    "qwen3next": 4,
    "qwen35": 4,
    "qwen35moe": 4,
}
"""Recurrent and attention layers mixed. The number: every n-th layer is attention unless the file
lists them; 0: the layers without KV heads are recurrent."""

MLA = frozenset({"bailingmoe3", "deepseek2", "kimi-k3", "kimi-linear", "mistral4"})
"""Can keep one compressed row instead of K and V (multi-head latent attention), if the file says so."""

EMBEDDING = frozenset(
    {
        "bert",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "llama-embed",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "t5encoder",
        "wavtokenizer-dec",
    }
)
"""Turn text into vectors (or vectors into sound); they do not write."""

DIFFUSION = frozenset({"dream", "llada", "llada-moe", "rnd1"})
"""Write all words at once; llama.cpp gives them no cache and this program cannot drive them."""

DRAFT = frozenset({"dflash", "eagle3", "gemma4-assistant"})
"""Helpers for speculative decoding, no use without the model that they belong to."""

UNPLANNED = frozenset(
    {
        "deepseek32",
        "deepseek4",
        "dots3note",
        "glm-dsa",
        "glm5-next",
        "graniteswitch",
        "hy_v4",
        "minimax-m3",
        "pockettts",
        "qwen3tts",
        "qwen4exp",
        "t5",
    }
)
"""Caches with parts that this planner has no formula for (sparse attention with an index, compressed
copies, an encoder). The engine's dry run still tells their size."""

_PLAIN = """
apertus arcee arctic baichuan bailingmoe bailingmoe2 bitnet bloom chameleon chatglm codeshell cogvlm
command-r dbrx deci deepseek deepseek2 deepseek2-ocr dots1 ernie4_5 ernie4_5-moe exaone falcon gemma glm4
glm4moe gpt2 gptneox granite granitemoe grok grovemoe hrm_text hunyuan-dense hunyuan-moe hunyuan_vl hy_v3
internlm2 jais jais2 llama maincoder minicpm minicpm3 minimax-m2 mistral3 mistral4 mpt nanbeige nemotron
olmo olmoe openelm orion paddleocr pangu-embedded phi2 phi3 phimoe plamo plm qwen qwen2 qwen2moe qwen2vl
qwen3 qwen3moe qwen3vl qwen3vlmoe refact seed_oss smollm3 stablelm starcoder starcoder2 talkie xverse
"""

KNOWN = (
    frozenset(_PLAIN.split())
    | set(SLIDING)
    | RECURRENT
    | set(HYBRID)
    | EMBEDDING
    | DIFFUSION
    | DRAFT
    | UNPLANNED
)
"""Every architecture that this engine loads."""
