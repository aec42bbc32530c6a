"""The file of a parked conversation: whatever happens to it, nothing wrong comes out."""

from __future__ import annotations

import dataclasses
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from quantize.buffers import allocate
from quantize.errors import StateError
from quantize.geometry import Geometry
from quantize.park.codec import parse
from quantize.park.file import ParkReader
from quantize.park.parking import ModelFacts, park, unpark
from quantize.park.plain import Frame
from quantize.park.profile import Profile
from quantize.park.shared import key_of
from quantize.park.tables import library
from quantize.rope import NO_ROPE, UNKNOWN_ROPE
from quantize.rope_parameters import RopeParameters
from tests.park.samples import facts_for, state_of

F16 = 1
SHAPE = Geometry.uniform(2, 64, 64, 1)


@pytest.fixture
def facts() -> ModelFacts:
    return facts_for(SHAPE)


@pytest.fixture
def file(facts: ModelFacts, tmp_path: Path) -> Path:
    state, tokens = state_of(facts, (200,))
    assert park(state, tokens, facts, parse("learned:0.1"), tmp_path / "a.park", conversation=7)
    return tmp_path / "a.park"


def resume(path: Path, facts: ModelFacts) -> bytes:
    with ParkReader(path) as reader:
        return unpark(reader, facts, F16, F16, allocate).data.tobytes()


def test_only_the_owner_can_read_it(file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with ParkReader(file) as reader:
        assert (reader.about.conversation, reader.about.n_tokens) == (7, 200)


def test_a_flipped_bit_or_a_missing_end_is_always_found(file: Path, facts: ModelFacts) -> None:
    whole = file.read_bytes()
    right = resume(file, facts)
    rng = np.random.default_rng(0)
    places = [*range(0, 400, 5), *rng.integers(0, len(whole), 80)]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(changed)
        with pytest.raises(StateError):
            resume(file, facts)
    for length in [0, 1, 15, 16, 17, len(whole) - 1, *rng.integers(0, len(whole), 20)]:
        file.write_bytes(whole[:length])
        with pytest.raises(StateError):
            resume(file, facts)
    file.write_bytes(whole + b"x")
    with pytest.raises(StateError):
        resume(file, facts)
    file.write_bytes(whole)
    assert resume(file, facts) == right


def test_blocks_of_two_files_cannot_be_mixed(file: Path, facts: ModelFacts, tmp_path: Path) -> None:
    state, tokens = state_of(facts, (200,), seed=1)
    assert park(state, tokens, facts, parse("learned:0.1"), tmp_path / "b.park")
    a, b = file.read_bytes(), (tmp_path / "b.park").read_bytes()
    for cut in range(100, min(len(a), len(b)), 997):
        mixed = a[:cut] + b[cut:]
        if mixed in (a, b):
            continue
        file.write_bytes(mixed)
        with pytest.raises(StateError):
            resume(file, facts)


def test_another_model_is_told_apart(file: Path, facts: ModelFacts) -> None:
    other = ModelFacts("x" * 32, facts.frame, facts.embedding, facts.profile)
    with pytest.raises(StateError, match="another model"):
        resume(file, other)


def test_another_calibration_is_told_apart(file: Path, facts: ModelFacts) -> None:
    assert facts.profile is not None
    arrays = dict(facts.profile.arrays)
    name = next(iter(arrays))
    arrays[name] = arrays[name] * np.float32(1.01)
    profile = Profile(facts.fingerprint, arrays)
    profile.seal()
    with pytest.raises(StateError, match="calibrated anew"):
        resume(file, ModelFacts(facts.fingerprint, facts.frame, facts.embedding, profile))


def test_another_shape_is_told_apart(file: Path, facts: ModelFacts) -> None:
    for shape in (Geometry.uniform(3, 64, 64, 1), Geometry.uniform(2, 128, 64, 1)):
        frame = facts_for(shape).frame
        with pytest.raises(StateError):
            resume(file, ModelFacts(facts.fingerprint, frame, facts.embedding, facts.profile))


def test_a_calibration_that_was_changed_is_found(facts: ModelFacts, tmp_path: Path) -> None:
    path = tmp_path / "m.calibration"
    assert facts.profile is not None
    facts.profile.save(path)
    back = Profile.load(path, facts.fingerprint)
    assert back.digest == facts.profile.digest
    assert back.points == facts.profile.points
    with pytest.raises(StateError, match="another model"):
        Profile.load(path, "x" * 32)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 60):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with pytest.raises(StateError):
            Profile.load(path, facts.fingerprint)
    path.write_bytes(whole[:-7])
    with pytest.raises(StateError):
        Profile.load(path, facts.fingerprint)


_WRITER = """
import sys, pathlib
from tests.park.samples import facts_for, state_of
from quantize.geometry import Geometry
from quantize.park.codec import parse
from quantize.park.parking import park
facts = facts_for(Geometry.uniform(2, 64, 64, 1))
state, tokens = state_of(facts, (200,))
print("ready", flush=True)
while True:
    park(state, tokens, facts, parse("learned:0.1"), pathlib.Path(sys.argv[1]))
    print("written", flush=True)
"""


def test_a_kill_while_writing_leaves_the_old_file_or_the_new_one(file: Path, facts: ModelFacts) -> None:
    right = np.frombuffer(resume(file, facts), np.uint8)
    root = Path(__file__).resolve().parents[2]
    rng = np.random.default_rng(0)
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(file)],
            stdout=subprocess.PIPE,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), "OPENBLAS_NUM_THREADS": "1"},
        )
        assert process.stdout is not None
        for _ in range(2 + int(rng.integers(3))):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        back = np.frombuffer(resume(file, facts), np.uint8)
        # Products of matrices differ in their last bits from process to process, and so do few values.
        assert back.shape == right.shape
        assert (back == right).mean() > 0.9


def test_k_that_was_turned_in_another_way_is_told_apart(
    file: Path, facts: ModelFacts, tmp_path: Path
) -> None:
    """The first files know of one base for all layers, and say nothing of it. They open where that is how the
    model turns; where it is not, their K would come out turned by what was never taken out of it."""
    assert resume(file, facts)
    with ParkReader(file) as reader:
        assert reader.about.tables == library().digest  # what a file of then says
    base, other = (RopeParameters(n_dims=64, freq_base=b).rope() for b in (1e4, 1e6))
    for ropes in (((base, other),), ((NO_ROPE, base),), ((UNKNOWN_ROPE, UNKNOWN_ROPE),)):
        changed = dataclasses.replace(facts, frame=Frame(SHAPE, ropes))
        with pytest.raises(StateError, match="another version"):
            resume(file, changed)
        state, tokens = state_of(changed, (200,))
        path = tmp_path / "own.park"
        assert park(state, tokens, changed, parse("ggml:q8_0"), path)
        assert resume(path, changed)
        assert key_of(changed, parse("ggml:q8_0"), tokens) != key_of(facts, parse("ggml:q8_0"), tokens)
        with pytest.raises(StateError, match="another version"):
            resume(path, facts)


def test_files_of_the_version_before_are_refused_with_a_sentence(
    file: Path, facts: ModelFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(file.read_bytes())
    data[8] -= 1  # the version stands behind the magic
    file.write_bytes(data)
    with pytest.raises(StateError, match="another version of Stretch"):
        resume(file, facts)
    assert facts.profile is not None
    monkeypatch.setattr("quantize.park.profile.VERSION", 1)
    facts.profile.save(tmp_path / "a.calibration")
    monkeypatch.undo()
    with pytest.raises(StateError, match="of another version"):
        Profile.load(tmp_path / "a.calibration", facts.fingerprint)
