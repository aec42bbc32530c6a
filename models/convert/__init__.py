"""Checkpoints with ternary weights become GGUF files without losing a bit of them.

- ``safetensors.py``: reads checkpoints, of which nothing is trusted
- ``ternary.py``: ternary matrices, packed or not, row by row
- ``llama.py``: what a configuration says of a model of the llama architecture
- ``tokenizer.py``: the vocabulary
- ``write.py``: one tensor after the other into the new file
"""
