"""Rules about the repository itself: who may import whom, and what the documentation may say."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from app import __version__
from app.cli import COMMANDS, load

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("llama_cpp", "numpy", "gguf", "huggingface_hub", "jinja2")


def modules_after(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter has after ``statement``."""
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys; print('\\n'.join(sys.modules))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def modules_of(package: str) -> list[str]:
    """Every module of a package, by its dotted name."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def installed_only(names: list[str]) -> list[str]:
    """Without what is not part of the package that users install."""
    return [name for name in names if not name.startswith("models.training")]


@pytest.mark.parametrize("package", ["quantize", "models"])
def test_the_lower_packages_work_without_the_interface(package: str) -> None:
    everything = "\n".join(f"import {name}" for name in installed_only(modules_of(package)))
    loaded = modules_after(everything)
    assert package in loaded
    assert not {m for m in loaded if m.split(".")[0] in ("textual", "rich", "app")}


def test_the_pure_modules_load_no_native_library() -> None:
    """The planner, the table of types, the errors and drawing must work where llama.cpp does not."""
    loaded = modules_after(
        "import models.plan, models.header, models.resolve, quantize.cache_types, models.memory, "
        "models.training.curves, quantize.lab.svg"
    )
    assert not loaded & {"llama_cpp", "numpy"}


@pytest.mark.parametrize(
    "statement",
    [
        "from app.cli import main; assert main(['--version']) == 0",
        "from app.cli import parser_of; parser_of('chat').parse_args(['builtin', '--kv', 'q8_0'])",
        "import app.paths, app.store.store, app.store.preferences",
        "import app.engine.client, app.engine.protocol",
    ],
)
def test_light_paths_stay_light(statement: str) -> None:
    loaded = modules_after(statement)
    assert not {m for m in loaded if m.split(".")[0] in (*HEAVY, "textual", "tomlkit")}


def test_the_interface_loads_no_native_library() -> None:
    """The first frame comes before any native library, and the interface's process never loads one."""
    everything = "\n".join(f"import {name}" for name in modules_of("app/chat"))
    loaded = modules_after(everything + "\nfrom app.chat.app import StretchApp")
    assert "textual" in loaded
    assert not {m for m in loaded if m.split(".")[0] in HEAVY}


def test_imports_go_downwards() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_every_command_has_help_and_stands_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in COMMANDS:
        command = load(name)
        assert re.fullmatch(r"[A-Z].{10,90}\.", command.HELP), name
        assert callable(command.add_arguments) and callable(command.run)
        if name != "chat":
            assert f"stretch {name}" in readme, name
    modules = {p.stem for p in (ROOT / "app" / "commands").glob("*.py")} - {"__init__"}
    assert {m.rsplit(".", 1)[1] for m in COMMANDS.values()} <= modules


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["scikit-build"]["metadata"]["version"]["input"] == "app/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def documents() -> list[Path]:
    """Every text for readers."""
    return [
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "models").rglob("*.md")),
    ]


@pytest.mark.parametrize("path", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_documents_name_no_place_of_one_machine(path: Path) -> None:
    text = path.read_text()
    assert not re.findall(r"(?<![\w.~-])/(?:home|root|work|tmp|Users|mnt|opt|srv)/\S*", text)
    assert not re.findall(r"\b(?:TODO|FIXME|XXX)\b", text)


def links(path: Path) -> list[str]:
    """Targets of relative links and pictures."""
    text = path.read_text()
    targets = re.findall(r"\]\(([^)\s]+)", text) + re.findall(r'src="([^"]+)"', text)
    return [t.split("#")[0] for t in targets if not re.match(r"[a-z]+:|#", t)]


@pytest.mark.parametrize("path", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_files(path: Path) -> None:
    missing = [target for target in links(path) if not (path.parent / target).exists()]
    assert missing == []


def test_sources_are_finished() -> None:
    for package in ("app", "models", "quantize"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            assert not re.search(r"\b(TODO|FIXME|NotImplementedError)\b", text), path
            assert text.startswith('"""') or not text, f"{path} begins without a docstring"


def test_the_keys_of_the_readme_are_those_of_the_program() -> None:
    from app.chat.commands import BY_NAME

    rows = re.findall(r"^\| `([^`]+)` \| `/(\w+)[^`]*` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(rows) > 10
    for key, name in rows:
        assert key.lower().replace("esc", "escape") == BY_NAME[name].key, name
