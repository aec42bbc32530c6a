"""Files that a message mentions, and what the input offers while one types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.chat.attachments import LARGEST, collect, estimate, mentions, missing, read
from app.chat.completion import Candidate, complete
from quantize.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "ch3.md").write_text("chapter three", encoding="utf-8")
    (tmp_path / "with space.txt").write_text("x", encoding="utf-8")
    (tmp_path / ".hidden").write_text("x", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_existing_files_are_attached_once(folder: Path) -> None:
    found = collect('Compare @notes/ch3.md, (@notes/ch3.md) and @"with space.txt". Ask @john or me@home.org.')
    assert [(a.name, a.text) for a in found] == [("notes/ch3.md", "chapter three"), ("with space.txt", "x")]


def test_a_byte_order_mark_is_no_text(folder: Path) -> None:
    (folder / "bom.txt").write_bytes(b"\xef\xbb\xbfhello")
    assert read("bom.txt").text == "hello"


@pytest.mark.parametrize("data", [b"a\0b", b"\xff\xfe\x00", b"\xff\xfe\0\0a\0\0\0", b"caf\xe9"])
def test_what_is_no_text_is_refused(folder: Path, data: bytes) -> None:
    (folder / "data.bin").write_bytes(data)
    with pytest.raises(UsageError, match=r"data\.bin is not"):
        collect("look at @data.bin")


def test_a_file_without_end_is_refused(folder: Path) -> None:
    with (folder / "large.txt").open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(UsageError, match="larger than 2 MiB"):
        read("large.txt")
    with pytest.raises(UsageError, match="cannot be read"):
        read("notes")


@given(st.text(max_size=80))
def test_mentions_lie_within_the_text(text: str) -> None:
    for mention in mentions(text):
        assert text[mention.start] == "@"
        assert mention.path in text[mention.start : mention.end]


def test_an_estimate_is_never_nothing() -> None:
    assert [estimate(n) for n in (0, 1, 4, 5)] == [0, 1, 1, 2]


# --------------------------------------------------------------------------- completion


def arguments(name: str) -> Sequence[Candidate]:
    return [Candidate("q8_0", "q8_0", runs=True), Candidate("f16", "f16", runs=True)] if name == "kv" else []


def labels(before: str) -> list[str]:
    completion = complete(before, arguments)
    return [c.label for c in completion.candidates] if completion else []


def test_commands_by_their_beginning_then_by_what_they_hold() -> None:
    assert labels("/k")[0] == "/kv [K[/V]]"
    assert labels("/re")[:3] == ["/reprefill", "/resume", "/rename TITLE"]
    assert "/edit [TEXT]" in labels("/dit")
    assert labels("/zzz") == []


def test_arguments_of_a_command() -> None:
    assert labels("/kv ") == ["q8_0", "f16"]
    assert labels("/kv q8") == ["q8_0"]
    assert labels("/kv q8_0") == []
    assert labels("/new ") == []


def test_files_with_their_weight(folder: Path) -> None:
    assert labels("see @") == ["notes/", "with space.txt"]
    assert labels("see @.") == [".hidden"]
    completion = complete("see @notes/", arguments)
    assert completion is not None
    assert completion.start == 4
    (candidate,) = completion.candidates
    assert candidate.insert == "@notes/ch3.md "
    assert candidate.detail == "13 B, about 4 tokens"


def test_a_name_with_spaces_is_quoted_and_found_again(folder: Path) -> None:
    completion = complete("@with", arguments)
    assert completion is not None
    inserted = completion.candidates[0].insert
    assert inserted == '@"with space.txt" '
    assert [a.name for a in collect(inserted)] == ["with space.txt"]


@given(st.text(max_size=60))
def test_completion_never_fails(before: str) -> None:
    completion = complete(before, arguments)
    assert completion is None or (completion.candidates and completion.start <= len(before))


def test_hostile_file_names_are_harmless(folder: Path) -> None:
    (folder / "\x1b[31mred[bold].txt").write_text("x", encoding="utf-8")
    (label,) = labels("@\x1b")
    assert "\x1b" not in label


def test_text_that_is_marked_as_utf_16_is_read(folder: Path) -> None:
    (folder / "notepad.txt").write_text("größer\n", encoding="utf-16")
    assert read("notepad.txt").text == "größer\n"


def test_what_is_written_like_a_file_and_is_none_is_said(folder: Path) -> None:
    text = "@john, @notes @notes/ch3.md @notes/ch4.md and @gone.txt"
    assert missing(text) == [
        "notes is a folder; name a file in it",
        "there is no file notes/ch4.md",
        "there is no file gone.txt",
    ]
