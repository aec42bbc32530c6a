"""Models in several parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.header import read_header
from models.plan import Planner
from models.splits import part_paths, read_model
from quantize.errors import ModelFileError
from tests.models.gguf_bytes import STRING, UINT32, Gguf, tensor, value


def write_parts(directory: Path, count: int = 3, name: str = "big") -> list[Path]:
    """A model of ``count`` parts with one tensor each; the metadata is in the first."""
    paths = []
    for i in range(count):
        gguf = Gguf(keys=[("general.architecture", value(STRING, "llama"))])
        gguf.key("split.no", UINT32, i).key("split.count", UINT32, count)
        if i == 0:
            for key, number in (
                ("block_count", 2),
                ("embedding_length", 64),
                ("attention.head_count", 2),
                ("context_length", 512),
            ):
                gguf.key(f"llama.{key}", UINT32, number)
        gguf.tensors = [tensor(f"blk.{i}.attn_q.weight", (64, 64), 0, 0)]
        gguf.data = bytes(64 * 64 * 4)
        path = directory / f"{name}-{i + 1:05}-of-{count:05}.gguf"
        path.write_bytes(gguf.build())
        paths.append(path)
    return paths


def test_the_tensors_of_all_parts_are_counted(tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    header = read_model(paths[0])
    assert header.n_parts == 3 and header.file_bytes == sum(p.stat().st_size for p in paths)
    assert [t.part for t in header.tensors] == [0, 1, 2]
    assert Planner(header).weights.mapped == 3 * 64 * 64 * 4
    assert not Planner(header).shape.unknown


def test_one_part_alone_says_that_others_are_missing(tmp_path: Path) -> None:
    assert Planner(read_header(write_parts(tmp_path)[0])).shape.unknown


def test_another_part_than_the_first(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        read_model(write_parts(tmp_path)[1])
    assert "part 2 of 3" in caught.value.message and "big-00001-of-00003" in caught.value.hint


def test_a_missing_part(tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    paths[1].unlink()
    with pytest.raises(ModelFileError, match="Part 2 of 3 is missing"):
        read_model(paths[0])


def test_a_part_of_another_model(tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    paths[1].write_bytes(paths[2].read_bytes())
    with pytest.raises(ModelFileError, match="is not part 2"):
        read_model(paths[0])


def test_a_first_part_with_another_name(tmp_path: Path) -> None:
    renamed = write_parts(tmp_path)[0].rename(tmp_path / "model.gguf")
    with pytest.raises(ModelFileError, match="its name does not say so"):
        read_model(renamed)


@pytest.mark.parametrize(("number", "count"), [(3, 3), (0, 70_000), (2, 0)])
def test_contradictory_numbers(tmp_path: Path, number: int, count: int) -> None:
    gguf = Gguf().key("split.no", UINT32, number).key("split.count", UINT32, count)
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf.build())
    with pytest.raises(ModelFileError, match="contradictory"):
        read_model(path)


def test_names_of_parts(tmp_path: Path) -> None:
    assert [p.name for p in part_paths(tmp_path / "a-00002-of-00002.gguf")] == [
        "a-00001-of-00002.gguf",
        "a-00002-of-00002.gguf",
    ]
    for whole in ("a.gguf", "a-00001-of-99999.gguf", "a-00001-of-00000.gguf"):
        assert part_paths(tmp_path / whole) == [tmp_path / whole]
