"""Loaded models to measure on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from models.geometry import read_shape
from models.header import read_header
from quantize.lab.opening import Opening
from quantize.lab.subject import Workbench
from quantize.llama import send_log_to
from tests.cli.conftest import environment, stretch
from tests.synthetic import SyntheticModels

__all__ = ["bench", "environment", "stretch"]

send_log_to(lambda _level, _text: None)


def opening_of_file(path: Path) -> Opening:
    """What the laboratory has to know of a model file."""
    return Opening(path=str(path), geometry=read_shape(read_header(path)).geometry(), n_threads=1)


@pytest.fixture(scope="session")
def bench(synthetic: SyntheticModels) -> Iterator[Callable[..., Workbench]]:
    """``bench("llama", head_dim=128)``: the synthetic model of that kind, loaded once."""
    loaded: dict[Path, Workbench] = {}

    def load(name: str = "llama", **parameters: object) -> Workbench:
        path = synthetic(name, **parameters)
        if path not in loaded:
            loaded[path] = Workbench(opening_of_file(path))
        return loaded[path]

    yield load
    for one in loaded.values():
        one.close()


def random_tokens(bench: Workbench, n: int, seed: int = 7) -> list[int]:
    """The first ``n`` of a fixed random text."""
    return [int(t) for t in np.random.default_rng(seed).integers(3, bench.model.n_vocab, n)]
