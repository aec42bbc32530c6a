"""What users install holds everything that the program reads."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = (".py", ".tcss", ".toml", ".gguf", ".typed", ".txt", ".jinja")


def test_the_wheel_holds_the_packages_with_their_data(tmp_path: Path) -> None:
    """Without the compiled library, whose build is not this test's concern and takes longer."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-C",
        "wheel.cmake=false",
    ]
    done = subprocess.run(
        [*command, "-w", str(tmp_path), str(ROOT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        (entry_points,) = (n for n in held if n.endswith("entry_points.txt"))
        assert "stretch = app.cli:main" in archive.read(entry_points).decode()
    wanted = {
        str(path.relative_to(ROOT))
        for package in ("app", "models", "quantize")
        for path in (ROOT / package).rglob("*")
        if path.suffix in DATA or path.name == "py.typed"
    }
    wanted = {name for name in wanted if not name.startswith("models/training/")}
    assert {"models/builtin/stretch-36m-q8_0.gguf", "app/py.typed"} <= wanted
    assert wanted - held == set()
    assert {n.split("/")[0] for n in held if ".dist-info" not in n} == {"app", "models", "quantize"}
    assert not [n for n in held if n.startswith("models/training/")]
    assert any(n.endswith("licenses/LICENSE") for n in held)
