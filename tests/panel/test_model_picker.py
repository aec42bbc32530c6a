"""The picker: what it finds, what it says about it, what it loads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from app.chat.messages import ModelWanted
from app.chat.panel.glyphs import SMOOTH
from app.chat.screens.model_picker import ModelPicker, draw_model
from app.chat.screens.model_rows import LocalSource, ModelRow, typed_path
from app.chat.session import Session
from tests.panel.host import Host, until
from tests.synthetic import SyntheticModels

PLENTY = 64 << 30


class Catalog:
    """A source of three rows that are there at once."""

    heading = "From the catalog"
    searches = False
    asks_hub = False

    def __init__(self) -> None:
        self.wanted: list[str] = []

    def rows(self, query: str) -> Iterator[ModelRow]:
        yield ModelRow(
            "good", "Good one", "owner/repo", 4 << 30, "apache-2.0", "fits, up to 77k tokens at q8_0"
        )
        yield ModelRow(
            "bad", "Bad one", "owner/repo", 9 << 30, "mit", "", False, "needs 9.1 GiB, and 7.5 GiB are free"
        )
        yield ModelRow("loading", "Half there", "owner/repo", 9 << 30, progress=0.42)

    def choose(self, row: ModelRow) -> str | None:
        self.wanted.append(row.name)
        return row.name if row.name == "good" else None


def picker_in_host(session: Session, *sources: object) -> tuple[Host, ModelPicker]:
    screen = ModelPicker(session, sources or None)  # type: ignore[arg-type]
    return Host(screen=screen), screen


def local(tmp_path: Path, *folders: Path, budget: int = PLENTY) -> LocalSource:
    return LocalSource(tmp_path / "own", [str(f) for f in folders], lambda: budget)


async def test_the_built_in_models_come_first_and_are_loaded_by_name(
    session: Session, tmp_path: Path
) -> None:
    host, screen = picker_in_host(session, local(tmp_path), Catalog())
    async with host.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: not screen.looking)
        assert screen.rows.keys[:2] == ["builtin", "builtin-ternary"]
        assert "fits, up to 8k tokens" in screen.rows.plain_text
        await pilot.press("down", "enter")
        await until(pilot, lambda: any(isinstance(w, ModelWanted) for w in host.wishes))
        assert [w.name for w in host.wishes if isinstance(w, ModelWanted)] == ["builtin-ternary"]


class Held(Catalog):
    """A source that says nothing before it is let."""

    heading = "Comes late"

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Event()

    def rows(self, query: str) -> Iterator[ModelRow]:
        self.let.wait(60)
        yield ModelRow("late", "Late one", "owner/repo", 1 << 30)


async def test_the_cursor_is_on_the_first_row_in_whatever_order_the_sources_answer(session: Session) -> None:
    held = Held()
    host, screen = picker_in_host(session, held, Catalog())
    async with host.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: screen.rows.keys == ["good", "bad", "loading"])
        held.let.set()
        await until(pilot, lambda: not screen.looking)
        assert screen.rows.cursor_key == "late"


async def test_a_late_source_leaves_the_cursor_where_the_person_put_it(session: Session) -> None:
    held = Held()
    host, screen = picker_in_host(session, held, Catalog())
    async with host.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: screen.rows.keys == ["good", "bad", "loading"])
        await pilot.press("down")
        held.let.set()
        await until(pilot, lambda: not screen.looking)
        assert screen.rows.cursor_key == "bad"


async def test_folders_of_the_user_are_listed(
    session: Session, tmp_path: Path, synthetic: SyntheticModels
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    model = mine / "my-model.gguf"
    model.write_bytes(synthetic("llama").read_bytes())
    (mine / "broken.gguf").write_bytes(b"GGUF\x03\x00")
    host, screen = picker_in_host(session, local(tmp_path, mine))
    async with host.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: not screen.looking)
        assert str(model) in screen.rows.keys
        broken = next(row for row in screen.found if row.title == "broken")
        assert not broken.runnable and broken.reason
        await pilot.press(*"my-model")
        await until(pilot, lambda: not screen.looking)
        assert screen.rows.keys == [str(model)]
        await pilot.press("enter")
        await until(pilot, lambda: host.wishes)
        assert [w.name for w in host.wishes if isinstance(w, ModelWanted)] == [str(model)]


async def test_a_path_that_is_typed_is_offered(
    session: Session, tmp_path: Path, synthetic: SyntheticModels
) -> None:
    source = synthetic("llama")
    host, screen = picker_in_host(session, local(tmp_path))
    async with host.run_test(size=(120, 40)) as pilot:
        screen.input.value = str(source)
        await until(pilot, lambda: not screen.looking)
        assert screen.rows.keys == [str(source)]
        screen.input.value = f"{source.parent}/"
        await until(pilot, lambda: not screen.looking)
        assert str(source) in screen.rows.keys
        screen.input.value = "/no/such/place"
        await until(pilot, lambda: not screen.looking)
        assert screen.rows.keys == []
        assert "Nothing is called" in screen.rows.plain_text


async def test_what_cannot_run_says_why_and_is_not_loaded(session: Session) -> None:
    catalog = Catalog()
    host, screen = picker_in_host(session, catalog)
    async with host.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: not screen.looking)
        assert "needs 9.1 GiB" in screen.rows.plain_text
        await pilot.press("down", "enter")
        assert host.wishes == [] and catalog.wanted == []
        await pilot.press("down", "enter")
        assert catalog.wanted == ["loading"] and host.wishes == [], "the source does something else first"
        await pilot.press("home", "up", "up", "enter")
        await until(pilot, lambda: host.wishes)
        assert [w.name for w in host.wishes if isinstance(w, ModelWanted)] == ["good"]


async def test_a_download_is_shown_in_its_row(session: Session) -> None:
    host, screen = picker_in_host(session, Catalog())
    async with host.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: not screen.looking)
        assert "42%" in screen.rows.plain_text


async def test_without_memory_a_model_says_what_it_needs(session: Session, tmp_path: Path) -> None:
    host, screen = picker_in_host(session, local(tmp_path, budget=20 << 20))
    async with host.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: not screen.looking)
        assert all(not row.runnable and "are free" in row.reason for row in screen.found)


async def test_hostile_names_are_only_names(session: Session, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "[red]x[$1]\x1b[31m\u202e.gguf").write_bytes(b"not a model")
    host, screen = picker_in_host(session, local(tmp_path, mine))
    async with host.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: not screen.looking)
        drawn = "".join(s.text for y in range(20) for s in screen.rows.render_line(y))
        assert "[red]x[$1]" in drawn
        assert not any(c in drawn for c in "\x1b\u202e")
        await pilot.press(*"[red", "enter")


def test_rows_fit_every_width() -> None:
    from app.chat.panel.bars import line_width

    rows = [
        *Catalog().rows(""),
        ModelRow("x", "a/very/long/name/" * 9, "w" * 90, 1 << 40, "l" * 90, "v" * 200),
    ]
    for width in (30, 56, 76, 140):
        for row in rows:
            for line in draw_model(row, width, SMOOTH, current=True):
                assert line_width(line) <= width + 1


def test_what_is_a_path() -> None:
    assert typed_path("qwen 3") is None
    assert typed_path("~/models") == Path("~/models").expanduser()
    assert typed_path("model.gguf") == Path("model.gguf")
    assert typed_path("~nobody-of-this-name/x") is None


def test_what_is_cut_off_is_cut_once() -> None:
    """A sentence loses its end, a path its middle."""
    said = "comes with Stretch, ternary weights: writes 1.5 times as fast"
    for where, end in (
        (said, "comes with Stretch, ternary w…"),
        ("/home/anna/" + "models/" * 9 + "x.gguf", "x.gguf"),
    ):
        row = ModelRow("name", "title", where, 1 << 20, "", "fits, up to 8k tokens at f16")
        drawn = "".join(piece.text for piece in draw_model(row, 65, SMOOTH, current=False)[1]).rstrip()
        assert drawn.endswith(end) and drawn.count("…") == 1
