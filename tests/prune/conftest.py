"""Fixtures of the tests of pruning."""

from tests.quantize.conftest import engine

__all__ = ["engine"]
