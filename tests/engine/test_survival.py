"""The engine may die at any moment: its parent lives, knows why, and starts it again. And the other
way round: no engine survives its parent."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from app.engine.protocol import (
    Died,
    Finished,
    Generate,
    Hello,
    Load,
    Loaded,
    LoadProgress,
    PrefillProgress,
    Sampling,
    SetCache,
    Shutdown,
    Status,
    TextChunk,
    wire,
)
from quantize.errors import EngineDiedError
from tests.engine.harness import FILLER, GREEDY, PATIENCE, Harness, user

Start = Callable[[], Harness]

PHASES = ("starting", "loading", "reading", "writing", "switching")
ENDLESS = Sampling(temperature=3.0, top_k=0, top_p=1, min_p=0)


@pytest.fixture(scope="module")
def tiny(synthetic: Callable[..., Path]) -> Path:
    return synthetic("llama")


def die(harness: Harness, how: int = signal.SIGKILL) -> Died:
    """Kill the process from outside and wait for the news."""
    os.kill(harness.client.pid, how)
    while True:
        event = harness._queue.get(timeout=PATIENCE)
        if isinstance(event, Died):
            return event


def bring_to(harness: Harness, phase: str, n: int, path: Path) -> None:
    """Let the engine be in the middle of ``phase``; ``n`` varies how far."""
    if phase == "starting":
        harness.client.start()
        return
    harness.start()
    harness.send(Load(harness.next_id(), str(path), 4096, n_threads=1))
    if phase == "loading":
        if n % 2:
            harness.until(LoadProgress)
        return
    harness.until(Loaded)
    harness.send(Generate(harness.next_id(), user(FILLER * 60), ENDLESS))
    if phase == "reading":
        harness.until(PrefillProgress)
        return
    for _ in range(1 + n % 3):
        while isinstance(harness.until(TextChunk, Finished), Finished):  # it may end by chance
            harness.send(Generate(harness.next_id(), user("Go on."), ENDLESS))
    if phase == "switching":
        for type_k in ("q8_0", "q4_0", "f16")[: 1 + n % 3]:
            harness.send(SetCache(harness.next_id(), type_k, type_k))


def test_killed_at_twenty_moments_it_comes_back_every_time(start_engine: Start, tiny: Path) -> None:
    chance = random.Random(20)
    harness = start_engine()
    harness.client.close()
    moments = [phase for phase in PHASES for _ in range(4)]
    chance.shuffle(moments)
    for phase in moments:
        bring_to(harness, phase, chance.randrange(6), tiny)
        died = die(harness)
        assert died.exit_code == -signal.SIGKILL and "memory ran out" in died.sentence
        assert not harness.client.alive
        with pytest.raises(EngineDiedError):
            harness.send(Load(harness.next_id(), str(tiny), 512))
    harness.start()
    harness.load(tiny, 512)
    assert harness.generate(user("hello"), GREEDY).n_generated > 0


@pytest.mark.parametrize(
    ("how", "said"),
    [(signal.SIGABRT, "stopped itself"), (signal.SIGSEGV, "crashed"), (signal.SIGTERM, "from outside")],
)
def test_the_cause_of_death_is_said(start_engine: Start, how: int, said: str) -> None:
    harness = start_engine()
    died = die(harness, how)
    assert died.exit_code == -how and said in died.sentence


def test_an_assertion_of_the_library_is_quoted(start_engine: Start, tiny: Path) -> None:
    """More logits than were reserved end llama.cpp; the sentence has its own words."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from app.engine.log import EngineLog, take_over_descriptors\n"
        "take_over_descriptors(Path(sys.argv[2])); log = EngineLog(Path(sys.argv[2]))\n"
        "from quantize.llama import Context, Model, send_log_to\n"
        "send_log_to(log.receive)\n"
        "c = Context(Model(sys.argv[3]), n_ctx=256, n_threads=1)\n"
        "c.decode([5] * 8, 0, logits='all')\n"
    )
    from app.engine import death

    log = start_engine().client.log_path.with_name("assertion.log")
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", code, root, str(log), str(tiny)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"GGML_NO_BACKTRACE": "1"},
    )
    exit_code = process.wait(PATIENCE)
    assert exit_code == -signal.SIGABRT
    assert "n_outputs_max" in death.sentence(exit_code, death.last_words(log, process.pid))


