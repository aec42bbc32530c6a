"""Fixtures of the native library's tests."""

from tests.quantize.conftest import engine

__all__ = ["engine"]
