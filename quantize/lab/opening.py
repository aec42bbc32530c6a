"""What a workbench is made of, as it travels to the child process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quantize.geometry import Geometry, LayerHeads


@dataclass(frozen=True, slots=True)
class Opening:
    """A model file and what is known of it."""

    path: str
    geometry: Geometry
    mla: bool = False
    """Latent attention: K and V are one row."""
    n_threads: int = 2
    repack: bool = True
    n_gpu_layers: int = 0
    calibrations: str = ""
    """The folder where what K lacks is kept for each model; empty to find it anew."""

    def data(self) -> dict[str, Any]:
        """For JSON; ``opening_of`` reads it."""

        def heads(h: LayerHeads) -> list[int]:
            return [h.head_dim_k, h.head_dim_v, h.n_head_kv]

        return {
            "path": self.path,
            "parts": [[heads(h) for h in part] for part in self.geometry.parts],
            "first": heads(self.geometry.first),
            "layers": self.geometry.layers,
            "mla": self.mla,
            "n_threads": self.n_threads,
            "repack": self.repack,
            "n_gpu_layers": self.n_gpu_layers,
            "calibrations": self.calibrations,
        }


def opening_of(data: dict[str, Any]) -> Opening:
    """What ``Opening.data`` described."""
    fields = dict(data)
    parts = tuple(tuple(LayerHeads(*h) for h in part) for part in fields.pop("parts"))
    layers = tuple(tuple(numbers) for numbers in fields.pop("layers"))
    return Opening(geometry=Geometry(parts, LayerHeads(*fields.pop("first")), layers), **fields)
