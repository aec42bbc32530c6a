"""The settings file: layers, mistakes, and edits that leave a person's text alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.protocol import Sampling
from app.store.layer import read_layer
from app.store.preferences import EVERYWHERE, Preferences, Scope, model_key
from app.store.settings import SETTINGS, Settings, setting, template, to_toml
from app.store.store import Store
from app.store.toml_edit import edited
from quantize.errors import StoreError, UsageError

WRITTEN = """\
# my settings
theme = "nord"   # dark

[sampling]
temperature = 0.2
top_k = 10   # few

# for the big one
[model."Qwen3-4B-Q4_K_M"]
type_k = "q8_0"
temperature = 0.9
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "settings.toml"


@pytest.fixture
def written(path: Path) -> Path:
    path.parent.mkdir()
    path.write_text(WRITTEN)
    return path


def test_without_a_file_the_defaults_apply(path: Path) -> None:
    preferences = Preferences(path)
    assert preferences.resolve() == Settings()
    assert preferences.resolve().sampling == Sampling()
    assert preferences.problems == ()
    assert not path.exists()


def test_layers(written: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "c.sqlite3")
    id = store.new_conversation(settings="temperature = 0.4\n").id
    preferences = Preferences(written, store)
    model = "/models/Qwen3-4B-Q4_K_M.gguf"
    assert preferences.resolve().temperature == 0.2
    assert preferences.resolve(model=model).temperature == 0.9
    assert preferences.resolve(model=model, conversation=id).temperature == 0.4
    resolved = preferences.resolve(model=model, conversation=id, overrides={"temperature": 0.1})
    assert (resolved.temperature, resolved.type_k, resolved.type_v, resolved.theme) == (
        0.1,
        "q8_0",
        "f16",
        "nord",
    )
    origins = preferences.origins(model=model, conversation=id, overrides={"n_ctx": 512})
    assert {k: v for k, v in origins.items() if v != "default"} == {
        "theme": "file",
        "top_k": "file",
        "type_k": "model",
        "temperature": "conversation",
        "n_ctx": "command line",
    }
    store.close()


@pytest.mark.parametrize(
    "model", ["Qwen3-4B-Q4_K_M", "/a/b/Qwen3-4B-Q4_K_M.GGUF", "owner/Qwen3-4B-Q4_K_M.gguf"]
)
def test_a_model_goes_by_the_name_of_its_file(written: Path, model: str) -> None:
    assert model_key(model) == "Qwen3-4B-Q4_K_M"
    assert Preferences(written).resolve(model=model).type_k == "q8_0"


def test_an_edit_keeps_comments_order_and_everything_else(written: Path) -> None:
    preferences = Preferences(written)
    preferences.set_for(EVERYWHERE, "temperature", 0.5)
    assert written.read_text() == WRITTEN.replace("temperature = 0.2", "temperature = 0.5")
    preferences.set_for(EVERYWHERE, "theme", "dracula")
    preferences.set_for(Scope(model="Qwen3-4B-Q4_K_M"), "type_k", "Q4_0")
    assert written.read_text() == (
        WRITTEN.replace("temperature = 0.2", "temperature = 0.5")
        .replace('"nord"', '"dracula"')
        .replace('"q8_0"', '"q4_0"')
    )


def test_new_settings_go_where_they_belong(written: Path) -> None:
    preferences = Preferences(written)
    preferences.set_for(EVERYWHERE, "min_p", 0.1)
    preferences.set_for(EVERYWHERE, "n_ctx", "16k")
    preferences.set_for(Scope(model="other.gguf"), "repack", "off")
    preferences.set_for(Scope(model="/x/Qwen3-4B-Q4_K_M.gguf"), "seed", 7)
    data = tomllib.loads(written.read_text())
    assert data["sampling"]["min_p"] == 0.1
    assert data["cache"]["n_ctx"] == 16384
    assert data["model"]["other"] == {"repack": False}
    assert data["model"]["Qwen3-4B-Q4_K_M"]["seed"] == 7
    assert "# few" in written.read_text() and "# for the big one" in written.read_text()
    preferences.unset_for(Scope(model="other"), "repack")
    preferences.unset_for(Scope(model="never seen"), "repack")
    assert preferences.resolve(model="other").repack is True


def test_the_file_that_is_made_explains_every_setting_and_sets_none(path: Path) -> None:
    preferences = Preferences(path)
    preferences.create()
    text = path.read_text()
    assert preferences.resolve() == Settings()
    assert preferences.problems == ()
    for name, known in SETTINGS.items():
        if name != "keys":
            assert f"# {name} = {to_toml(known.default)}\n" in text
            assert known.about in text


