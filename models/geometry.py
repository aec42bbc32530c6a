"""The shape of a model's memory, from its header: what each layer keeps per token or per sequence.

The rules are those of llama.cpp's ``load_hparams``, of ``load_arch_hparams`` of each architecture
and of ``create_memory``, for llama.cpp as llama-cpp-python 0.3.36 holds it. An architecture
without an entry in the tables below keeps K and V of every token in every layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd

from models.architectures import HYBRID, MLA, RECURRENT, SLIDING, UNPLANNED
from models.header import Header
from models.refusals import check_runs
from quantize.errors import ModelFileError
from quantize.geometry import Geometry, LayerHeads

MAX_LAYERS = 512
"""``LLAMA_MAX_LAYERS``."""

_GEMMA3N_KV_LAYERS = 20
_EXAONE4_SLIDING_LAYERS = 64


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the model."""

    n_head: int
    heads: LayerHeads
    """Its KV heads, whether or not it stores them."""
    stores_kv: bool
    """Whether it keeps K and V of each token: recurrent layers do not, and layers that share the
    cache of another one do not."""
    slides: bool
    """Whether it sees the last ``n_swa`` tokens only."""
    recurrent: bool
    """Whether it keeps a state of fixed size per sequence."""
    n_ff: int


@dataclass(frozen=True)
class Shape:
    """The shape of a whole model."""

    name: str
    """Of the file, for messages."""
    architecture: str
    n_ctx_train: int
    """0 if the file does not say."""
    n_embd: int
    n_vocab: int
    layers: tuple[Layer, ...]
    n_swa: int
    """Width of the sliding window, 0 for none."""
    mla: bool
    """Multi-head latent attention: K holds everything, there is no V."""
    recurrent_bytes: int
    """Bytes of all recurrent layers for one sequence."""
    unknown: tuple[str, ...] = ()
    """Sentences about what the header alone does not tell."""

    @cached_property
    def base(self) -> tuple[LayerHeads, ...]:
        """Heads of the layers whose cache holds every token."""
        return tuple(x.heads for x in self.layers if x.stores_kv and not x.slides)

    @cached_property
    def sliding(self) -> tuple[LayerHeads, ...]:
        """Heads of the layers whose cache holds the window only."""
        return tuple(x.heads for x in self.layers if x.stores_kv and x.slides)

    @cached_property
    def head_dim_k(self) -> int:
        """The largest size that divides every head of K: what a block of a cache type must divide."""
        return gcd(*(x.heads.head_dim_k for x in self.layers))

    @cached_property
    def head_dim_v(self) -> int:
        """The same for V."""
        return gcd(*(x.heads.head_dim_v for x in self.layers))

    @property
    def stores_kv(self) -> bool:
        """Whether any layer keeps K and V; the cache types matter only then."""
        return bool(self.base or self.sliding)

    def geometry(self) -> Geometry:
        """The shape that ``quantize.transcode`` needs to cut the rows of a saved state into heads.

        Meaningful for models without recurrent layers and without MLA only: the states of the
        others cannot be transcoded.
        """
        parts = (self.base, self.sliding) if self.n_swa else (self.base,)
        numbers = self.layer_numbers()
        plain = all(part == tuple(range(len(part))) for part in numbers)
        return Geometry(parts, self.layers[0].heads, () if plain else numbers)

    def layer_numbers(self) -> tuple[tuple[int, ...], ...]:
        """Per part of ``geometry()`` the numbers of its layers in the model."""
        base = tuple(i for i, x in enumerate(self.layers) if x.stores_kv and not x.slides)
        sliding = tuple(i for i, x in enumerate(self.layers) if x.stores_kv and x.slides)
        return (base, sliding) if self.n_swa else (base,)


