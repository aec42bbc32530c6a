"""Stretch: a terminal chat for local models whose context memory is visible and elastic."""

__version__ = "0.1.0"
