"""From tokens to text: characters that span tokens, and stop strings."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine import stream
from app.engine.stream import TextStream


@pytest.fixture(autouse=True)
def send_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand out text at every token, so that nothing depends on the clock."""
    monkeypatch.setattr(stream, "CHUNK_SECONDS", 0.0)


def run(pieces: list[bytes], stop_strings: tuple[str, ...] = ()) -> tuple[str, list[str], bool]:
    chunks: list[str] = []
    text_stream = TextStream(chunks.append, stop_strings)
    for piece in pieces:
        text_stream.add(piece)
        if text_stream.hit_stop_string:
            break
    return text_stream.end(), chunks, text_stream.hit_stop_string


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """``data`` in pieces."""
    bounds = sorted({0, len(data), *(p % (len(data) + 1) for p in places)})
    return [data[a:b] for a, b in itertools.pairwise(bounds)]


@given(st.text(), st.lists(st.integers(0, 1000)))
def test_characters_survive_any_cut(text: str, places: list[int]) -> None:
    data = text.encode("utf-8", "replace")
    whole, chunks, _ = run(cut(data, places))
    assert whole == "".join(chunks) == data.decode()
    assert all(chunks)


@given(st.binary(), st.lists(st.integers(0, 1000)))
def test_bytes_that_are_no_text_become_replacement_characters(data: bytes, places: list[int]) -> None:
    whole, chunks, _ = run(cut(data, places))
    assert whole == "".join(chunks) == data.decode("utf-8", "replace")


@given(
    st.text("ab<|end>", max_size=30),
    st.text("ab<|end>", max_size=30),
    st.lists(st.integers(0, 1000)),
)
def test_a_stop_string_ends_the_text_and_is_never_shown(before: str, after: str, places: list[int]) -> None:
    stops = ("<|end|>", "<end>")
    text = before + "<|end|>" + after
    expected = text[: min(text.find(s) for s in stops if s in text)]
    whole, chunks, hit = run(cut(text.encode(), places), stops)
    assert hit
    assert whole == "".join(chunks) == expected


@given(st.text("ab<|end", max_size=40), st.lists(st.integers(0, 1000)))
def test_text_that_only_resembles_a_stop_string_is_shown_whole(text: str, places: list[int]) -> None:
    whole, _, hit = run(cut(text.encode(), places), ("<|end|>",))
    assert not hit
    assert whole == text
