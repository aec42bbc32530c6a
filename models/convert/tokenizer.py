"""The vocabulary of ``tokenizer.json`` as GGUF metadata: byte-level BPE."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.convert.safetensors import read_json
from quantize.errors import ModelFileError

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""``llama_token_type``."""

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {
    _WORDS + r"\p{N}{1,3}" + _REST: "llama-bpe",
    _WORDS + r"\p{N}" + _REST: "qwen2",
}
"""llama.cpp's names for the regular expressions that cut a text before BPE."""


@dataclass
class Vocabulary:
    """What GGUF needs of a tokenizer."""

    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    ids: dict[str, int] = field(default_factory=dict)
    """``bos``, ``eos``, ``unknown``, ``padding``, as far as they are known."""
    add_bos: bool = False
    template: str = ""


def read_vocabulary(folder: Path, n_vocab: int, config: dict[str, Any], pre: str = "") -> Vocabulary:
    """Read the tokenizer of a checkpoint.

    Args:
        n_vocab: rows of the embedding; tokens that are missing become unused ones.
        config: of the model, for ids that the tokenizer does not name.
        pre: llama.cpp's name for how a text is cut; empty finds it out.

    Raises:
        ModelFileError: if it is of another kind, or damaged.
    """
    said = read_json(folder / "tokenizer.json")
    settings = read_json(path) if (path := folder / "tokenizer_config.json").exists() else {}
    try:
        found = _vocabulary(said, n_vocab, pre)
        _special(found, said, settings, config)
        found.template = _template(folder, settings)
    except (TypeError, KeyError, ValueError, AttributeError, IndexError):
        raise ModelFileError("tokenizer.json is damaged.", "Download it again.") from None
    return found


def _vocabulary(said: dict[str, Any], n_vocab: int, pre: str) -> Vocabulary:
    model = said["model"]
    if model.get("type", "BPE") != "BPE" or model.get("byte_fallback") or not _byte_level(said):
        raise ModelFileError(
            "The tokenizer is not byte-level BPE.", "Use llama.cpp's convert_hf_to_gguf.py for this model."
        )
    tokens = [f"[UNUSED{i}]" for i in range(n_vocab)]
    types = [UNUSED] * n_vocab
    kinds = [(text, number, NORMAL) for text, number in model["vocab"].items()]
    for added in said.get("added_tokens") or []:
        kinds.append((added["content"], added["id"], CONTROL if added["special"] else USER_DEFINED))
    for text, number, kind in kinds:
        if not isinstance(text, str) or not 0 <= int(number) < n_vocab:
            raise ModelFileError(f"The tokenizer has a token beyond the {n_vocab:,} of the model.")
        tokens[int(number)], types[int(number)] = text, kind
    if len(set(tokens)) != n_vocab:
        raise ModelFileError("The tokenizer has a token twice.")
    merges = [m if isinstance(m, str) else f"{m[0]} {m[1]}" for m in model["merges"]]
    return Vocabulary(pre or _split_name(said), tokens, types, merges)


def _steps(said: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps before BPE."""
    step = said.get("pre_tokenizer") or {}
    return list(step["pretokenizers"]) if step.get("type") == "Sequence" else [step]


def _byte_level(said: dict[str, Any]) -> bool:
    return any(step.get("type") == "ByteLevel" for step in _steps(said))


def _split_name(said: dict[str, Any]) -> str:
    """llama.cpp's name for how a text is cut."""
    steps = _steps(said)
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        name = SPLITS.get(str(steps[0]["pattern"].get("Regex")))
        if name and steps[0].get("behavior") == "Isolated" and not steps[0].get("invert"):
            return name
    raise ModelFileError(
        "It is not known which of llama.cpp's ways to cut a text this tokenizer has.",
        "Name it with --pre, for example --pre llama-bpe. A wrong one makes the model worse, not useless.",
    )


def _special(
    found: Vocabulary, said: dict[str, Any], settings: dict[str, Any], config: dict[str, Any]
) -> None:
    """Ids of the tokens with a task, and whether a text begins with one."""
    numbers = {text: i for i, text in enumerate(found.tokens)}
    for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("unknown", "unk"), ("padding", "pad")):
        named = settings.get(f"{theirs}_token")
        text = named.get("content") if isinstance(named, dict) else named
        number = numbers.get(text) if isinstance(text, str) else None
        if number is None:
            number = config.get(f"{theirs}_token_id")
            number = number[0] if isinstance(number, list) and number else number
        if isinstance(number, int) and 0 <= number < len(found.tokens):
            found.ids[ours] = number
    if "add_bos_token" in settings:
        found.add_bos = bool(settings["add_bos_token"])
    elif "bos" in found.ids:
        processor = said.get("post_processor") or {}
        steps = processor.get("processors") or [processor]
        first = [step["single"][0] for step in steps if step.get("type") == "TemplateProcessing"]
        bos = found.tokens[found.ids["bos"]]
        found.add_bos = any(item.get("SpecialToken", {}).get("id") == bos for item in first)


def _template(folder: Path, settings: dict[str, Any]) -> str:
    """The chat template: in a file of its own, or among the settings."""
    path = folder / "chat_template.jinja"
    if path.exists() and path.stat().st_size < 1 << 20:
        return path.read_text(encoding="utf-8", errors="replace")
    said = settings.get("chat_template")
    if isinstance(said, list):
        said = next((t["template"] for t in said if t.get("name") == "default"), None)
    return said if isinstance(said, str) else ""
