"""Files that this engine cannot run, or would run wrongly: why, and what to take instead.

Everything is judged by the header. What a header contradicts by itself (wrong places, a file that
is cut off) the reader finds (``models.header``); what a header of the right form says about a model
that will not work here is found in this module, before anything is downloaded or loaded.

Sources of what is known about types of other programs: the type tables of bitnet.cpp, of PrismML's
and of ik_llama.cpp's forks of llama.cpp; of the activation: microsoft/BitNet issue 588.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from models.architectures import DIFFUSION, DRAFT, EMBEDDING, KNOWN
from models.cpu import CpuFeatures
from models.gguf_cursor import shown
from models.header import Header, Tensor
from models.tensor_types import TENSOR_TYPES, type_name
from quantize.errors import ModelFileError

I2_S = 36
_REARRANGED_Q4_0 = (31, 32, 33)
_PRISM = (142, 143)
_IK_LLAMA = frozenset((*range(133, 142), *range(144, 159), *range(200, 400)))
_BITNET_TYPES = (I2_S, 37, 38, 39)
_BITNET_FORKS = frozenset({"bitnet-25", "bitnet-b1.58"})
"""Names of bitnet.cpp for architectures; llama.cpp knows ``bitnet`` only."""

_CONVERT = "Convert the model from its safetensors files: stretch convert FOLDER model.gguf."
_ITSELF = "Choose the file of the model itself."
_FOR_CHAT = "Choose a model that is made for chat."


class Why(StrEnum):
    """The reasons."""

    COMPANION = "companion"
    """Belongs to another model: a projector, an adapter, statistics, a draft."""
    NOT_CHAT = "not chat"
    """Does not write one token after the other."""
    I2_S = "i2_s"
    """Weights of bitnet.cpp."""
    OLD_TYPE = "old type"
    """Weights of a type that llama.cpp has removed."""
    FORK_TYPE = "fork type"
    """Weights of a type that only a fork of llama.cpp has."""
    ARCHITECTURE = "architecture"
    """Nothing that this engine knows."""
    ACTIVATION = "activation"
    """Would run, and answer wrongly."""
    EMPTY = "empty"
    """No weights."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a file is refused, and what to do instead."""

    why: Why
    message: str
    """One sentence."""
    hint: str
    """The alternative."""


def refusal(header: Header) -> Refusal | None:
    """Why this engine cannot run the model of ``header``, None if it can."""
    checks = (_companion, _foreign_type, _architecture, _activation, _empty)
    return next((found for check in checks if (found := check(header)) is not None), None)


def check_runs(header: Header) -> None:
    """Check that this engine runs the model, rightly, and that it is one to chat with.

    Raises:
        ModelFileError: with the reason and the alternative if not.
    """
    found = refusal(header)
    if found is not None:
        raise ModelFileError(found.message, found.hint)


def slow_weights(header: Header, cpu: CpuFeatures) -> str:
    """A sentence if the model runs here, but much slower than it could; else empty.

    llama.cpp multiplies Q2_0 with vector instructions on ARM only (docs/weights.md has figures).
    """
    q2_0 = sum(t.n_bytes for t in header.tensors if TENSOR_TYPES.get(t.type_id, _NONE).name == "q2_0")
    if cpu.neon or 2 * q2_0 < sum(t.n_bytes for t in header.tensors):
        return ""
    return (
        "On this processor llama.cpp computes q2_0 weights value by value, many times slower than tq2_0 "
        "or q4_0: take another file of the model if there is one."
    )


_NONE = TENSOR_TYPES[0]


def _companion(header: Header) -> Refusal | None:
    name, arch = header.name, header.architecture
    kind = header.text("general.type")
    what = {
        "adapter": "changes another model (a LoRA adapter)",
        "imatrix": "holds statistics for quantizing another model",
        "mmproj": "reads pictures for another model",
        "projector": "reads pictures for another model",
    }.get(kind, "")
    what = what or {
        "clip": "reads pictures for another model",
        "controlvector": "steers another model",
        "imatrix": "holds statistics for quantizing another model",
    }.get(arch, "is a helper of another model" if arch in DRAFT else "")
    return Refusal(Why.COMPANION, f"{name} {what} and cannot run alone.", _ITSELF) if what else None