def test_a_shutdown_is_no_death(start_engine: Start) -> None:
    harness = start_engine()
    pid = harness.client.pid
    harness.client.close()
    assert not harness.client.alive and not psutil.pid_exists(pid)
    assert not any(isinstance(e, Died) for e in drain(harness))
    harness.client.close()  # twice does no harm


def test_a_kill_on_purpose_is_no_death(start_engine: Start) -> None:
    harness = start_engine()
    harness.client.kill()
    harness.client.close()
    assert not any(isinstance(e, Died) for e in drain(harness))
    harness.start()
    assert harness.client.alive


def test_a_shutdown_ends_what_runs(start_engine: Start, tiny: Path) -> None:
    harness = start_engine()
    harness.load(tiny, 4096)
    harness.send(Generate(harness.next_id(), user("hello"), ENDLESS))
    harness.until(TextChunk)
    harness.send(Shutdown(harness.next_id()))
    assert harness.client._run is not None
    assert harness.client._run.process.wait(PATIENCE) == 0


def test_what_is_not_a_message_ends_the_engine_or_is_refused(start_engine: Start) -> None:
    from app.engine.protocol import Ask, Failed

    harness = start_engine()
    assert harness.client._run is not None
    harness.client._run.sender.put(b'{"type":"Load"}\n\xff\xff\n[]\n')
    for _ in range(3):
        assert harness.until(Failed).kind == "EngineError"
    assert harness.ask(Ask(harness.next_id()), Status)


PARENT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from app.engine.client import EngineClient
from app.engine.protocol import *
def show(event):
    if isinstance(event, TextChunk | Hello):
        print(type(event).__name__, client.pid, flush=True)
client = EngineClient(show, Path(sys.argv[2]))
client.start()
if len(sys.argv) > 3:
    client.send(Load(1, sys.argv[3], 4096, n_threads=1))
    client.send(Generate(2, (Turn("user", "hello"),), Sampling(temperature=3.0, top_k=0, top_p=1, min_p=0)))
while True:
    time.sleep(60)
"""


@pytest.mark.parametrize("busy", [False, True])
def test_no_engine_survives_its_parent(tmp_path: Path, tiny: Path, busy: bool) -> None:
    root = str(Path(__file__).resolve().parents[2])
    arguments = [sys.executable, "-c", PARENT, root, str(tmp_path / "log"), *([str(tiny)] if busy else [])]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        for line in parent.stdout:
            name, pid = line.split()
            if name == ("TextChunk" if busy else "Hello"):
                break
        engine = psutil.Process(int(pid))
        family = [engine, *engine.children(recursive=True)]
        assert len(family) == (2 if busy else 1)  # with a model there is the process of its template
        parent.kill()
        parent.wait(PATIENCE)
    _, alive = psutil.wait_procs(family, timeout=PATIENCE)
    assert not alive


def test_a_folder_called_app_is_not_imported(
    start_engine: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "app" / "engine").mkdir(parents=True)
    (tmp_path / "app" / "__init__.py").write_text("raise SystemExit(7)")
    (tmp_path / "json.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    assert start_engine().client.alive


def test_events_cannot_be_forged_by_the_library(start_engine: Start) -> None:
    """What C code prints goes to the log, also what looks like a message."""
    harness = start_engine()
    forged = wire.encode(Hello(1, "forged")).decode().strip()
    code = "import ctypes; c = ctypes.CDLL(None); c.puts(sys.argv[3].encode()); c.fflush(None)"
    boot = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from app.engine.log import take_over_descriptors\n"
        "commands, events = take_over_descriptors(Path(sys.argv[2]))\n" + code + "\nevents.write(b'end')"
    )
    log = harness.client.log_path.with_name("forged.log")
    root = str(Path(__file__).resolve().parents[2])
    arguments = [sys.executable, "-c", boot, root, str(log), forged]
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert done.stdout == b"end" and done.stderr == b""
    assert forged in log.read_text()


def drain(harness: Harness) -> list[object]:
    """What has arrived and was not looked at."""
    events: list[object] = []
    while not harness._queue.empty():
        events.append(harness._queue.get())
    return events
