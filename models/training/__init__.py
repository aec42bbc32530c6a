"""The pipeline that makes the built-in models. Not part of the wheel: see ``README.md`` beside this file."""