def _architecture(header: Header) -> Refusal | None:
    name, arch = header.name, header.architecture
    if arch in EMBEDDING:
        return Refusal(
            Why.NOT_CHAT, f"{name} ({arch}) turns text into vectors; it does not write.", _FOR_CHAT
        )
    if arch in DIFFUSION:
        return Refusal(
            Why.NOT_CHAT,
            f"{name} ({arch}) writes all words at once, which Stretch does not support.",
            _FOR_CHAT,
        )
    if arch in _BITNET_FORKS:
        return Refusal(
            Why.ARCHITECTURE,
            f"{name} is of the architecture {arch}, which only bitnet.cpp runs.",
            "1bitLLM/bitnet_b1_58-large and the TriLM and Bonsai models are ternary or 1-bit and run here.",
        )
    if arch not in KNOWN:
        return Refusal(
            Why.ARCHITECTURE,
            f"{name} is of an architecture that this engine does not know: {shown(arch)}.",
            "A newer version of Stretch may know it. stretch models lists models that run.",
        )
    return None


def _foreign_type(header: Header) -> Refusal | None:
    """Weights of a type that this engine does not read."""
    foreign = [t for t in header.tensors if t.type_id not in TENSOR_TYPES]
    if not foreign:
        return None
    name, tensor = header.name, foreign[0]
    of_bitnet = header.architecture.startswith("bitnet") or _is_i2_s(header, tensor)
    if tensor.type_id in _BITNET_TYPES and of_bitnet:
        what = {I2_S: "i2_s", 37: "i8_s", 38: "tl1"}[tensor.type_id]
        return Refusal(
            Why.I2_S,
            f"{name} holds {what} weights, which only bitnet.cpp reads; llama.cpp has no such type.",
            f"Look for a file of the model whose name ends in TQ2_0 or TQ1_0. {_CONVERT}",
        )
    if tensor.type_id in _REARRANGED_Q4_0 or tensor.type_id in (4, 5, *_BITNET_TYPES):
        return Refusal(
            Why.OLD_TYPE,
            f"{name} holds weights of type {type_name(tensor.type_id)}.",
            "Take the Q4_0 file of the same model: llama.cpp arranges its weights for the processor itself."
            if tensor.type_id in _REARRANGED_Q4_0
            else "Look for a newer file of the same model.",
        )
    hint = "Look for a file of the same model with types of llama.cpp itself, for example Q4_K_M."
    if tensor.type_id in _PRISM:
        hint = "Take the file of the same repository whose name ends in Q2_0_g64, if it has one."
    elif tensor.type_id in _IK_LLAMA:
        hint = "The file is for ik_llama.cpp. Take one for llama.cpp, for example Q4_K_M."
    return Refusal(
        Why.FORK_TYPE,
        f"{name} holds weights that this engine does not read, of type {type_name(tensor.type_id)}.",
        hint,
    )


def _is_i2_s(header: Header, tensor: Tensor) -> bool:
    """Whether the room between a tensor and the next one is that of i2_s: a quarter byte per value
    and 32 bytes for the scale. (llama.cpp once used the same id for a kind of iq4_nl.)"""
    later = [t.offset for t in header.tensors if t.part == tensor.part and t.offset > tensor.offset]
    room = min(later) - tensor.offset if later else 0
    needed = tensor.n_elements // 4 + 32
    return tensor.type_id == I2_S and (not room or needed <= room < needed + header.alignment)


def _activation(header: Header) -> Refusal | None:
    """BitNet b1.58-2B and its kin: llama.cpp computes the graph of ``bitnet`` with SiLU whatever the
    file says. The files rarely say it, so the sizes of the one model family tell."""
    if header.architecture != "bitnet":
        return None
    says = header.get("hidden_activation") or header.get("hidden_act")
    sizes = [header.get(k) for k in ("embedding_length", "feed_forward_length", "block_count")]
    if says != "relu2" and (says is not None or sizes != [2560, 6912, 30]):
        return None
    return Refusal(
        Why.ACTIVATION,
        f"{header.name} is made from BitNet b1.58-2B, and llama.cpp runs that wrongly: the model needs "
        "squared ReLU and gets SiLU (perplexity 100 instead of 17).",
        "Ternary and 1-bit models that run rightly: prism-ml/Bonsai, TriLM, 1bitLLM/bitnet_b1_58-large.",
    )


def _empty(header: Header) -> Refusal | None:
    if header.tensors:
        return None
    return Refusal(Why.EMPTY, f"{header.name} holds no weights.", _ITSELF)
