"""Figures as the engine would send them, for the widgets to show."""

from __future__ import annotations

from dataclasses import replace

from app.engine.protocol import CachePreview, Loaded, MemoryFigures, ModelInfo, Status
from models.stretch_row import StretchRow
from quantize.lab.loss import NO_LOSS, Loss

GIB = 2**30
MIB = 2**20


def row(
    type_k: str = "q8_0",
    type_v: str = "",
    kib: float = 77.0,
    max_ctx: int = 77_100,
    *,
    n_ctx: int = 16_384,
    trained: int = 32_768 * 4,
    tail: int = 0,
    refused: str = "",
) -> StretchRow:
    return StretchRow(
        type_k=type_k,
        type_v=type_v or type_k,
        tail=tail,
        bytes_per_token=kib * 1024,
        kv_bytes=int(kib * 1024 * n_ctx),
        max_ctx=min(max_ctx, trained),
        max_ctx_memory=max_ctx,
        limit="trained" if max_ctx >= trained else "memory",
        refused=refused,
    )


def loss(kld: float, top1: float = 0.97, *, measured: bool = True) -> Loss:
    """On a model whose floor is .002."""
    return Loss(kld, top1, 0.002, measured=measured, n_tokens=96)


def broken_rows() -> tuple[StretchRow, ...]:
    """The table of a model whose K has a huge constant, in the order of loss: one row is still estimated."""
    rows = (
        (row("f16", kib=12.0, max_ctx=300_000), NO_LOSS),
        (row("q8_0", "tq3", kib=4.69, max_ctx=800_000, tail=256), loss(0.0037, 0.964)),
        (row("q8_0", kib=6.38, max_ctx=600_000), loss(0.0058, 0.969)),
        (row("tq4", "tq3", kib=2.81, max_ctx=1_200_000, tail=256), loss(0.13, measured=False)),
        (row("tq3", kib=2.44, max_ctx=1_400_000, tail=256), loss(1.78, 0.427)),
        (row("tq4", kib=3.19, max_ctx=1_100_000, tail=256), loss(2.6, 0.344)),
    )
    return tuple(replace(each, loss=found) for each, found in rows)


def warning(type_k: str = "q4_0") -> str:
    """What the engine says before such a setting is taken."""
    return (
        f"K in {type_k} breaks this model: 40% of the next words stay the same. q8_0/tq3+256 takes 4.69 KiB "
        "a token and loses nothing that you would see."
    )


ROWS = (
    row("f16", kib=144, max_ctx=41_200),
    row("q8_0", kib=76.5, max_ctx=77_100),
    row("q8_0", "q4_0", kib=58.5, max_ctx=101_300),
    row("q5_0", kib=49.5, max_ctx=119_600),
    row("q4_0", kib=40.5, max_ctx=146_500),
)


def memory(**changes: int) -> MemoryFigures:
    figures = {
        "weights_mapped": 572 * MIB,
        "weights_repacked": 310 * MIB,
        "kv_predicted": 936 * MIB,
        "kv_measured": 936 * MIB,
        "compute": 81 * MIB,
        "overhead": 54 * MIB,
        "predicted_total": 1953 * MIB,
        "rss": 1942 * MIB,
        "available": int(7.5 * GIB),
        "total": int(15.4 * GIB),
    }
    return MemoryFigures(**{**figures, **changes})


def status(**changes: object) -> Status:
    figures: dict[str, object] = {
        "id": 1,
        "n_used": 10_240,
        "n_ctx": 16_384,
        "type_k": "q8_0",
        "type_v": "q4_0",
        "tail": 0,
        "memory": memory(),
        "rows": ROWS,
        "prefill_tps": 412.3,
        "generate_tps": 21.42,
        "first_token_s": 1.31,
        "can_undo": True,
    }
    return Status(**{**figures, **changes})  # type: ignore[arg-type]


def loaded(**changes: object) -> Loaded:
    model = ModelInfo(
        path="/models/bonsai.gguf",
        name="Bonsai-4B",
        n_ctx_train=131_072,
        head_dim_k=128,
        head_dim_v=128,
        n_swa=0,
        transcodes=True,
        no_transcode_reason="",
    )
    figures: dict[str, object] = {
        "id": 1,
        "model": model,
        "type_k": "q8_0",
        "type_v": "q4_0",
        "tail": 0,
        "n_ctx": 16_384,
        "seconds": 1.2,
        "tail_wish": 0,
    }
    return Loaded(**{**figures, **changes})  # type: ignore[arg-type]


def preview(type_k: str = "q4_0", type_v: str = "q4_0", **changes: object) -> CachePreview:
    figures: dict[str, object] = {
        "id": 2,
        "type_k": type_k,
        "type_v": type_v,
        "tail": 0,
        "n_ctx": 16_384,
        "bytes_before": 936 * MIB,
        "bytes_after": 648 * MIB,
        "peak_bytes": 664 * MIB,
        "through_file": False,
        "reprefill": False,
        "fits": True,
        "sentence": "q4_0 frees 288 MiB and needs 664 MiB for a moment.",
    }
    return CachePreview(**{**figures, **changes})  # type: ignore[arg-type]
