"""The commands as a person runs them, in a process of their own, against the hub on loopback."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models.hub.places import target_of, unfinished
from tests.cli.conftest import Run
from tests.hub.blob import Blob
from tests.hub.server import TOKEN, LoopbackHub
from tests.synthetic import SyntheticModels


@pytest.fixture(autouse=True)
def at_the_hub(environment: dict[str, str], server: LoopbackHub, tmp_path: Path) -> None:
    """The commands ask the hub on loopback."""
    for name in ("HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "HF_HUB_OFFLINE"):
        environment.pop(name, None)
    environment |= {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1"}
    environment.pop("HF_HUB_CACHE", None)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Where the commands store models."""
    return tmp_path / "home" / "data" / "models"


@pytest.fixture
def repo(server: LoopbackHub, synthetic: SyntheticModels) -> str:
    """A repository with two quantizations, a projector and a file that this engine does not run."""
    tiny = synthetic("llama").read_bytes()
    gguf = {"total": 270_000_000, "architecture": "llama", "context_length": 2048}
    server.add(
        "o/tiny-GGUF",
        {
            "tiny-Q8_0.gguf": tiny,
            "tiny-Q4_K_M.gguf": synthetic("qwen3").read_bytes(),
            "mmproj-F16.gguf": b"GGUF",
            "tiny-Q2_K.gguf": b"<html>",
        },
        gguf=gguf,
    )
    return "o/tiny-GGUF"


def test_search(stretch: Run, server: LoopbackHub, repo: str) -> None:
    server.add("p/tiny-instruct-GGUF", {"m.gguf": b""}, license="mit", gated=True, downloads=12_345)
    done = stretch("search", "tiny")
    assert done.returncode == 0, done.stderr
    head, first, second = done.stdout.splitlines()
    assert head.split() == ["model", "weights", "downloads", "license"]
    assert first.split() == ["p/tiny-instruct-GGUF", "?", "12,345", "mit", "(gated)"]
    assert second.split() == ["o/tiny-GGUF", "270M", "100", "apache-2.0"]
    found = [json.loads(line) for line in stretch("search", "tiny", "--json").stdout.splitlines()]
    assert [f["repo"] for f in found] == ["p/tiny-instruct-GGUF", repo]
    nothing = stretch("search", "no", "such", "name")
    assert (nothing.returncode, nothing.stdout) == (0, "") and "no GGUF model" in nothing.stderr


def test_pull_takes_the_best_and_the_others_find_it(
    stretch: Run,
    server: LoopbackHub,
    repo: str,
    own: Path,
) -> None:
    done = stretch("pull", repo)
    assert done.returncode == 0, done.stderr
    target = target_of(own, repo, "tiny-Q4_K_M.gguf")
    assert done.stdout == f"{target}\n"
    marked = next(line for line in done.stderr.splitlines() if line.startswith("*"))
    assert marked.split()[1] == "Q4_K_M"
    assert "is not a GGUF file" in done.stderr, "the damaged one is listed with its reason"
    assert "mmproj" not in done.stderr
    listed = [json.loads(line) for line in stretch("models", "--here", "--json").stdout.splitlines()]
    assert (listed[-1]["name"], listed[-1]["path"]) == (f"{repo}/tiny-Q4_K_M.gguf", str(target))
    assert listed[-1]["runs"]
    server.seen.clear()
    planned = json.loads(stretch("plan", f"{repo}:Q4_K_M", "--json", "--header-only").stdout)
    assert planned["path"] == str(target) and server.seen == [], "what is here is not asked for"
    again = stretch("pull", f"{repo}:Q4_K_M", "--json")
    assert json.loads(again.stdout)["path"] == str(target)
    assert server.fetched() <= 1 << 18, "the header is read, the file only checked"
    assert not server.requests("/resolve/main/mmproj")
    missing = stretch("rm", repo)
    assert missing.returncode == 2 and "Say --yes" in missing.stderr
    removed = stretch("rm", "--yes", listed[-1]["name"])
    assert removed.returncode == 0 and "freed" in removed.stdout and not own.joinpath("o").exists()


def test_plan_of_a_file_on_the_hub_is_that_of_the_file(
    stretch: Run,
    server: LoopbackHub,
    repo: str,
    synthetic: SyntheticModels,
) -> None:
    done = stretch("plan", f"hf:{repo}/tiny-Q8_0.gguf", "--ram", "4G", "--json")
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    here = json.loads(stretch("plan", str(synthetic("llama")), "--ram", "4G", "--json").stdout)
    assert there["path"] == f"hf:{repo}/tiny-Q8_0.gguf" and there["model"] == "tiny-Q8_0"
    for key in set(here) - {"path", "model"}:
        assert there[key] == here[key], key
    table = stretch("plan", f"hf:{repo}").stdout.splitlines()
    assert [line.split()[0] for line in table if "bits" in line] == ["Q8_0", "*"]
    every = [json.loads(line) for line in stretch("plan", repo, "--json").stdout.splitlines()]
    assert [e["quantization"] for e in every if e["best"]] == ["Q4_K_M"]
    assert {e["quantization"]: e["runs"] for e in every} == {"Q8_0": True, "Q4_K_M": True, "Q2_K": False}


