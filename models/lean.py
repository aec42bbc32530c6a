"""A header that is enough for a dry run: without the vocabulary, and all parts of a model as one file.

Reading a large vocabulary takes llama.cpp seconds, and nothing that it allocates depends on the
words, only on their number. So the dry run gets a header of a few hundred kilobytes that says the
number, and a hole in place of the weights.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.byte_source import ByteSource, FileSource
from models.dryrun import hollow_file
from models.header import Header, Skipped

_STRING, _UINT32 = 8, 4
_LEFT_OUT = ("tokenizer.", "split.")


def lean_header(source: ByteSource, header: Header) -> tuple[bytes, int]:
    """The header for a dry run, and the size of the file that it would belong to.

    Args:
        source: the file (the first part of a split model) from which ``header`` was read.
    """
    vocab_key = f"{header.architecture}.vocab_size"
    keys: list[bytes] = []
    for name, (start, end) in header.spans.items():
        is_array = isinstance(header.metadata[name], Skipped)
        if name != vocab_key and not name.startswith(_LEFT_OUT) and not is_array:
            keys.append(source.read_at(start, end - start))
    keys.append(_text("tokenizer.ggml.model") + struct.pack("<I", _STRING) + _text("no_vocab"))
    keys.append(_text(vocab_key) + struct.pack("<II", _UINT32, header.n_vocab))
    tensors: list[bytes] = []
    place = 0
    for tensor in header.tensors:
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        tensors.append(_text(tensor.name) + shape + struct.pack("<IQ", tensor.type_id, place))
        place += -(-tensor.n_bytes // header.alignment) * header.alignment
    head = b"GGUF" + struct.pack("<IQQ", header.version, len(tensors), len(keys))
    data = b"".join((head, *keys, *tensors))
    return data, -(-len(data) // header.alignment) * header.alignment + place


@contextmanager
def lean_file(where: Path | ByteSource, header: Header) -> Iterator[Path]:
    """A temporary file for a dry run of the model in a file or behind a source of bytes."""
    if isinstance(where, Path):
        with FileSource(where) as source:
            data, size = lean_header(source, header)
    else:
        data, size = lean_header(where, header)
    with hollow_file(data, size, Path(header.name).name or "model.gguf") as lean:
        yield lean


def _text(text: str) -> bytes:
    """A string as GGUF holds it."""
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
