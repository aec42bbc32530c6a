"""The reader of checkpoints: what it reads, and what it refuses to believe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.byte_source import FileSource
from models.convert.safetensors import Checkpoint, parse_header
from quantize.errors import ModelFileError
from tests.weights.checkpoints import bf16, write_safetensors


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(start: int, end: int, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def test_rows_of_every_type(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4) / 4
    tensors = {
        "f32": values,
        "f16": values.astype(np.float16),
        "bf16": bf16(values),
        "u8": values.astype(np.uint8),
        "one": np.array([3.5], np.float32),
    }
    write_safetensors(tmp_path / "model.safetensors", tensors)
    with Checkpoint(tmp_path) as checkpoint:
        assert set(checkpoint.entries) == set(tensors)
        for name in ("f32", "f16", "bf16"):
            rows = checkpoint.rows(name, 1, 2)
            assert rows.dtype == np.float32 and (rows == values[1:]).all()
        assert (checkpoint.rows("u8", 0, 3) == values.astype(np.uint8)).all()
        assert checkpoint.rows("one", 0, 1).tolist() == [[3.5]]


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "short": b"\0" * 7,
    "a length beyond the file": raw({}, length=1 << 40),
    "a length of everything": b"\xff" * 16,
    "no JSON": raw(b"{]"),
    "a list": raw([]),
    "deep": raw(b"[" * 100_000),
    "a name twice": raw(b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"a":{}}', bytes(4)),
    "no offsets": raw({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "three offsets": raw({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, bytes(8)),
    "beyond the end": raw({"a": entry(0, 8)}, bytes(7)),
    "backwards": raw({"a": entry(8, 0)}, bytes(8)),
    "a gap": raw({"a": entry(4, 12)}, bytes(12)),
    "overlapping": raw({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)),
    "another size": raw({"a": entry(0, 8, (3,))}, bytes(8)),
    "negative": raw({"a": entry(0, 8, (-2,))}, bytes(8)),
    "a huge shape": raw({"a": entry(0, 8, (2**40, 2**40, 2**40))}, bytes(8)),
    "a shape that is no list": raw({"a": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}, bytes(8)),
    "a fraction": raw({"a": entry(0, 8, (2.0,))}, bytes(8)),
    "true": raw({"a": entry(0, 4, (True,))}, bytes(4)),
    "an unknown type": raw({"a": entry(0, 8, (2,), "F4")}, bytes(8)),
    "a type that is no text": raw({"a": entry(0, 8, (2,), 3)}, bytes(8)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files(tmp_path: Path, case: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(HOSTILE[case])
    with pytest.raises(ModelFileError) as caught:
        Checkpoint(tmp_path)
    assert "\n" not in caught.value.message and len(caught.value.message) < 200


INDEXES = [
    "[]",
    "{}",
    '{"weight_map": []}',
    '{"weight_map": {}}',
    '{"weight_map": {"a": 1}}',
    '{"weight_map": {"a": "../../etc/passwd"}}',
    '{"weight_map": {"a": ".."}}',
    '{"weight_map": {"a": "/etc/passwd"}}',
    '{"weight_map": {"a": "missing.safetensors"}}',
]


@pytest.mark.parametrize("text", INDEXES)
def test_hostile_indexes(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelFileError):
        Checkpoint(tmp_path)


def test_one_tensor_in_two_parts(tmp_path: Path) -> None:
    for name in ("x.safetensors", "y.safetensors"):
        write_safetensors(tmp_path / name, {"a": np.zeros(2, np.float32)})
    places = {"a": "x.safetensors", "b": "y.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(ModelFileError, match="the same tensor"):
        Checkpoint(tmp_path)


RIGHT = raw({"a": entry(0, 8), "b": entry(8, 16, (2, 2), "F16"), "c": entry(16, 20, (4,), "U8")}, bytes(20))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_headers(tmp_path: Path, data: st.DataObject) -> None:
    """A list of tensors inside the file, or one sentence."""
    mutated = bytearray(RIGHT)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        match data.draw(st.integers(0, 3)):
            case 0:
                mutated[at] = data.draw(st.integers(0, 255))
            case 1:
                mutated[at : at + 1] = data.draw(
                    st.sampled_from([b"9", b"-", b"[", b'"', b"1e9", b"null", b"{"])
                )
            case 2:
                del mutated[at : at + data.draw(st.integers(1, 9))]
            case _:
                mutated[at:at] = mutated[at : at + 20]
        if not mutated:
            break
    path = tmp_path / "m.safetensors"
    path.write_bytes(mutated)
    with FileSource(path) as file:
        try:
            entries = list(parse_header(file))
        except ModelFileError:
            return
    for e in entries:
        assert 8 <= e.start <= len(mutated)
