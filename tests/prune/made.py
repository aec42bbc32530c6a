"""States of any geometry, made by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantize import ggml
from quantize.geometry import Geometry
from quantize.native.attention_mass import Seen
from quantize.prune.observe import Observed
from quantize.rope import Rope
from quantize.rope_parameters import RopeParameters
from quantize.state import SavedState, read_state
from tests.quantize.handmade import state, with_rows

TYPES = {"f32": 0, "f16": 1, "q8_0": 8, "q4_0": 2}


@dataclass(frozen=True)
class Case:
    """A model and a text."""

    head_dim: int = 64
    n_head_kv: int = 2
    group: int = 2
    n_layer: int = 2
    n_cells: int = 40
    type_k: str = "f16"
    type_v: str = "f16"
    seed: int = 0

    @property
    def geometry(self) -> Geometry:
        return Geometry.uniform(self.n_layer, self.head_dim, self.head_dim, self.n_head_kv)

    @property
    def ropes(self) -> tuple[Rope, ...]:
        """Another base in every layer."""
        return tuple(
            RopeParameters(n_dims=self.head_dim, freq_base=10000.0 * (i + 1)).rope()
            for i in range(self.n_layer)
        )

    def state(self) -> SavedState:
        """A state with random rows."""
        rng = np.random.default_rng(self.seed)

        def rows(name: str) -> list[NDArray[np.uint8]]:
            fmt = ggml.row_format(TYPES[name])
            made = []
            for _ in range(self.n_layer):
                values = rng.normal(size=(self.n_cells, self.head_dim * self.n_head_kv)).astype(np.float32)
                out = np.zeros((self.n_cells, fmt.row_size(values.shape[1])), np.uint8)
                if self.n_cells:
                    ggml.quantize(fmt, values, out)
                made.append(out)
            return made

        k, v = rows(self.type_k), rows(self.type_v)
        part = with_rows(self.n_cells, k, v, TYPES[self.type_k], TYPES[self.type_v])
        return read_state(state(part))

    def observed(self) -> Observed:
        """An attention that no text gave, with every cell worth something else."""
        rng = np.random.default_rng(self.seed + 1)
        n_head, n_query = self.n_head_kv * self.group, min(8, self.n_cells)
        shape = (self.n_head_kv, self.n_cells)
        seen = tuple(
            Seen(
                rng.random(shape).astype(np.float32),
                rng.random(shape).astype(np.float32),
                n_query,
                n_head,
            )
            for _ in range(self.n_layer)
        )
        queries = tuple(
            rng.normal(size=(n_query, n_head, self.head_dim)).astype(np.float32) for _ in range(self.n_layer)
        )
        return Observed(seen, queries, np.arange(self.n_cells - n_query, self.n_cells, dtype=np.int32))
