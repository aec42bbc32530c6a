"""The pipeline that makes the built-in models. Not part of the wheel: see ``docs/training.md``."""
