"""Engines for tests. Their files are below a temporary directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.resolve import resolve
from tests.engine.harness import Harness


@pytest.fixture(scope="session")
def builtin() -> Path:
    """The built-in model."""
    return resolve("builtin")


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keeps the engines away from the user's own files."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("STRETCH_HOME", str(home))
        patch.delenv("STRETCH_RAM_LIMIT", raising=False)
        yield home


@pytest.fixture(scope="session")
def start_engine(home: Path) -> Iterator[Callable[[], Harness]]:
    """Starts engines; all of them end with the session."""
    started: list[Harness] = []

    def start() -> Harness:
        harness = Harness(home / "logs" / f"engine-{len(started)}.log")
        started.append(harness)
        harness.start()
        return harness

    yield start
    for harness in started:
        harness.client.close()


@pytest.fixture(scope="module")
def engine(start_engine: Callable[[], Harness]) -> Iterator[Harness]:
    """An engine for the tests of one module."""
    harness = start_engine()
    yield harness
    harness.client.close()


@pytest.fixture
def chatting(engine: Harness, builtin: Path) -> Harness:
    """The module's engine with the built-in model, freshly loaded."""
    engine.load(builtin, 2048)
    engine.events.clear()
    return engine