def read_shape(header: Header) -> Shape:
    """The shape of the model that ``header`` describes.

    Raises:
        ModelFileError: if a key that llama.cpp needs is missing or makes no sense, or if this
            engine does not run the architecture as a chat model.
    """
    arch = header.architecture
    check_runs(header)
    n_all = header.integer("block_count", top=MAX_LAYERS)
    n_extra = header.integer("nextn_predict_layers", 0)  # only for speculative decoding, without a cache here
    if n_extra >= n_all:
        raise ModelFileError(f"{header.name} has an impossible number of layers.")
    n_embd = header.integer("embedding_length")
    n_head = header.per_layer("attention.head_count", n_all, 0)
    n_head_kv = (
        header.per_layer("attention.head_count_kv", n_all) if _says(header, "head_count_kv") else n_head
    )
    n_ff = header.per_layer("feed_forward_length", n_all, 0)
    layers_of_trunk = n_all - n_extra
    recurrent = _recurrent_layers(header, layers_of_trunk, n_all, n_head_kv, n_ff)
    n_swa, slides = _sliding_layers(header, layers_of_trunk, n_all, recurrent)
    stores = _storing_layers(header, layers_of_trunk, n_all, recurrent, n_ff)
    full, window = _head_sizes(header, n_embd, n_head[0])
    layers = tuple(
        Layer(
            n_head[i],
            LayerHeads(*(window if slides[i] else full), n_head_kv[i]),
            stores[i],
            slides[i],
            recurrent[i],
            n_ff[i],
        )
        for i in range(n_all)
    )
    if arch == "nanbeige":  # the layers are gone through several times, each time with a cache of its own
        n_loops = header.integer("num_loops", 1)
        if not 1 <= n_loops * n_all <= MAX_LAYERS:
            raise ModelFileError(f"{header.name} has an impossible number of layers.")
        layers *= n_loops
    return Shape(
        name=header.name,
        architecture=arch,
        n_ctx_train=header.integer("context_length", 0),
        n_embd=n_embd,
        n_vocab=header.n_vocab,
        layers=layers,
        n_swa=n_swa,
        mla=arch in MLA and _uint(header, "key_length_mla") > 0 and _uint(header, "value_length_mla") > 0,
        recurrent_bytes=4 * _recurrent_values(header, n_embd, n_head[0]) * sum(recurrent),
        unknown=_unknown(header),
    )


def _uint(header: Header, key: str) -> int:
    return header.integer(f"attention.{key}", 0)


def _says(header: Header, key: str) -> bool:
    return header.get(f"attention.{key}") is not None


