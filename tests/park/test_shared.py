"""Conversations that begin alike: their beginning is on the disk once, and each of them comes back whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.store import parked as store
from quantize.buffers import allocate
from quantize.errors import StateError
from quantize.geometry import Geometry
from quantize.park.codec import parse
from quantize.park.file import ParkReader
from quantize.park.header import BeginningError, chain, complete, read_about
from quantize.park.parking import ModelFacts, park, unpark
from quantize.park.shared import park_shared
from quantize.park.slices import cells_between
from quantize.prune.merge import merged
from quantize.state import SavedState, read_state
from tests.park.samples import facts_for, state_of

F32, F16 = 0, 1
SHAPE = Geometry.uniform(2, 64, 64, 1)
ROOT = Path(__file__).resolve().parents[2]
Talk = tuple[SavedState, list[int]]


@pytest.fixture
def facts() -> ModelFacts:
    return facts_for(SHAPE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STRETCH_HOME", str(tmp_path))
    folder = store.parked_path(1).parent
    folder.mkdir(parents=True)
    return folder


def talks(facts: ModelFacts, n_common: int, *lengths: int) -> list[Talk]:
    """Conversations that have their first tokens, and the rows of these, in common."""
    first, said = state_of(facts, (n_common,))
    made = []
    for i, n in enumerate(lengths, 1):
        state, tokens = state_of(facts, (n,), seed=i)
        tokens[n_common] = i  # nothing else is in common
        made.append((read_state(merged(first, state, n_common)), said + tokens[n_common:]))
    return made


def away(talk: Talk, facts: ModelFacts, path: Path, codec: str = "learned:0.03") -> tuple[int, int]:
    """Park a conversation; tokens and bytes of what it shares."""
    _, n_shared, n_bytes = park_shared(
        *talk, facts, parse(codec), path, allocate, conversation=int(path.stem), pins=["keep this"]
    )
    return n_shared, n_bytes


def values(path: Path, facts: ModelFacts) -> NDArray[np.float32]:
    """What comes out of a file, shape (cells, values)."""
    with ParkReader(path) as reader:
        return rows(unpark(reader, facts, F32, F32, allocate))


def rows(state: SavedState) -> NDArray[np.float32]:
    part = state.parts[0]
    kind = np.float32 if part.k[0].type_id == F32 else np.float16
    found = [state.rows(r).copy().view(kind).astype(np.float32) for r in (*part.k, *part.v)]
    return np.concatenate(found, axis=1)


def error(found: NDArray[np.float32], talk: Talk) -> float:
    return float(np.sqrt(np.mean((found - rows(talk[0])) ** 2)))


@pytest.mark.parametrize(
    "codec", ["learned:0.03", "lowrank:0.03", "crosslayer:0.03", "turboquant:3", "ggml:q4_0"]
)
def test_the_common_beginning_is_there_once(facts: ModelFacts, folder: Path, codec: str) -> None:
    a, b = talks(facts, 1000, 1400, 1200)
    alone = folder / "9.park"
    park(*b, facts, parse(codec), alone)
    b_alone, n_alone = error(values(alone, facts), b), alone.stat().st_size
    alone.unlink()

    assert away(a, facts, folder / "1.park", codec) == (0, 0)
    before, n_before = values(folder / "1.park", facts), (folder / "1.park").stat().st_size
    used = (folder / "1.park").stat().st_mtime_ns
    n_shared, n_bytes = away(b, facts, folder / "2.park", codec)
    assert n_shared == 1000
    [beginning] = folder.glob("*.beginning")
    assert beginning.stat().st_size == n_bytes
    total = sum(p.stat().st_size for p in folder.iterdir())
    assert total < 0.75 * (n_before + n_alone)

    assert error(values(folder / "2.park", facts), b) < 1.02 * b_alone
    after = values(folder / "1.park", facts)
    assert error(after, a) < 1.02 * error(before, a)
    # What the first one had alone is what it was: the same numbers, or for scales the nearest ones; a token
    # that matters more or less without those before it is rounded once more.
    assert np.sqrt(np.mean((after[1000:] - before[1000:]) ** 2)) < 0.2 * error(before, a)
    assert np.array_equal(after[-8:], before[-8:])
    with ParkReader(folder / "1.park") as reader:
        assert (reader.about.conversation, reader.about.start, reader.pins) == (1, 1000, ("keep this",))
        assert reader.about.f16_bytes == 1400 * 2 * rows(a[0]).shape[1]
    assert (folder / "1.park").stat().st_mtime_ns == used  # it was not used again

    whole = beginning.read_bytes()
    assert away(b, facts, folder / "2.park", codec) == (1000, n_bytes)
    assert beginning.read_bytes() == whole  # not written again, and so not rounded again


def test_beginnings_of_beginnings(facts: ModelFacts, folder: Path) -> None:
    a, b = talks(facts, 1500, 1800, 1900)
    state, tokens = state_of(facts, (1100,), seed=9)
    c = (read_state(merged(a[0], state, 700)), [*a[1][:700], 60, *tokens[701:]])
    a[1][700] = b[1][700] = 61
    for i, talk in enumerate((a, b), 1):
        away(talk, facts, folder / f"{i}.park")
    whole = sum(p.stat().st_size for p in folder.iterdir())
    assert away(c, facts, folder / "3.park")[0] == 700
    assert [len(chain(folder / f"{i}.park")) for i in (1, 2, 3)] == [2, 2, 1]
    assert len(list(folder.glob("*.beginning"))) == 2
    assert sum(p.stat().st_size for p in folder.iterdir()) < 1.4 * whole
    for i, talk in enumerate((a, b, c), 1):
        assert error(values(folder / f"{i}.park", facts), talk) < 0.1


def test_what_is_not_worth_a_file(facts: ModelFacts, folder: Path) -> None:
    a, b = talks(facts, 200, 600, 600)
    away(a, facts, folder / "1.park")
    assert away(b, facts, folder / "2.park") == (0, 0)
    c, d = talks(facts, 1000, 1100, 1100)
    away(c, facts, folder / "3.park")
    assert away(d, facts, folder / "4.park", "turboquant:3") == (0, 0)  # another codec
    e, f = talks(facts, 600, 900, 900)
    away(e, facts, folder / "6.park", "lowrank:10")  # 600 tokens so small are fewer bytes than exact ones
    assert away(f, facts, folder / "7.park", "lowrank:10") == (0, 0)
    other = facts_for(SHAPE, mark="x" * 32)
    assert away(d, other, folder / "5.park") == (0, 0)  # another model
    assert not list(folder.glob("*.beginning"))


def test_a_sliding_window_shares_nothing(folder: Path) -> None:
    facts = facts_for(Geometry((SHAPE.parts[0], SHAPE.parts[0]), SHAPE.first))
    for i in (1, 2):
        talk = state_of(facts, (900, 300))
        assert away(talk, facts, folder / f"{i}.park") == (0, 0)


def test_the_cut_is_where_it_is_asked_for(facts: ModelFacts, folder: Path) -> None:
    a, b = talks(facts, 1000, 1400, 1200)
    for i, talk in enumerate((a, b), 1):
        park_shared(
            *talk, facts, parse("ggml:q8_0"), folder / f"{i}.park", allocate, boundary=lambda n: n - 40
        )
    assert read_about(folder / "2.park").start == 960


def test_removing_one_conversation_never_harms_another(facts: ModelFacts, folder: Path) -> None:
    a, b = talks(facts, 1000, 1400, 1200)
    away(a, facts, folder / "1.park")
    away(b, facts, folder / "2.park")
    first = values(folder / "1.park", facts)
    store.drop(2)
    assert np.array_equal(values(folder / "1.park", facts), first)
    away(b, facts, folder / "2.park")
    store.drop(1)
    assert complete(folder / "2.park")
    store.drop(2)
    assert list(folder.iterdir()) == []


def test_the_budget_counts_what_is_shared_once(facts: ModelFacts, folder: Path) -> None:
    a, b = talks(facts, 1000, 1400, 1200)
    away(a, facts, folder / "1.park")
    away(b, facts, folder / "2.park")
    os.utime(folder / "1.park", (1, 1))
    on_disk = sum(p.stat().st_size for p in folder.iterdir())
    files = store.parked_files()
    assert store.parked_bytes(files) == on_disk
    assert files[0].shared_bytes == files[1].shared_bytes == on_disk - sum(f.n_bytes for f in files)
    assert store.keep_within(on_disk) == 0
    assert store.keep_within(on_disk - 1) == 1
    assert [f.conversation for f in store.parked_files()] == [2]
    assert error(values(folder / "2.park", facts), b) < 0.1
    assert store.keep_within(files[0].n_bytes + 1) == 1  # alone it has to carry all of the beginning
    assert list(folder.iterdir()) == []


def test_a_missing_or_damaged_beginning_is_found_and_made_again(facts: ModelFacts, folder: Path) -> None:
    a, b = talks(facts, 1000, 1400, 1200)
    away(a, facts, folder / "1.park")
    away(b, facts, folder / "2.park")
    [beginning] = folder.glob("*.beginning")
    whole = beginning.read_bytes()
    rng = np.random.default_rng(0)
    for place in (*range(0, 600, 11), *rng.integers(0, len(whole), 60)):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        beginning.write_bytes(changed)
        with pytest.raises(BeginningError) as caught:
            values(folder / "1.park", facts)
        assert caught.value.path == beginning
    for length in (0, 20, *rng.integers(0, len(whole), 20), len(whole) - 1):
        beginning.write_bytes(whole[:length])
        with pytest.raises(BeginningError):
            values(folder / "1.park", facts)
    # It is not trusted by the next one either.
    changed = bytearray(whole)
    changed[-200] ^= 1
    beginning.write_bytes(changed)
    assert away(b, facts, folder / "2.park")[0] == 1000
    assert error(values(folder / "2.park", facts), b) < 0.1
    assert error(values(folder / "1.park", facts), a) < 0.1
    beginning.unlink()
    with pytest.raises(BeginningError):
        values(folder / "2.park", facts)


def test_a_beginning_of_other_tokens_is_not_taken(facts: ModelFacts, folder: Path) -> None:
    a, b = talks(facts, 1000, 1400, 1200)
    away(a, facts, folder / "1.park")
    away(b, facts, folder / "2.park")
    [beginning] = folder.glob("*.beginning")
    state, tokens = state_of(facts, (1000,), seed=5)
    park(state, tokens, facts, parse("learned:0.03"), beginning)
    with pytest.raises(BeginningError):
        values(folder / "1.park", facts)
    state = cells_between(a[0], 0, 900)  # right as far as it goes, and too short
    for said in (a[1][:900], a[1][:1000]):
        park(state, said, facts, parse("learned:0.03"), beginning)
        with pytest.raises(BeginningError):
            values(folder / "1.park", facts)


def test_a_flipped_bit_of_the_rest_is_found(facts: ModelFacts, folder: Path) -> None:
    a, b = talks(facts, 1000, 1400, 1200)
    away(a, facts, folder / "1.park")
    away(b, facts, folder / "2.park")
    whole = (folder / "2.park").read_bytes()
    rng = np.random.default_rng(0)
    for place in (*range(0, 600, 11), *rng.integers(0, len(whole), 60)):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        (folder / "2.park").write_bytes(changed)
        with pytest.raises(StateError):
            values(folder / "2.park", facts)


_WRITER = """
import io, os, pathlib, signal, sys
from tests.park.samples import facts_for
from tests.park.test_shared import SHAPE, away, talks

