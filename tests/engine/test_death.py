"""Sentences about the end of a process."""

from __future__ import annotations

import signal
from pathlib import Path

from app.engine import death


def test_each_cause_has_its_sentence() -> None:
    assert "memory ran out" in death.sentence(-signal.SIGKILL, "")
    assert death.sentence(-signal.SIGABRT, "GGML_ASSERT(x) failed").endswith("GGML_ASSERT(x) failed")
    assert "SIGSEGV" in death.sentence(-signal.SIGSEGV, "")
    assert "SIGTERM" in death.sentence(-signal.SIGTERM, "")
    assert "code 3: no such file" in death.sentence(3, "no such file")
    assert "without being asked" in death.sentence(0, "")
    assert "signal 99" in death.sentence(-99, "")


def test_the_last_words_are_those_of_this_process(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text(
        f"{death.start_mark(1)}\n/x.cpp:1: GGML_ASSERT(old) failed\n"
        f"{death.start_mark(2)}\ninfo loading\n/x.cpp:9: GGML_ASSERT(new) failed\n"
        "[New LWP 7]\n#1 0x00 in f\n\n"
    )
    assert death.last_words(log, 2) == "/x.cpp:9: GGML_ASSERT(new) failed"
    assert "old" not in death.last_words(log, 2)


def test_last_words_hold_no_escape_sequences(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_bytes(death.start_mark(5).encode() + b"\nerror: \x1b[31mred\x1b]0;t\x07 \xff end\n")
    words = death.last_words(log, 5)
    assert words.startswith("error:") and words.isprintable()


def test_a_missing_log_says_nothing(tmp_path: Path) -> None:
    assert death.last_words(tmp_path / "none.log", 1) == ""
