"""What tells one model from another: its weights, its tokenizer and its RoPE settings.

A parked cache means something to the model that wrote it and to no other. The fingerprint covers the whole
beginning of the file, where a GGUF keeps its metadata (tokenizer and RoPE among them) and the list of
tensors, its length, and pieces of the weights from all over it: two trainings of one model differ everywhere.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

HEAD_BYTES = 16 << 20
N_PIECES = 256
PIECE_BYTES = 4096


def fingerprint(path: Path) -> str:
    """Of the model in ``path``, 32 hexadecimal digits. Takes some milliseconds however large the file is.

    Raises:
        OSError: if it cannot be read.
    """
    h = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        h.update(size.to_bytes(8, "little"))
        h.update(file.read(HEAD_BYTES))
        if size > HEAD_BYTES:
            step = max((size - HEAD_BYTES - PIECE_BYTES) // N_PIECES, 1)
            for at in range(HEAD_BYTES, size, step):
                file.seek(at)
                h.update(file.read(PIECE_BYTES))
    return h.hexdigest()
