"""Fewer bytes for the weights of a model: llama.cpp's own quantizer, run in a child process.

- ``file_types.py``: what a file can be quantized to
- ``importance.py``: importance matrices, as llama.cpp writes them
- ``process.py``: the parent's side: progress, stopping, what the death of the child means
- ``worker.py``: the child: quantizes, and measures what that cost
"""
