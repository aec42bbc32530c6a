"""The header reader: what it reads, and the sentence for everything that it refuses."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from gguf import GGUFReader

from models.byte_source import MemorySource
from models.header import Header, Skipped, parse_header, read_header
from models.resolve import resolve
from quantize.errors import ModelFileError
from tests.models.gguf_bytes import (
    ARRAY,
    BOOL,
    FLOAT32,
    INT32,
    STRING,
    UINT8,
    UINT32,
    UINT64,
    Gguf,
    string,
    tensor,
    value,
)
from tests.synthetic import MAKERS, SyntheticModels

F32, Q8_0, I2_S, Q2_0 = 0, 8, 36, 42


def parse(gguf: Gguf | bytes) -> Header:
    data = gguf if isinstance(gguf, bytes) else gguf.build()
    return parse_header(MemorySource(data, "model.gguf"))


def refusal(gguf: Gguf | bytes) -> str:
    with pytest.raises(ModelFileError) as caught:
        parse(gguf)
    message = caught.value.message
    assert message.endswith(".") and "\n" not in message and "model.gguf" in message
    return message


# --------------------------------------------------------------------------- what it reads


@pytest.mark.parametrize("name", MAKERS)
def test_reads_the_same_as_the_gguf_package(synthetic: SyntheticModels, name: str) -> None:
    path = synthetic(name)
    ours, theirs = read_header(path), GGUFReader(path)
    assert [(t.name, t.shape, t.type_id, t.n_bytes) for t in ours.tensors] == [
        (t.name, tuple(int(n) for n in t.shape), int(t.tensor_type), int(t.n_bytes)) for t in theirs.tensors
    ]
    assert ours.data_offset + ours.tensors[-1].offset == theirs.tensors[-1].data_offset
    assert ours.file_bytes == path.stat().st_size
    for key, found in ours.metadata.items():
        contents = theirs.fields[key].contents()
        assert (found.length if isinstance(found, Skipped) else found) == (
            len(contents) if isinstance(found, Skipped) else contents
        ), key


def test_version_2_is_read_too() -> None:
    assert parse(Gguf(version=2)).version == 2


def test_values_of_every_type() -> None:
    gguf = Gguf()
    gguf.key("a", UINT8, 255).key("b", INT32, -5).key("c", FLOAT32, 0.5).key("d", BOOL, True)
    gguf.key("e", UINT64, 2**63).key("f", STRING, "grün").key("g", ARRAY, (INT32, [1, -2])).key(
        "h", ARRAY, (STRING, ["x", ""])
    )
    metadata = parse(gguf).metadata
    assert [metadata[k] for k in "abcdefgh"] == [255, -5, 0.5, True, 2**63, "grün", [1, -2], ["x", ""]]


def test_long_arrays_are_walked_over() -> None:
    words = [b"x" * (i % 70) for i in range(30_000)]
    gguf = Gguf()
    gguf.key("words", ARRAY, (STRING, words)).key("numbers", ARRAY, (UINT32, range(5000))).key(
        "end", UINT8, 7
    )
    metadata = parse(gguf).metadata
    assert metadata["words"] == Skipped(30_000)
    assert metadata["numbers"] == Skipped(5000)
    assert metadata["end"] == 7


def test_a_string_longer_than_the_window_is_walked_over() -> None:
    gguf = Gguf().key("words", ARRAY, (STRING, [b"y" * 3_000_000] * 2 + [b"z"] * 100)).key("end", UINT8, 7)
    assert parse(gguf).metadata["end"] == 7


def test_an_unknown_type_is_listed_and_ends_the_check_of_places() -> None:
    gguf = Gguf(tensors=[tensor("a", (64, 2), I2_S, 0), tensor("b", (4,), F32, 12345)])
    header = parse(gguf)
    assert [t.type_id for t in header.tensors] == [I2_S, F32]
    assert header.tensors[0].n_bytes == 0


def test_types_that_the_gguf_package_does_not_know() -> None:
    gguf = Gguf(tensors=[tensor("a", (128, 2), Q2_0, 0)], data=bytes(72))
    assert parse(gguf).tensors[0].n_bytes == 4 * 18


def test_bytes_come_from_any_source_in_growing_steps() -> None:
    gguf = Gguf().key("words", ARRAY, (STRING, [b"w" * 20] * 60_000))
    gguf.tensors = [tensor("a", (4,), F32, 0)]
    whole = gguf.build() + bytes(16)

    class Remote:
        name, size = "far.gguf", None

        def __init__(self) -> None:
            self.reads: list[tuple[int, int]] = []

        def read_at(self, offset: int, n: int) -> bytes:
            self.reads.append((offset, n))
            return whole[offset : offset + n]

    remote = Remote()
    header = parse_header(remote)
    assert header.file_bytes == header.data_offset + 16
    assert [offset for offset, _ in remote.reads] == sorted({offset for offset, _ in remote.reads})
    assert remote.reads[0][1] <= 1 << 18 and len(remote.reads) < 10


# --------------------------------------------------------------------------- what it refuses


def test_not_a_gguf_file() -> None:
    assert "not a GGUF file" in refusal(b"PK\3\4" + bytes(100))
    with pytest.raises(ModelFileError) as caught:
        parse(b"lmgg" + bytes(100))
    assert "before 2023" in caught.value.hint


def test_empty() -> None:
    assert "empty" in refusal(b"")


@pytest.mark.parametrize("version", [0, 1, 4, 77])
def test_other_versions(version: int) -> None:
    assert f"version {version}" in refusal(Gguf(version=version))


def test_big_endian() -> None:
    assert "big-endian" in refusal(b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + bytes(100))


@pytest.mark.parametrize("cut", range(0, 90, 7))
def test_cut_off_anywhere_in_the_header(cut: int) -> None:
    whole = Gguf(tensors=[tensor("a", (4,), F32, 0)], data=bytes(16)).key("k", ARRAY, (INT32, [1, 2])).build()
    refusal(whole[: min(cut, len(whole) - 17)])


def test_cut_off_in_the_data() -> None:
    whole = Gguf(tensors=[tensor("a", (4,), F32, 0)], data=bytes(16)).build()
    assert f"it has {len(whole) - 1:,} of {len(whole):,} bytes" in refusal(whole[:-1])


@pytest.mark.parametrize("n", [2**63, 2**64 - 1, 10**9])
def test_counts_beyond_reason(n: int) -> None:
    assert "more than any real model" in refusal(Gguf(n_tensors=n))
    assert "more than any real model" in refusal(Gguf(n_keys=n))


def test_counts_beyond_the_file() -> None:
    assert "cut off" in refusal(Gguf(n_tensors=60_000))
    assert "cut off" in refusal(Gguf(n_keys=60_000))


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, 1 << 21])
def test_lengths_of_strings(length: int) -> None:
    raw = struct.pack("<Q", length) + b"abc"
    for gguf in (
        Gguf(keys=[("general.architecture", struct.pack("<I", STRING) + raw)]),
        Gguf(keys=[("k", struct.pack("<IIQ", ARRAY, STRING, 1) + raw)]),
        Gguf(keys=[("k", struct.pack("<IIQ", ARRAY, STRING, 100) + raw + bytes(900))]),
    ):
        refusal(gguf)
    refusal(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + raw + bytes(1000))


@pytest.mark.parametrize("item", [UINT8, UINT32, STRING, UINT64])
@pytest.mark.parametrize("length", [2**64 - 1, 2**61, 2**40])
def test_lengths_of_arrays(item: int, length: int) -> None:
    refusal(Gguf(keys=[("k", struct.pack("<IIQ", ARRAY, item, length) + bytes(100))]))


def test_more_metadata_than_can_be_held() -> None:
    gguf = Gguf()
    for i in range(20):
        gguf.key(f"text{i}", STRING, b"x" * (1 << 20))
    assert "more metadata" in refusal(gguf)


def test_arrays_of_arrays_and_unknown_types() -> None:
    assert "unknown type" in refusal(Gguf(keys=[("k", value(ARRAY, (ARRAY, [])))]))
    assert "unknown type 99" in refusal(Gguf(keys=[("k", struct.pack("<I", 99) + bytes(8))]))


def test_the_same_key_twice() -> None:
    assert "'a' twice" in refusal(Gguf().key("a", UINT8, 1).key("a", UINT8, 2))


def test_a_key_without_a_name() -> None:
    assert "without a name" in refusal(Gguf().key("", UINT8, 1))


def test_no_architecture() -> None:
    assert "architecture" in refusal(Gguf(keys=[("general.name", value(STRING, "x"))]))
    assert "architecture" in refusal(Gguf(keys=[("general.architecture", value(UINT32, 3))]))


@pytest.mark.parametrize("alignment", [0, 3, 33])
def test_alignment_that_is_no_power_of_two(alignment: int) -> None:
    assert "power of two" in refusal(Gguf().key("general.alignment", UINT32, alignment))


def test_a_tensor_twice() -> None:
    twice = [tensor("a", (8,), F32, 0), tensor("a", (8,), F32, 32)]
    assert "twice" in refusal(Gguf(tensors=twice, data=bytes(64)))


def test_too_many_dimensions() -> None:
    assert "5 dimensions" in refusal(Gguf(tensors=[tensor("a", (1,) * 5, F32, 0)]))
    huge = string("a") + struct.pack("<I", 2**32 - 1) + bytes(64)
    assert "dimensions" in refusal(Gguf(tensors=[huge]))


@pytest.mark.parametrize("shape", [(2**63,), (2**32, 2**32), (2**62, 2, 2), (2**64 - 1, 1)])
def test_sizes_that_overflow(shape: tuple[int, ...]) -> None:
    assert "more values" in refusal(Gguf(tensors=[tensor("a", shape, F32, 0)]))


def test_rows_that_are_no_whole_blocks() -> None:
    assert "no whole blocks of 32" in refusal(Gguf(tensors=[tensor("a", (33,), Q8_0, 0)]))


@pytest.mark.parametrize("offset", [1, 32, 2**63])
def test_a_tensor_at_the_wrong_place(offset: int) -> None:
    assert "starts where another one lies" in refusal(
        Gguf(tensors=[tensor("a", (4,), F32, offset)], data=bytes(64))
    )


def test_q2_0_with_the_blocks_of_a_fork() -> None:
    """128 values in 34 bytes under the same id: the second tensor is not where ours would end."""
    fork = [tensor("a", (128, 16), Q2_0, 0), tensor("b", (128, 16), Q2_0, 544)]
    with pytest.raises(ModelFileError) as caught:
        parse(Gguf(tensors=fork, data=bytes(2000)))
    assert "blocks of 128 values" in caught.value.message and "Q2_0_g64" in caught.value.hint


def test_q2_0_with_the_blocks_of_a_fork_in_the_last_tensor() -> None:
    """Nothing follows whose place could tell; the file is shorter than ours would be."""
    fork = [tensor("a", (4,), F32, 0), tensor("b", (128, 64), Q2_0, 32)]
    with pytest.raises(ModelFileError, match="blocks of 128 values"):
        parse(Gguf(tensors=fork, data=bytes(32 + 64 * 34)))
    with pytest.raises(ModelFileError, match="cut off"):
        parse(Gguf(tensors=fork, data=bytes(32 + 64 * 34 - 1)))
    assert parse(Gguf(tensors=fork, data=bytes(32 + 64 * 36))).file_bytes


def test_q2_0_that_fits_neither_block() -> None:
    tensors = [tensor("a", (128, 16), Q2_0, 0), tensor("b", (128, 16), Q2_0, 64)]
    assert "starts where another one lies" in refusal(Gguf(tensors=tensors, data=bytes(2000)))


def test_tl2_of_bitnet_cpp_has_the_id_of_mxfp4() -> None:
    gguf = Gguf(keys=[("general.architecture", value(STRING, "bitnet-b1.58"))], data=bytes(9999))
    gguf.tensors = [tensor("a", (256, 8), 39, 0), tensor("b", (4,), F32, 544)]
    assert "tl2" in refusal(gguf)


def test_names_longer_than_ggml_holds() -> None:
    refusal(Gguf(tensors=[tensor("n" * 64, (4,), F32, 0)], data=bytes(16)))


# --------------------------------------------------------------------------- files


def test_what_is_no_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, said in ((tmp_path, "directory"), (tmp_path / "none", "no file"), (pipe, "not a regular file")):
        with pytest.raises(ModelFileError, match=said):
            read_header(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_missing_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.gguf"
    path.write_bytes(b"GGUF")
    path.chmod(0)
    with pytest.raises(ModelFileError, match="may not be read"):
        read_header(path)


def test_built_in_models() -> None:
    for name in ("builtin", "builtin-ternary"):
        header = read_header(resolve(name))
        assert header.n_vocab == 8192 and header.split == (0, 1)


# --------------------------------------------------------------------------- asking it


def test_integers_and_lists_per_layer() -> None:
    gguf = Gguf()
    gguf.key("llama.a", UINT32, 5).key("llama.b", ARRAY, (INT32, [1, 2, 3])).key("llama.c", STRING, "x")
    gguf.key("llama.d", INT32, -1).key("llama.e", ARRAY, (BOOL, [True, False])).key("llama.f", FLOAT32, 2.0)
    header = parse(gguf)
    assert header.integer("a") == 5 and header.integer("none", 7) == 7
    assert header.per_layer("a", 2) == [5, 5] and header.per_layer("b", 3) == [1, 2, 3]
    assert header.per_layer("e", 2) == [1, 0]
    for wrong in (
        lambda: header.integer("none"),
        lambda: header.integer("c"),
        lambda: header.integer("d"),
        lambda: header.integer("f"),
        lambda: header.integer("b"),
        lambda: header.integer("a", top=4),
        lambda: header.per_layer("b", 2),
        lambda: header.per_layer("c", 2),
    ):
        with pytest.raises(ModelFileError):
            wrong()
