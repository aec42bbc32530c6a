"""Fixtures that every area uses."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.synthetic import SyntheticModels

# No test depends on how busy the machine is.
settings.register_profile("stretch", deadline=None)
settings.load_profile("stretch")


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> SyntheticModels:
    """Makes small GGUF models: ``synthetic("llama", head_dim=128)`` gives a path. See tests.synthetic."""
    return SyntheticModels(tmp_path_factory.mktemp("models"))
