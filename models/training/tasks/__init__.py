"""Generators of practice: each module has ``make(rng) -> list[Turn]`` and joins ``TASKS``."""
