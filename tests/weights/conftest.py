"""Files of weights for the tests: small models whose rows every type's blocks divide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.synthetic import SyntheticModels

SIZES = {"n_embd": 256, "n_ff": 256, "n_vocab": 300}


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the commands away from the user's own files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRETCH_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def ordinary(synthetic: SyntheticModels) -> Path:
    """A model with ordinary weights in f16."""
    return synthetic("llama", **SIZES)


@pytest.fixture(scope="session")
def ternary(synthetic: SyntheticModels) -> Path:
    """The same, trained ternary so to speak, in f16."""
    return synthetic("llama", levels=3, **SIZES)


@pytest.fixture(scope="session")
def one_bit(synthetic: SyntheticModels) -> Path:
    """The same with weights of two levels, in f16."""
    return synthetic("llama", levels=2, **SIZES)