@pytest.mark.parametrize("name", [n for n in SETTINGS if n != "keys"])
def test_setting_and_unsetting_uses_the_line_of_the_template(path: Path, name: str) -> None:
    known = SETTINGS[name]
    other = {
        str: known.choices[-1] if known.choices else "q8_0",
        bool: not known.default,
        int: 3,
        float: 0.5,
        tuple: ("a", "b c"),
    }[type(known.default)]
    preferences = Preferences(path)
    preferences.set_for(EVERYWHERE, name, other)
    assert getattr(preferences.resolve(), name) == other
    changed = [
        (a, b) for a, b in zip(template().splitlines(), path.read_text().splitlines(), strict=True) if a != b
    ]
    assert changed == [(f"# {name} = {to_toml(known.default)}", f"{name} = {to_toml(other)}")]
    preferences.unset_for(EVERYWHERE, name)
    assert path.read_text() == template()


def test_a_conversation_has_settings_of_its_own(path: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "c.sqlite3")
    one, two = store.new_conversation().id, store.new_conversation().id
    preferences = Preferences(path, store)
    preferences.set_for(Scope(conversation=one), "type_k", "q4_0")
    preferences.set_for(Scope(conversation=one), "system_prompt", 'Say "hi"\nand\tstop')
    assert preferences.resolve(conversation=one).system_prompt == 'Say "hi"\nand\tstop'
    assert preferences.resolve(conversation=one).type_k == "q4_0"
    assert preferences.resolve(conversation=two) == Settings()
    assert not path.exists()
    preferences.unset_for(Scope(conversation=one), "type_k")
    assert preferences.resolve(conversation=one).type_k == "f16"
    store.close()


MISTAKES = {
    "[sampling]\ntemperature = 'hot'": (
        "line 2: temperature must be a number from 0 to 10, not 'hot'. The default, 0.7, is used."
    ),
    "top_p = 2": "line 1: top_p must be a number from 0 to 1, not 2. The default, 0.95, is used.",
    "[cache]\n\ntype_k = 'q9'": (
        "line 3: type_k: There is no cache type called 'q9'. The default, \"f16\", is used."
    ),
    "temprature = 1": "line 1: there is no setting called 'temprature'. Did you mean temperature?",
    "[colours]\nx = 1": "line 1: there is no setting called 'colours'.",
    "panel = 1": "line 1: panel must be true or false, not 1. The default, true, is used.",
    "seed = 1.5": (
        "line 1: seed must be a whole number from -1 to 4,294,967,295, not 1.5. The default, -1, is used."
    ),
    "thinking = 'loud'": (
        "line 1: thinking must be one of folded, open, hidden, not 'loud'. The default, \"folded\", is used."
    ),
    "[model.qwen2.5]\nseed = 1": (
        'line 0: a model\'s name that holds a dot needs quotes. Write [model."NAME"].'
    ),
    "[model.'a']\nmin_p = 'x'": "line 2: min_p must be a number from 0 to 1, not 'x'. It is left out.",
    "[keys]\nsend = 1": "line 2: the key of send must be a text. The built-in key is used.",
    "temperature = 0.1\ntheme = nord": "line 2: Invalid value. The line is left out.",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_each_mistake_is_one_sentence_with_its_line(text: str) -> None:
    expected = f"settings.toml, {MISTAKES[text]}".replace(", line 0:", ":")
    assert read_layer(text + "\n", "settings.toml").problems == [expected]


def test_a_mistake_costs_only_its_own_setting(written: Path) -> None:
    written.write_text(WRITTEN.replace("0.2", '"warm"').replace("0.9", "nan"))
    resolved = Preferences(written).resolve(model="Qwen3-4B-Q4_K_M")
    assert (resolved.temperature, resolved.top_k, resolved.type_k, resolved.theme) == (
        0.7,
        10,
        "q8_0",
        "nord",
    )


def test_a_file_that_is_no_toml_is_never_rewritten(written: Path) -> None:
    written.write_text(WRITTEN.replace('"nord"', '"nord'))
    preferences = Preferences(written)
    assert preferences.resolve().top_k == 10, "the rest of the file applies"
    with pytest.raises(StoreError, match="line 2"):
        preferences.set_for(EVERYWHERE, "seed", 1)
    assert written.read_text() == WRITTEN.replace('"nord"', '"nord')
    written.write_text("[" * 100_000)
    assert preferences.resolve() == Settings()
    assert len(preferences.problems) == 1
    written.write_bytes(b"\xff\xfe\x00")
    assert preferences.resolve() == Settings()
    assert "UTF-8" in preferences.problems[0]


def test_unknown_keys_stay_in_the_file(written: Path) -> None:
    written.write_text("colour = 'of a later version'\n" + WRITTEN)
    preferences = Preferences(written)
    preferences.set_for(EVERYWHERE, "seed", 1)
    assert "colour = 'of a later version'" in written.read_text()
    assert len(preferences.problems) == 1


def test_an_edit_by_hand_is_seen(written: Path) -> None:
    preferences = Preferences(written)
    written.write_text(WRITTEN.replace("0.2", "0.25"))
    assert preferences.resolve().temperature == 0.25
    written.unlink()
    assert preferences.resolve() == Settings()


def test_a_link_stays_a_link_and_permissions_stay(written: Path, tmp_path: Path) -> None:
    dotfiles = tmp_path / "dotfiles.toml"
    written.rename(dotfiles)
    dotfiles.chmod(0o640)
    written.symlink_to(dotfiles)
    Preferences(written).set_for(EVERYWHERE, "seed", 3)
    assert written.is_symlink()
    assert "seed = 3" in dotfiles.read_text()
    assert dotfiles.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in written.parent.iterdir()] == ["settings.toml"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_cannot_be_written_is_one_sentence(written: Path) -> None:
    written.parent.chmod(0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        Preferences(written).set_for(EVERYWHERE, "seed", 3)
    written.parent.chmod(0o700)


def test_two_processes_do_not_undo_each_other(path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from app.store.preferences import *\n"
        "p = Preferences(Path(sys.argv[1]))\n"
        "for n in range(10): p.set_for(Scope(model=f'{sys.argv[2]}{n}'), 'seed', n)\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", script, str(path), name]) for name in ("a", "b")]
    assert [p.wait() for p in both] == [0, 0]
    models = tomllib.loads(path.read_text())["model"]
    assert {k: v["seed"] for k, v in models.items()} == {f"{m}{n}": n for m in "ab" for n in range(10)}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", " 0.5 ", 0.5),
        ("temperature", "1", 1.0),
        ("n_ctx", "16k", 16384),
        ("panel", "off", False),
        ("panel", "YES", True),
        ("model_folders", "~/a, /b c", ("~/a", "/b c")),
        ("type_v", "Q8_0", "q8_0"),
        ("system_prompt", "be brief", "be brief"),
    ],
)
def test_what_a_person_types_is_read(name: str, text: str, value: object) -> None:
    read = setting(name).parse(text)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("temperature", "hot"),
        ("top_k", "1.5"),
        ("panel", "maybe"),
        ("n_ctx", "-1"),
        ("seed", "nan"),
        ("top_k", "inf"),
    ],
)
def test_what_does_not_suit_is_refused(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=name):
        setting(name).parse(text)


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="temperature"):
        setting("temprature")