facts = facts_for(SHAPE)
three = talks(facts, 1000, 1400, 1200, 1100)
away(three[0], facts, pathlib.Path(sys.argv[1]) / "1.park")  # what is made once per process

def scenario(folder, last):
    n = 0
    def before_a_call(frame, event, call):
        nonlocal n
        if event == "c_call":
            writes = isinstance(getattr(call, "__self__", None), io.BufferedWriter)
            if writes or call in (os.replace, os.fsync, os.utime, os.open):
                n += 1
                if n == last:
                    os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(before_a_call)
    for i, talk in enumerate((*three, *three)):
        away(talk, facts, folder / f"{i % 3 + 1}.park")
        (folder / "done").write_text(str(i + 1))

for last in range(1, 10000, 7):
    folder = pathlib.Path(sys.argv[1]) / str(last)
    folder.mkdir()
    child = os.fork()
    if not child:
        scenario(folder, last)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


def test_a_kill_at_any_moment_loses_no_conversation(facts: ModelFacts, folder: Path) -> None:
    """A process is killed before every seventh write, flush or rename, while a beginning, a conversation, or
    one that is written again without its beginning is on its way."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", _WRITER, str(folder)], cwd=ROOT, env=environment, check=True)
    three = talks(facts, 1000, 1400, 1200, 1100)
    killed = [p for p in folder.iterdir() if p.is_dir()]
    assert len(killed) > 20
    n_shared = 0
    for inner in killed:
        done = int((inner / "done").read_text()) if (inner / "done").exists() else 0
        found = {int(p.stem) for p in inner.glob("*.park")}
        assert found >= set(range(1, min(done, 3) + 1))
        for name in found:
            assert error(values(inner / f"{name}.park", facts), three[name - 1]) < 0.1
            n_shared += bool(chain(inner / f"{name}.park"))
    assert n_shared > len(killed)
