"""A finished file whose logits are divided: one norm changes, nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFReader

from models.training.temperature import LAST_NORM, divide
from tests.synthetic.transformer import llama


def test_only_the_last_norm_is_divided(tmp_path: Path) -> None:
    path, copy = tmp_path / "m.gguf", tmp_path / "c.gguf"
    llama(path)
    copy.write_bytes(path.read_bytes())
    divide(path, 1.25)
    assert path.stat().st_size == copy.stat().st_size
    before = {t.name: np.array(t.data) for t in GGUFReader(copy).tensors}
    after = {t.name: np.array(t.data) for t in GGUFReader(path).tensors}
    np.testing.assert_array_equal(after.pop(LAST_NORM), before.pop(LAST_NORM) / np.float32(1.25))
    assert all(np.array_equal(after[name], before[name]) for name in before) and before
