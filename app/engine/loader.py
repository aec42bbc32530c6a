"""Loading a model file and finding out what it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import llama_cpp.llama_cpp as L

from app.engine import words
from app.engine.log import EngineLog
from app.engine.prompt import PromptMaker
from app.engine.protocol import ModelInfo
from app.engine.template import ChatTemplate, Renderer
from app.engine.vocabulary import Vocabulary
from models.geometry import Shape
from quantize.errors import ModelFileError
from quantize.llama import Model


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

    renderer = Renderer()  # starts while the model loads
    try:
        model = Model(path, repack=repack, n_gpu_layers=n_gpu_layers, on_progress=progress)
    except ModelFileError as error:
        renderer.close()
        raise ModelFileError(f"{error.message.rstrip('.')}{_reason(log)}.", error.hint) from None
    try:
        vocabulary = Vocabulary(model)
        template = ChatTemplate(
            model.metadata("tokenizer.chat_template"),
            bos=vocabulary.bos_text,
            eos=vocabulary.eos_text,
            renderer=renderer,
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
        renderer.close()
        model.close()
        raise


def _reason(log: EngineLog) -> str:
    """The first error of llama.cpp without the names of its functions, after a colon."""
    for line in log.errors:
        text = re.sub(r"^\w+: (error loading model: )?", "", line)
        text = re.sub(r"^error loading model \w+: ", "", text)
        if text:
            return ": " + words.without_controls(text).rstrip(".")[:300]
    return ""


def describe(
    loaded: LoadedModel,
    shape: Shape,
    no_transcode_reason: str,
    notes: tuple[str, ...],
) -> ModelInfo:
    """What the interface shows of a model.

    Args:
        notes: sentences about this load, some of them empty.
    """
    model, handle = loaded.model, loaded.model.handle
    name = words.without_controls(model.metadata("general.name") or "", 100)
    return ModelInfo(
        path=str(model.path),
        name=name or model.path.stem,
        n_ctx_train=L.llama_model_n_ctx_train(handle),
        head_dim_k=shape.head_dim_k,
        head_dim_v=shape.head_dim_v,
        n_swa=L.llama_model_n_swa(handle),
        transcodes=not no_transcode_reason,
        no_transcode_reason=no_transcode_reason,
        notes=tuple(note for note in (*notes, loaded.template.note, *shape.unknown) if note),
    )
