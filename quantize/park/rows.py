"""The codec that keeps rows as a cache type has them."""

from __future__ import annotations

from typing import Literal

from quantize import ggml
from quantize.cache_types import CachePair, parse_pair
from quantize.errors import CacheTypeError, StateError, UsageError
from quantize.park.codec import Blocks, Codec, Job, Setting, Sink, spans
from quantize.park.plain import SIDES, Frame, Source, Target

DEFAULT_TYPE = "q8_0"


class GgmlRows(Codec):
    """Rows of any cache type: no calibration, no native library, nothing to go wrong."""

    name = "ggml"
    about = "Rows of a cache type, for example ggml:q4_0."

    def check(self, setting: Setting) -> Setting:
        if setting.step:
            raise UsageError("The codec ggml takes a cache type.", "Write for example ggml:q4_0.")
        try:
            return Setting(self.name, type_name=parse_pair(setting.type_name or DEFAULT_TYPE).label)
        except CacheTypeError as error:
            raise UsageError(error.message, error.hint) from error

    def obstacle(self, frame: Frame, setting: Setting) -> str:
        k = {h.head_dim_k for part in frame.geometry.parts for h in part} or {256}
        v = {h.head_dim_v for part in frame.geometry.parts for h in part} or {256}
        return parse_pair(setting.type_name).obstacle(k, v, mla=False)

    def encode(self, source: Source, job: Job, sink: Sink) -> None:
        formats = _formats(job)
        for part, layers in enumerate(job.frame.geometry.parts):
            for layer in range(len(layers)):
                for side in SIDES:
                    for span in spans(job.cells[part]):
                        values = source.turned(part, layer, side, span.start, span.end)
                        sink(job.frame.pack(values, formats[side], part, side).tobytes())

    def decode(self, blocks: Blocks, job: Job, target: Target) -> None:
        import numpy as np

        formats = _formats(job)
        for part, layers in enumerate(job.frame.geometry.parts):
            for layer in range(len(layers)):
                for side in SIDES:
                    size = formats[side].row_size(job.frame.width(part, layer, side))
                    for span in spans(job.cells[part]):
                        data = next(blocks)
                        if len(data) != size * (span.end - span.start):
                            raise StateError("A block of the parked conversation has the wrong size.")
                        raw = np.frombuffer(data, np.uint8).reshape(span.end - span.start, size)
                        target.put_raw(part, layer, side, span.start, raw, formats[side].id)


def _formats(job: Job) -> dict[Literal["k", "v"], ggml.RowFormat]:
    pair: CachePair = parse_pair(job.setting.type_name)
    layers = [h for part in job.frame.geometry.parts for h in part]
    k, v = pair.type_ids({h.head_dim_k for h in layers} or {256}, {h.head_dim_v for h in layers} or {256})
    return {"k": ggml.row_format(k), "v": ggml.row_format(v)}