def test_what_would_not_run_is_refused_before_the_download(
    stretch: Run,
    server: LoopbackHub,
    repo: str,
    own: Path,
) -> None:
    done = stretch("pull", f"{repo}:Q2_K")
    assert done.returncode == 1 and done.stdout == ""
    assert "tiny-Q2_K.gguf is not a GGUF file." in done.stderr and "--force" in done.stderr
    assert not own.exists()
    forced = stretch("pull", f"{repo}:Q2_K", "--force")
    assert forced.returncode == 0 and Path(forced.stdout.strip()).read_bytes() == b"<html>"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pull", "o/nothing"], "There is no o/nothing on the hub."),
        (["pull", "o/tiny-GGUF:Q3_K"], "o/tiny-GGUF has no Q3_K. There is"),
        (["pull", "o/tiny-GGUF/x.gguf"], "has no file x.gguf"),
        (["pull", "nonsense"], "names no model on the hub"),
        (["plan", "hf:o/nothing/x.gguf"], "There is no o/nothing on the hub."),
        (["run", "o/tiny-GGUF", "-p", "hi"], "stretch pull o/tiny-GGUF downloads it"),
        (["o/tiny-GGUF"], "stretch pull o/tiny-GGUF downloads it"),
        (["rm", "-y", "o/tiny-GGUF"], "was not downloaded"),
        (["rm", "-y", "builtin"], "is a part of Stretch"),
        (["rm", "-y", "/etc/hostname"], "was not downloaded by Stretch"),
    ],
)
def test_mistakes(stretch: Run, repo: str, arguments: list[str], words: str) -> None:
    done = stretch(*arguments)
    assert done.returncode == 1 and done.stdout == ""
    assert words in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr


def test_gated(stretch: Run, server: LoopbackHub, repo: str, environment: dict[str, str]) -> None:
    server.repos[repo].gated = True
    done = stretch("pull", f"{repo}:Q8_0")
    assert done.returncode == 1 and "is gated" in done.stderr and "HF_TOKEN" in done.stderr
    server.open = True
    environment["HF_TOKEN"] = TOKEN
    assert stretch("pull", f"{repo}:Q8_0").returncode == 0
    assert TOKEN not in done.stderr + done.stdout
    assert {s.token for s in server.seen if s.server == "store"} == {""}


def test_offline(stretch: Run, server: LoopbackHub, repo: str, environment: dict[str, str]) -> None:
    assert stretch("pull", f"{repo}:Q8_0").returncode == 0
    server.seen.clear()
    environment["HF_HUB_OFFLINE"] = "1"
    assert stretch("pull", f"{repo}:Q8_0").returncode == 0, "it is here"
    done = stretch("pull", f"{repo}:Q4_K_M")
    assert done.returncode == 1 and "HF_HUB_OFFLINE is set" in done.stderr
    assert stretch("models").returncode == 0
    assert server.seen == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_pull_goes_on(
    stretch: Run,
    server: LoopbackHub,
    environment: dict[str, str],
    own: Path,
    how: signal.Signals,
) -> None:
    blob = Blob(3_000_000, b"GGUF")
    server.add("o/r", {"m.gguf": blob})
    server.faults.hold_after = 1_000_000
    command = [sys.executable, "-m", "app.cli", "pull", "o/r", "--force"]
    process = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while not any(s.n_sent == 1_000_000 for s in server.seen if s.server == "store"):
        assert process.poll() is None, process.communicate()
        assert server.faults.holding.wait(60)
    wait_for_bytes(own, 1_000_000)
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    assert "stretch pull o/r/m.gguf goes on from there" in err and "Traceback" not in err
    (begun,) = unfinished(own)
    assert begun.done == 1_000_000
    listed = stretch("models", "--here").stdout
    assert "33% is here" in listed
    server.faults.hold_after = -1
    server.faults.go_on.set()
    assert stretch("pull", "o/r", "--force").returncode == 0
    assert [s.start for s in server.requests("/o/r/m.gguf") if s.server == "store"][-1] == 1_000_000


def wait_for_bytes(own: Path, n: int) -> None:
    """Until the part has ``n`` bytes; the bound is for a test that hangs."""
    waiter = select.poll()
    for _ in range(3000):
        if any(begun.done >= n for begun in unfinished(own)):
            return
        waiter.poll(20)
    raise AssertionError("the bytes never came")


def test_progress_on_a_terminal(
    server: LoopbackHub,
    environment: dict[str, str],
) -> None:
    server.add("o/r", {"m.gguf": Blob(30_000_000, b"GGUF")})
    code, shown = on_a_terminal([sys.executable, "-m", "app.cli", "pull", "o/r", "--force"], environment)
    # What is quickly over is not shown: at most ten lines per second are.
    assert code == 0 and "asking about o/r" in shown and "\r\x1b[2K" in shown
    assert "28.6 MiB" in shown
    assert shown.splitlines()[-1].endswith("/o/r/m.gguf")


def test_a_name_of_the_hub_offers_the_download(
    server: LoopbackHub,
    environment: dict[str, str],
    repo: str,
    own: Path,
) -> None:
    code, shown = on_a_terminal(
        [sys.executable, "-m", "app.cli", f"{repo}:Q8_0"], environment, answer=b"n\n", until="[Y/n]"
    )
    assert code == 1 and "This model is not on this computer." in shown and "fits, up to" in shown
    assert not own.exists()


def on_a_terminal(
    command: list[str], environment: dict[str, str], answer: bytes = b"", until: str = ""
) -> tuple[int, str]:
    """Run a command on a terminal of its own; its exit code and what it wrote."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = ""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:  # the other side is gone
            break
        if not data:
            break
        shown += data.decode()
        if answer and until in shown:
            os.write(ours, answer)
            answer = b""
    os.close(ours)
    return process.wait(60), shown
