"""Cuts a model into parts, as llama.cpp's tool ``llama-gguf-split`` does."""

from __future__ import annotations

from pathlib import Path

from gguf import GGUFReader, GGUFWriter


def split(path: Path, folder: Path, n_parts: int) -> Path:
    """Write the model in ``n_parts`` parts; the first one holds the metadata. Its path."""
    reader = GGUFReader(path)
    places = [folder / f"part-{i + 1:05}-of-{n_parts:05}.gguf" for i in range(n_parts)]
    for i, place in enumerate(places):
        writer = GGUFWriter(place, "llama")
        if i == 0:
            for key, field in reader.fields.items():
                if not key.startswith("GGUF.") and key != "general.architecture":
                    sub = field.types[1] if len(field.types) > 1 else None
                    writer.add_key_value(key, field.contents(), field.types[0], sub)
        writer.add_uint16("split.no", i)
        writer.add_uint16("split.count", n_parts)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in reader.tensors[i::n_parts]:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return places[0]
