"""``stretch run``: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.engine.harness import FILLER

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Synthetic = Callable[..., Path]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"STRETCH_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}


@pytest.fixture
def stretch_run(environment: dict[str, str], tmp_path: Path) -> Run:
    """``stretch_run("-p", "hi")`` runs the command to its end; ``input`` is piped into it."""

    def run(*arguments: str, input: str | bytes | None = None) -> subprocess.CompletedProcess[str]:
        if isinstance(input, bytes):
            input = input.decode("utf-8", "surrogateescape")
        return subprocess.run(
            [sys.executable, "-m", "app.cli", "run", *arguments, "--threads", "1"],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
            **({"stdin": subprocess.DEVNULL} if input is None else {"input": input}),  # type: ignore[call-overload]
        )

    return run


def events(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The lines of standard output, all of them JSON objects."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def script(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "script.txt"
    path.write_text("\n".join(lines))
    return str(path)


def test_a_prompt_prints_the_reply_and_nothing_else(stretch_run: Run) -> None:
    done = stretch_run("-p", "What is the KV cache?", "--temp", "0", "-n", "20")
    assert done.returncode == 0 and done.stderr == ""
    assert "memory of the conversation" in done.stdout and done.stdout.count("\n") == 1


def test_text_from_a_pipe_is_the_message_or_follows_it(stretch_run: Run) -> None:
    options = ("--json", "--temp", "0", "-n", "4")
    alone = events(stretch_run(*options, input="What is the KV cache?\n"))[0]
    given = events(stretch_run("-p", "What is the KV cache?", *options))[0]
    both = events(stretch_run("-p", "What is it?", *options, input="The KV cache holds keys.\n"))[0]
    assert alone["text"] == given["text"] and alone["n_prompt"] == given["n_prompt"]
    assert both["n_prompt"] > given["n_prompt"]


@pytest.mark.parametrize("data", [b"\xff\xfe\0", b"\xff\xfe\0\0a\0\0\0", b"\x89PNG\0", b"caf\xe9"])
def test_what_is_piped_in_and_is_no_text_is_refused(stretch_run: Run, data: bytes) -> None:
    for arguments, name in (((), "What was piped in"), (("--script", "-"), "The script")):
        done = stretch_run(*arguments, "-n", "4", input=data)
        assert done.returncode == 2 and done.stdout == ""
        assert f"{name} is not" in done.stderr
        assert "iconv" in done.stderr or "text only" in done.stderr


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marked_text_from_a_pipe_is_read_without_its_mark(stretch_run: Run, encoding: str) -> None:
    options = ("--json", "--temp", "0", "-n", "4")
    marked = events(stretch_run(*options, input="Is \u00fc in it?\r\n".encode(encoding)))[0]
    plain = events(stretch_run(*options, input="Is \u00fc in it?"))[0]
    assert marked["n_prompt"] == plain["n_prompt"]


def test_a_seed_repeats_a_reply(stretch_run: Run, synthetic: Synthetic) -> None:
    path = str(synthetic("llama"))
    texts = [
        events(stretch_run(path, "-p", FILLER, "--json", "--temp", "1", "-n", "40", "--seed", seed))[0][
            "text"
        ]
        for seed in ("1", "1", "2")
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_script_prints_one_object_per_turn(stretch_run: Run, synthetic: Synthetic, tmp_path: Path) -> None:
    lines = script(
        tmp_path,
        FILLER,
        "/kv q8_0/q4_0",
        "",
        "Go on.",
        "/stats",
        "/ctx 2k",
        "/undo",
        "/reprefill",
        "/set temperature 0",
        "/system Be brief.",
        "/system",
        "/regenerate",
        "/continue",
        "/edit Go on, please.",
        "/new",
        "Hello.",
    )
    arguments = ("--json", "-n", "12", "--ctx", "1024", "--tail", "off")
    done = stretch_run(str(synthetic("llama")), "--script", lines, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    found = events(done)
    kinds = [e["event"] for e in found]
    assert kinds == [
        *("reply", "kv", "reply", "stats", "kv", "kv", "kv"),
        *("note", "note", "note", "reply", "reply", "reply", "note", "reply"),
    ]
    first, kv, second, stats, longer, undone, reread = found[:7]
    assert set(first) >= {"text", "n_prompt", "n_cached", "n_generated", "prefill_s", "generate_s"}
    assert first["n_cached"] == 0 < first["n_generated"] <= 12
    assert (kv["type_k"], kv["type_v"], kv["n_ctx"], kv["reprefilled"]) == ("q8_0", "q4_0", 1024, False)
    assert kv["bytes_after"] < kv["bytes_before"] and kv["seconds"] > 0
    assert second["n_cached"] > 0
    assert stats["kv_bytes"] == kv["bytes_after"] and stats["n_ctx"] == 1024
    assert stats["n_used"] >= second["n_prompt"] and stats["rss_bytes"] > 0 < stats["predicted_bytes"]
    assert (longer["n_ctx"], undone["n_ctx"], reread["reprefilled"]) == (2048, 1024, True)
    assert "Be brief." in found[9]["message"]
    assert found[-1]["n_prompt"] < second["n_prompt"]


def test_a_window_is_asked_for_in_a_script(
    stretch_run: Run, environment: dict[str, str], synthetic: Synthetic, tmp_path: Path
) -> None:
    environment["STRETCH_KERNEL"] = "own"
    lines = script(
        tmp_path,
        FILLER,
        "/kv tq3",
        "/tail 64",
        "/kv tq2+32",
        "/tail off anyway",
        "/tail auto",
        "/tail much",
        "/kv f16",
    )
    done = stretch_run(str(synthetic("llama")), "--script", lines, "--json", "-n", "3", "--ctx", "1024")
    changes = [e for e in events(done) if e["event"] == "kv"]
    assert [(e["type_k"], e["tail"]) for e in changes] == [
        ("tq3", 256),
        ("tq3", 64),
        ("tq2", 32),
        ("tq2", 0),
        ("tq2", 256),
        ("f16", 0),
    ]
    (error,) = [e for e in events(done) if e["event"] == "error"]
    assert "'much'" in error["message"] and "off" in error["hint"]
    environment["STRETCH_KERNEL"] = "stock"
    done = stretch_run(str(synthetic("llama")), "--script", lines, "--json", "-n", "3", "--ctx", "1024")
    changes = [e for e in events(done) if e["event"] == "kv"]
    assert {e["tail"] for e in changes} == {0}
    errors = [e["message"] for e in events(done) if e["event"] == "error"]
    assert len(errors) == 3 and all("attention kernel" in e for e in errors[:2])


def test_a_cache_that_breaks_the_model_needs_a_word(
    stretch_run: Run, environment: dict[str, str], synthetic: Synthetic, tmp_path: Path
) -> None:
    """In a script and on the command line; taken, it is said on standard error in every form."""
    environment["STRETCH_KERNEL"] = "stock"  # it stores K with its constant
    path = str(synthetic("huge_bias_qwen2"))
    lines = script(tmp_path, "/kv q4_0", "/kv q4_0 anyway", "/stats")
    done = stretch_run(path, "--script", lines, "--json", "--ctx", "512")
    refused, _, taken, stats = events(done)[0], events(done)[1], events(done)[-2], events(done)[-1]
    assert refused["kind"] == "BreaksModelError" and "K in q4_0 probably breaks" in refused["message"]
    assert "anyway" in refused["hint"] and done.returncode == 1
    assert "K in q4_0 probably breaks this model" in taken["message"] + done.stderr
    assert "K in q4_0 probably breaks this model" in done.stderr
    losses = {(row["type_k"], row["type_v"]): row["loss"] for row in stats["rows"]}
    assert losses["f16", "f16"]["verdict"] == "as good as exact"
    assert losses["q4_0", "q4_0"]["verdict"] == "breaks this model"
    refused_load = stretch_run(path, "-p", "hi", "--kv", "q4_0", "-n", "2", "--ctx", "512")
    assert refused_load.returncode == 1 and "--anyway" in refused_load.stderr and not refused_load.stdout
    loaded = stretch_run(path, "-p", "hi", "--kv", "q4_0", "-n", "2", "--ctx", "512", "--anyway")
    assert loaded.returncode == 0 and "K in q4_0 probably breaks" in loaded.stderr


def test_a_failing_line_is_reported_and_the_script_goes_on(
    stretch_run: Run, synthetic: Synthetic, tmp_path: Path
) -> None:
    lines = script(
        tmp_path,
        "/nonsense",
        "/kv q9",
        "/kv",
        "/ctx many",
        "/undo",
        "/set volume 11",
        "/set seed x",
        "/edit",
        "Hi",
    )
    done = stretch_run(str(synthetic("llama")), "--script", lines, "--json", "-n", "3")
    found = events(done)
    assert [e["event"] for e in found] == ["error"] * 8 + ["reply"]
    assert all(e["message"] and e["message"].isprintable() for e in found[:8])
    assert done.returncode == 1 and done.stderr == ""


def test_without_json_replies_and_remarks_are_apart(
    stretch_run: Run, synthetic: Synthetic, tmp_path: Path
) -> None:
    lines = script(tmp_path, "Hello.", "/kv q8_0", "/stats", "/nonsense")
    done = stretch_run(str(synthetic("llama")), "--script", lines, "-n", "5", "--temp", "0")
    assert done.returncode == 1
    assert "q8_0" in done.stderr and "no command /nonsense" in done.stderr and "> Hello." in done.stderr
    assert "q8_0" not in done.stdout


def test_a_full_context_follows_the_policy(stretch_run: Run, synthetic: Synthetic) -> None:
    text = FILLER * 40
    options = (str(synthetic("llama")), "-p", text, "--ctx", "512", "-n", "4", "--json")
    stopped = stretch_run(*options)
    assert stopped.returncode == 1 and "--on-full longer" in events(stopped)[0]["hint"]
    for policy in ("longer", "smaller"):
        done = stretch_run(*options, "--on-full", policy)
        assert done.returncode == 0
        assert [e["event"] for e in events(done)] == ["kv", "reply"]


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ((), 2, "nothing to say"),
        (("-p", ""), 2, "empty"),
        (("no-such-model", "-p", "hi"), 1, "no-such-model"),
        (("/etc/passwd", "-p", "hi"), 1, "not a GGUF file"),
        (("/", "-p", "hi"), 1, "directory"),
        (("-p", "hi", "--kv", "q9_0"), 2, "q9_0"),
        (("-p", "hi", "--ctx", "lots"), 2, "lots"),
        (("-p", "hi", "--temp", "-1"), 2, "-1"),
        (("-p", "hi", "--on-full", "panic"), 2, "panic"),
        (("-p", "hi", "--script", "x"), 2, "not allowed"),
        (("--script", "no/such/script"), 2, "no/such/script"),
    ],
)
def test_mistakes_are_one_sentence(
    stretch_run: Run, arguments: tuple[str, ...], code: int, word: str
) -> None:
    done = stretch_run(*arguments)
    assert done.returncode == code, done.stderr
    assert word in done.stderr and done.stdout == ""
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 3


def test_a_context_beyond_the_trained_length_is_shortened_and_said(
    stretch_run: Run, synthetic: Synthetic
) -> None:
    done = stretch_run(str(synthetic("llama")), "-p", "hi", "--ctx", "1000000", "-n", "2")
    assert done.returncode == 0
    assert "4,096" in done.stderr and "1,000,000" in done.stderr


def test_a_truncated_model_is_one_sentence(stretch_run: Run, synthetic: Synthetic, tmp_path: Path) -> None:
    path = tmp_path / "half\x1b[31m.gguf"
    data = synthetic("llama").read_bytes()
    for size in (100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        done = stretch_run(str(path), "-p", "hi")
        assert done.returncode == 1 and done.stdout == ""
        assert "\x1b" not in done.stderr and "Traceback" not in done.stderr


def test_ctrl_c_stops_the_reply_and_leaves_no_engine(
    environment: dict[str, str], synthetic: Synthetic
) -> None:
    arguments = [sys.executable, "-m", "app.cli", "run", str(synthetic("llama")), "--threads", "1"]
    arguments += ["-p", FILLER, "--temp", "3", "--top-k", "0", "--top-p", "1", "--min-p", "0"]
    arguments += ["--ctx", "4096"]
    with subprocess.Popen(
        arguments, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode in (130, 0)  # 0 if the reply had ended by itself
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive


def test_a_closed_pipe_is_quiet(environment: dict[str, str], synthetic: Synthetic) -> None:
    arguments = [
        sys.executable,
        "-m",
        "app.cli",
        "run",
        str(synthetic("llama")),
        "--threads",
        "1",
        "-p",
        FILLER,
    ]
    with subprocess.Popen(
        arguments, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode in (141, 0)