def _head_sizes(header: Header, n_embd: int, n_head: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Sizes of a head of K and of V, in layers that see everything and in those with the window."""
    if not n_head:  # no attention in the first layer: llama.cpp reads no sizes then
        return (0, 0), (_uint(header, "key_length_swa"), _uint(header, "value_length_swa"))
    k = header.integer("attention.key_length", n_embd // n_head)
    v = header.integer("attention.value_length", n_embd // n_head)
    return (k, v), (
        header.integer("attention.key_length_swa", k),
        header.integer("attention.value_length_swa", v),
    )


def _sliding_layers(
    header: Header, n_layer: int, n_all: int, recurrent: list[bool]
) -> tuple[int, list[bool]]:
    """Width of the sliding window (0: none) and which layers have it."""
    arch = header.architecture
    none = 0, [False] * n_all
    if arch == "lfm2":
        n_swa = _uint(header, "sliding_window")
        return (n_swa, [i < n_layer and not recurrent[i] for i in range(n_all)]) if n_swa else none
    rule = SLIDING.get(arch)
    if rule is None or (arch == "exaone4" and n_layer != _EXAONE4_SLIDING_LAYERS):
        return none
    n_swa = header.integer("attention.sliding_window", None if rule.required else rule.window)
    if not n_swa:
        return none
    pattern = header.get("attention.sliding_window_pattern")
    if isinstance(pattern, list):
        if len(pattern) > MAX_LAYERS:
            raise ModelFileError(f"{header.name} lists more layers with a sliding window than it can have.")
        slides = [i < len(pattern) and bool(pattern[i]) for i in range(n_all)]
    else:
        if not rule.period and pattern is None:
            raise ModelFileError(f"{header.name} does not say which layers have a sliding window.")
        period = header.integer("attention.sliding_window_pattern", rule.period)
        dense = 0 if rule.dense_first else period - 1
        slides = [i < n_layer and (not period or i % period != dense) for i in range(n_all)]
    return rule.fixed or n_swa, slides


def _recurrent_layers(
    header: Header, n_layer: int, n_all: int, n_head_kv: list[int], n_ff: list[int]
) -> list[bool]:
    """Which layers keep a state of fixed size."""
    arch = header.architecture
    if arch in RECURRENT or arch == "falcon-h1":
        return [i < n_layer for i in range(n_all)]
    if arch not in HYBRID:
        return [False] * n_all
    interval = HYBRID[arch]
    if not interval:
        without_ffn = arch.startswith("nemotron_h")
        return [i < n_layer and n_head_kv[i] == 0 and not (without_ffn and n_ff[i]) for i in range(n_all)]
    if _says(header, "recurrent_layers"):
        listed = header.per_layer("attention.recurrent_layers", n_all)
        return [i < n_layer and bool(listed[i]) for i in range(n_all)]
    interval = header.integer("full_attention_interval", interval)
    if not interval:
        raise ModelFileError(f"{header.name} has an impossible pattern of layers.")
    return [i < n_layer and (i + 1) % interval != 0 for i in range(n_all)]


def _storing_layers(
    header: Header, n_layer: int, n_all: int, recurrent: list[bool], n_ff: list[int]
) -> list[bool]:
    """Which layers keep K and V of each token."""
    arch = header.architecture
    if arch in RECURRENT:
        return [False] * n_all
    if arch == "falcon-h1":
        return [True] * n_all
    if arch.startswith("nemotron_h"):
        return [not recurrent[i] and not n_ff[i] for i in range(n_all)]
    if arch in HYBRID and not HYBRID[arch]:
        return [not r for r in recurrent]
    last = n_layer
    if arch == "gemma3n":
        last = min(n_all, _GEMMA3N_KV_LAYERS)
    elif arch == "gemma4":
        shared = _uint(header, "shared_kv_layers")
        if n_all - shared < 2:
            raise ModelFileError(f"{header.name} has an impossible number of layers that share a cache.")
        last = min(n_layer, n_all - shared)
    return [i < last and not recurrent[i] for i in range(n_all)]


def _recurrent_values(header: Header, n_embd: int, n_head: int) -> int:
    """Values of the state of one recurrent layer and one sequence (``n_embd_r`` + ``n_embd_s``)."""
    arch = header.architecture
    if arch not in RECURRENT and arch not in HYBRID:
        return 0
    if "rwkv" in arch:
        return n_embd * (header.integer("token_shift_count", 2) + header.integer("wkv.head_size"))
    kernel = header.integer("ssm.conv_kernel", 0)
    if arch in ("lfm2", "lfm2moe"):
        return n_embd * max(header.integer("shortconv.l_cache") - 1, 0)
    if arch in ("bailingmoe3", "kimi-k3", "kimi-linear"):
        head = header.integer("kda.head_dim")
        return 3 * (kernel - 1 if kernel else 3) * n_head * head + head * head * n_head
    if arch == "minimax-01":
        head = header.integer("attention.key_length", n_embd // n_head if n_head else 0)
        return head * head * n_head
    inner, state = header.integer("ssm.inner_size"), header.integer("ssm.state_size")
    groups = header.integer("ssm.group_count", 0)
    if arch in ("mamba", "jamba"):
        groups = 0
    return max(kernel - 1, 0) * (inner + 2 * groups * state) + state * inner


def _unknown(header: Header) -> tuple[str, ...]:
    """Sentences about what the header alone does not tell."""
    arch = header.architecture
    sentences = []
    if arch in UNPLANNED:
        sentences.append(
            f"The cache of {arch} has parts that the formula leaves out; only the engine's dry run is exact."
        )
    if header.split[1] > header.n_parts:
        sentences.append("This is one part of a split model: the weights of the other parts are not counted.")
    return tuple(sentences)
