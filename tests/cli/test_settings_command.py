"""``stretch settings`` and ``stretch chats``."""

from __future__ import annotations

import json
from pathlib import Path

from app.store.records import Attachment
from app.store.store import Store
from tests.cli.conftest import Run


def test_settings_are_shown_changed_and_unset(stretch: Run, tmp_path: Path) -> None:
    path = tmp_path / "home" / "config" / "settings.toml"
    assert stretch("settings", "--path").stdout == f"{path}\n"
    assert stretch("settings", "temperature").stdout == "0.7\n"
    assert not path.exists()
    assert stretch("settings", "temperature", "0.3").returncode == 0
    assert stretch("settings", "type_k", "q8_0", "--model", "/x/big.gguf").returncode == 0
    assert stretch("settings", "temperature").stdout == "0.3\n"
    assert stretch("settings", "type_k").stdout == "f16\n"
    shown = stretch("settings", "--model", "big").stdout
    assert "[model]" in next(line for line in shown.splitlines() if line.startswith("type_k"))
    assert stretch("settings", "--unset", "temperature").returncode == 0
    assert stretch("settings", "temperature").stdout == "0.7\n"


def test_mistakes_in_the_file_are_named(stretch: Run, tmp_path: Path) -> None:
    path = tmp_path / "home" / "config" / "settings.toml"
    path.parent.mkdir(parents=True)
    path.write_text("[sampling]\ntemperature = 'hot'\n")
    done = stretch("settings", "temperature")
    assert (done.returncode, done.stdout) == (1, "0.7\n")
    assert "line 2" in done.stderr
    path.write_text("theme = 'nord\n")
    before = path.read_text()
    done = stretch("settings", "seed", "1")
    assert done.returncode == 1
    assert "line 1" in done.stderr
    assert path.read_text() == before


def test_the_editor_gets_a_file_that_explains_itself(
    stretch: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\necho 'nonsense = 1' >> \"$2\"\n")
    editor.chmod(0o755)
    done = stretch("settings", "--edit", env=environment | {"VISUAL": f"'{editor}' -w"})
    assert done.returncode == 1
    assert "nonsense" in done.stderr
    assert "# temperature = 0.7" in (tmp_path / "home" / "config" / "settings.toml").read_text()
    done = stretch("settings", "--edit", env=environment | {"VISUAL": "no-such-editor"})
    assert done.returncode == 1
    assert "no-such-editor" in done.stderr


def filled(tmp_path: Path) -> int:
    store = Store(tmp_path / "home" / "data" / "conversations.sqlite3")
    id = store.new_conversation(model="builtin").id
    store.add(id, "user", "Where is the key?\x1b[31m", attachments=[Attachment("a", "b")])
    store.add(id, "assistant", "In the drawer.")
    store.close()
    return id


def test_conversations_are_listed_searched_exported_and_imported(stretch: Run, tmp_path: Path) -> None:
    id = filled(tmp_path)
    listed = stretch("chats").stdout
    assert "2 messages  Where is the key?" in listed
    assert "\x1b" not in listed
    assert "In the drawer." in stretch("chats", "draw").stdout
    assert stretch("chats", "nothing of the kind").stdout == ""
    assert "## You" in stretch("chats", "--export", str(id)).stdout
    exported = stretch("chats", "--export", str(id), "--json").stdout
    assert len(json.loads(exported)["messages"]) == 2
    (tmp_path / "one.json").write_text(exported)
    assert stretch("chats", "--import", "one.json").returncode == 0
    assert len(stretch("chats").stdout.splitlines()) == 2
    assert stretch("chats", "--export", "99").returncode == 1
    assert stretch("chats", "--import", "missing.json").returncode == 1
