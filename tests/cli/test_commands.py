"""Exit codes and messages of the command, as the shell and the person see them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app import __version__
from app.cli import COMMANDS
from models.resolve import resolve
from tests.cli.conftest import Run


def test_version(stretch: Run) -> None:
    done = stretch("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"stretch {__version__}\n", "")


def test_help_names_every_command_and_option(stretch: Run) -> None:
    done = stretch("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name}\s+\S", done.stdout, re.MULTILINE)
    for option in ("--resume", "--model", "--kv", "--ctx", "--theme", "--version"):
        assert option in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(stretch: Run, name: str) -> None:
    done = stretch(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: stretch")


USAGE = {
    "an unknown option": (["--nonsense"], "--nonsense"),
    "a mistyped command": (["doctro"], "Did you mean stretch doctor?"),
    "an unknown cache type": (["--kv", "q9_9"], "'q9_9'"),
    "three cache types": (["--kv", "f16/f16/f16"], "more than two"),
    "a length that is no number": (["--ctx", "long"], "'long'"),
    "a conversation that is no number": (["--resume", "x"], "'x'"),
    "two models": (["one", "--model", "two"], "Name one"),
    "a missing value": (["--model"], "--model"),
    "no terminal": ([], "terminal"),
    "an unknown setting": (["settings", "temprature", "1"], "Did you mean temperature?"),
    "an unsuitable setting": (["settings", "temperature", "hot"], "from 0 to 10"),
}


@pytest.mark.parametrize("case", USAGE)
def test_a_mistake_in_the_usage_is_explained(stretch: Run, case: str) -> None:
    arguments, words = USAGE[case]
    done = stretch(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert_calm(done.stderr)


def assert_calm(text: str) -> None:
    """One or two lines without a traceback or anything that a terminal would obey."""
    assert text.startswith("stretch: ")
    assert len(text.splitlines()) <= 2
    assert "Traceback" not in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def bad_models(tmp_path: Path) -> dict[str, tuple[str, str]]:
    """Names that are no usable model, and a word of the answer."""
    whole = resolve("builtin").read_bytes()
    files = {
        "cut in the header": whole[:20_000],
        "cut in the weights": whole[: len(whole) // 2],
        "empty": b"",
        "garbage": b"\x00\xff" * 4000,
        "text": b"This is not a model.\n",
        "only the magic": b"GGUF",
        "endless counts": b"GGUF\x03\x00\x00\x00" + b"\xff" * 64,
    }
    for name, data in files.items():
        (tmp_path / f"{name}.gguf").write_bytes(data)
    (tmp_path / "folder").mkdir()
    return {name: (str(tmp_path / f"{name}.gguf"), ".gguf") for name in files} | {
        "missing": (str(tmp_path / "nowhere.gguf"), "no model"),
        "a folder": (str(tmp_path / "folder"), "directory"),
        "a device": ("/dev/null", "regular file"),
        "escape sequences": ("\x1b[31mred\x1b[0m", "no model"),
        "very long": ("x" * 5000, "no model"),
    }


CASES = (
    "cut in the header",
    "cut in the weights",
    "empty",
    "garbage",
    "text",
    "only the magic",
    "endless counts",
    "missing",
    "a folder",
    "a device",
    "escape sequences",
    "very long",
)


@pytest.mark.parametrize("command", ["chat", "run", "plan"])
def test_a_model_that_cannot_be_used_is_one_sentence(stretch: Run, tmp_path: Path, command: str) -> None:
    models = bad_models(tmp_path)
    assert set(CASES) == set(models)
    more = ["-p", "hi"] if command == "run" else []
    for case in CASES:
        name, words = models[case]
        done = stretch(command, name, *more)
        assert (done.returncode, done.stdout) == (1, ""), (case, done)
        assert words in done.stderr, case
        assert_calm(done.stderr)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("command", ["chat", "run", "plan"])
def test_a_model_that_may_not_be_read_is_one_sentence(stretch: Run, tmp_path: Path, command: str) -> None:
    path = tmp_path / "secret.gguf"
    path.write_bytes(b"GGUF")
    path.chmod(0)
    done = stretch(command, str(path), *(["-p", "hi"] if command == "run" else []))
    assert done.returncode == 1
    assert_calm(done.stderr)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", ["--help", "--version", "settings", "plan builtin"])
def test_a_reader_that_leaves_is_no_error(
    environment: dict[str, str], arguments: str, unbuffered: str
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(
        [sys.executable, "-m", "app.cli", *arguments.split()],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | {"PYTHONUNBUFFERED": unbuffered},
    ) as process:
        os.close(writer)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (141, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_disk_that_is_full_is_one_sentence(environment: dict[str, str], unbuffered: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", "settings"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment | {"PYTHONUNBUFFERED": unbuffered},
            check=False,
        )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert_calm(done.stderr)


def test_ctrl_c_ends_with_130(environment: dict[str, str], tmp_path: Path) -> None:
    """The command is interrupted while an editor is open: the one moment that surely lasts."""
    import signal

    ready = tmp_path / "ready"
    os.mkfifo(ready)
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\ntrap '' INT\necho ready > '{ready}'\nexec cat '{ready}'\n")
    editor.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "settings", "--edit"],
        env=environment | {"VISUAL": str(editor)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ready.read_text() == "ready\n"
    process.send_signal(signal.SIGINT)
    with ready.open("w"):
        pass
    out, errors = process.communicate()
    assert (process.returncode, out, errors) == (130, "", "\n")


def test_a_mistake_of_the_program_is_written_down(
    stretch: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    """A command module that fails in a way nobody thought of."""
    script = (
        "import sys; from app import cli\n"
        "class Broken:\n"
        "    HELP = 'x'\n"
        "    def add_arguments(self, parser): pass\n"
        "    def run(self, args): return 1 // 0\n"
        "sys.modules['app.commands.plan'] = Broken()\n"
        "sys.exit(cli.main(['plan']))\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert_calm(done.stderr)
    log = tmp_path / "home" / "logs" / "errors.log"
    assert str(log) in done.stderr
    assert "Traceback" in log.read_text()
    loud = environment | {"STRETCH_DEBUG": "1"}
    done = subprocess.run(command, env=loud, capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr


def test_a_terminal_that_is_not_utf_8_is_no_error(stretch: Run, environment: dict[str, str]) -> None:
    done = stretch("settings", "theme", "naïve→", env=environment | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    done = stretch("settings", "theme", env=environment | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout) == (0, "na?ve?\n")


IN_TERMINAL = {
    "an unknown conversation": (["--resume", "99"], 1, "no conversation 99"),
    "an unknown theme": (["--theme", "nope"], 2, "no theme called 'nope'"),
    "an unknown model": (["nope.gguf"], 1, "no model"),
}


@pytest.mark.parametrize("case", IN_TERMINAL)
def test_the_screen_is_not_touched_before_all_is_clear(environment: dict[str, str], case: str) -> None:
    """In a real terminal: a mistake is answered on the line below the command."""
    arguments, code, words = IN_TERMINAL[case]
    mine, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | {"TERM": "xterm-256color"},
    )
    os.close(theirs)
    _, errors = process.communicate()
    assert process.returncode == code
    assert words in errors
    assert_calm(errors)
    with open(mine, "rb") as terminal:  # noqa: PTH123 - a descriptor
        try:
            written = terminal.read1()
        except OSError:  # how Linux reports a terminal whose other end is closed
            written = b""
    assert written == b""


def test_a_terminal_that_cannot_draw_is_told_what_to_do(environment: dict[str, str], tmp_path: Path) -> None:
    mine, theirs = os.openpty()
    ended = subprocess.run(
        [sys.executable, "-m", "app.cli"],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=environment | {"TERM": "dumb"},
        cwd=tmp_path,
        text=True,
        timeout=60,
    )
    os.close(mine)
    os.close(theirs)
    assert ended.returncode == 2
    assert "TERM=dumb" in ended.stderr and "stretch run -p" in ended.stderr