@given(st.text())
def test_any_text_is_a_layer_or_a_problem(text: str) -> None:
    layer = read_layer(text, "settings.toml")
    assert layer.values == {} or layer.sound or layer.problems
    Settings(**layer.values)


VALUES = {
    "system_prompt": st.text(st.characters(exclude_categories=["Cs"])),
    "temperature": st.floats(0, 10),
    "seed": st.integers(-1, 2**32 - 1),
    "panel": st.booleans(),
    "model_folders": st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5)).map(tuple),
}


EDITS = st.sampled_from(sorted(VALUES)).flatmap(lambda key: st.tuples(st.just(key), st.none() | VALUES[key]))


@given(st.sampled_from(["", "Qwen2.5-7B", 'we"ird\\name', "a.b"]), st.lists(EDITS, max_size=6))
def test_any_sequence_of_edits_reads_back(model: str, edits: list[tuple[str, object]]) -> None:
    def read(text: str) -> dict[str, object]:
        layer = read_layer(text, "settings.toml")
        assert layer.problems == []
        return dict(layer.models.get(model, {}) if model else layer.values)

    text, expected = WRITTEN, read(WRITTEN)
    for key, value in edits:
        text = edited(text, model, key, value, flat=bool(model))
        if value is None:
            expected.pop(key, None)
        else:
            expected[key] = value
    assert read(text) == expected
    assert "# for the big one" in text


def test_keys_are_changed_as_a_whole(written: Path) -> None:
    preferences = Preferences(written)
    preferences.set_for(EVERYWHERE, "keys", {"send": "ctrl+j", "stop": "escape"})
    preferences.set_for(EVERYWHERE, "keys", {"stop": "f9"})
    assert preferences.resolve().keys == {"stop": "f9"}
    assert tomllib.loads(written.read_text())["keys"] == {"stop": "f9"}
    preferences.unset_for(EVERYWHERE, "keys")
    assert preferences.resolve().keys == {}
    written.write_text("[keys]\nkv = ['ctrl+k', 'f2']\n")
    assert preferences.resolve().keys == {"kv": "ctrl+k,f2"}
