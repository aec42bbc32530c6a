"""Loading a model file and finding out what it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import llama_cpp.llama_cpp as L
import numpy as np

from app.engine.log import EngineLog
from app.engine.prompt import PromptMaker
from app.engine.protocol import ModelInfo
from app.engine.template import ChatTemplate
from app.engine.vocabulary import Vocabulary
from quantize.errors import EngineError, ModelFileError
from quantize.llama import Context, Model

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass
class LoadedModel:
    """A model and what is made from it once."""

    model: Model
    vocabulary: Vocabulary
    template: ChatTemplate
    prompts: PromptMaker
    stop_strings: tuple[str, ...]

    def close(self) -> None:
        """Free the weights. Close every context first."""
        self.template.close()
        self.model.close()


def load(
    path: Path,
    log: EngineLog,
    *,
    repack: bool,
    n_gpu_layers: int,
    on_progress: Callable[[float], bool],
) -> LoadedModel:
    """Load ``path``.

    Args:
        on_progress: called with 0..1, a few times per second; False cancels.

    Raises:
        ModelFileError: if llama.cpp does not take the file; the message has its reason.
    """
    log.begin_model()
    reported = 0.0

    def progress(fraction: float) -> bool:
        nonlocal reported
        if (now := perf_counter()) - reported < 0.1 and fraction < 1:
            return True
        reported = now
        return on_progress(fraction)

    try:
        model = Model(path, repack=repack, n_gpu_layers=n_gpu_layers, on_progress=progress)
    except ModelFileError as error:
        raise ModelFileError(f"{error.message.rstrip('.')}{_reason(log)}.", error.hint) from None
    try:
        vocabulary = Vocabulary(model)
        template = ChatTemplate(
            model.metadata("tokenizer.chat_template"), bos=vocabulary.bos_text, eos=vocabulary.eos_text
        )
        template.probe()
        marks = template.source if template.name == "model" else "<|im_end|><|im_start|>"
        return LoadedModel(
            model,
            vocabulary,
            template,
            PromptMaker(model, vocabulary, template),
            vocabulary.stop_strings(marks),
        )
    except BaseException:
        model.close()
        raise


def _reason(log: EngineLog) -> str:
    """The first error of llama.cpp without the names of its functions, after a colon."""
    for line in log.errors:
        text = re.sub(r"^\w+: (error loading model: )?", "", line)
        text = re.sub(r"^error loading model \w+: ", "", text)
        if text:
            return ": " + _CONTROL.sub(" ", text).strip().rstrip(".")[:300]
    return ""


def first_decode(context: Context, vocabulary: Vocabulary) -> str:
    """Decode one token, read the saved state, and empty the cache again.

    Returns:
        why the state cannot be transcoded, or empty if it can.

    Raises:
        EngineError: if the model cannot write text.
    """
    from quantize import state

    token = vocabulary.bos if vocabulary.bos >= 0 else 0
    if context.decode((token,), 0) != 0:
        raise EngineError("llama.cpp loaded this model but cannot run it.", "The log says why.")
    context.logits()
    data = np.empty(context.state_size(), np.uint8)
    size = context.save_state(data)
    reason = state.untranscodable_reason(data[:size]) if hasattr(state, "untranscodable_reason") else ""
    context.clear()
    return reason


def describe(loaded: LoadedModel, no_transcode_reason: str) -> ModelInfo:
    """What the interface shows of a model."""
    model, handle = loaded.model, loaded.model.handle
    architecture = model.metadata("general.architecture") or "unknown"
    n_head = max(1, L.llama_model_n_head(handle))
    head_dim = L.llama_model_n_embd(handle) // n_head
    name = _CONTROL.sub(" ", model.metadata("general.name") or "").strip()[:100]
    return ModelInfo(
        path=str(model.path),
        name=name or model.path.stem,
        architecture=architecture,
        file_bytes=model.path.stat().st_size,
        n_params=L.llama_model_n_params(handle),
        n_layer=L.llama_model_n_layer(handle),
        n_ctx_train=L.llama_model_n_ctx_train(handle),
        head_dim_k=_number(model, f"{architecture}.attention.key_length", head_dim),
        head_dim_v=_number(model, f"{architecture}.attention.value_length", head_dim),
        n_swa=L.llama_model_n_swa(handle),
        template=loaded.template.name,
        transcodes=not no_transcode_reason,
        no_transcode_reason=no_transcode_reason,
        notes=(loaded.template.note,) if loaded.template.note else (),
    )


def _number(model: Model, key: str, otherwise: int) -> int:
    text = model.metadata(key)
    return int(text) if text is not None and text.isdecimal() else otherwise
