"""A calibration from its first word to its last, with models that have random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.geometry import read_shape
from models.header import read_header
from quantize.buffers import allocate
from quantize.llama import Context, Model
from quantize.native import attention
from quantize.park import calibrate
from quantize.park.codec import parse
from quantize.park.facts import facts_of
from quantize.park.file import ParkReader
from quantize.park.importance import queries_name
from quantize.park.parking import park, unpark
from quantize.park.probe import read_text
from quantize.park.profile import Profile

F16 = 1


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_calibration_runs_through_and_what_it_finds_is_used(
    synthetic: Callable[..., Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention.enable()
    monkeypatch.setattr(calibrate, "STRETCH", 384)
    monkeypatch.setattr(calibrate, "PROBE", 300)
    monkeypatch.setattr(calibrate, "AFTER", 20)
    monkeypatch.setattr(calibrate, "LEAST", 600)
    monkeypatch.setattr(calibrate, "STEPS", {c: (0.1,) for c in ("learned", "lowrank", "crosslayer")})
    path = synthetic(name)
    geometry = read_shape(read_header(path)).geometry()
    with Model(path, repack=False) as model:
        facts = facts_of(model, geometry, tmp_path)
        tokens = [int(t) for t in np.random.default_rng(0).integers(0, model.n_vocab, 384 * 3 + 320)]
        notes = tmp_path / "a.notes"
        broken = calibrate.Calibration(model, facts, tokens, notes)
        steps = broken.run()
        said = [next(steps).what for _ in range(3)]
        steps.close()  # stopped; the next one goes on
        assert said == ["reading"] * 3
        found = calibrate.Calibration(model, facts, tokens, notes)
        fractions = [p.fraction for p in found.run()]
        assert fractions == sorted(fractions) and fractions[0] > 0.3
        profile = found.profile
        assert profile is not None and not notes.exists()
        for part, layers in enumerate(geometry.parts):
            for layer, heads in enumerate(layers):
                queries = profile.arrays[queries_name(part, layer)]
                assert queries.shape[::2] == (heads.n_head_kv, heads.head_dim_k)
                assert np.isfinite(queries).all() and queries.any()
        profile.save(tmp_path / "a.calibration")
        loaded = Profile.load(tmp_path / "a.calibration", facts.fingerprint)
        assert loaded.floor == profile.floor
        assert loaded.points == profile.points
        known = replace(facts, profile=loaded)
        with Context(model, n_ctx=512) as context:
            state = read_text(context, tokens[:300])
            assert park(state, tokens[:300], known, parse("learned:0.05"), tmp_path / "a.park")
            with ParkReader(tmp_path / "a.park") as reader:
                back = unpark(reader, known, F16, F16, allocate)
            context.clear()
            assert context.load_state(back.data)
