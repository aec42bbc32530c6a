"""``stretch plan`` as a person and a program use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.commands.plan import parse_size
from quantize.cache_types import PRESETS
from quantize.errors import UsageError
from tests.models.gguf_bytes import UINT32, Gguf, tensor
from tests.synthetic import SyntheticModels

GIB = 1 << 30


def stretch(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the program."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "plan", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"STRETCH_HOME": str(home)},
    )


def test_json(synthetic: SyntheticModels, tmp_path: Path) -> None:
    done = stretch(str(synthetic("llama")), "--ram", "1G", "--ctx", "2048", "--json", home=tmp_path)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["ram_bytes"] == GIB and data["n_ctx"] == 2048 and data["exact"]
    rows = {(row["type_k"], row["type_v"]): row for row in data["rows"]}
    assert {*rows} == {(pair.k.name, pair.v.name) for pair in PRESETS}
    losses = [row["loss"] for row in data["rows"]]
    assert [loss["kld"] for loss in losses] == sorted(loss["kld"] for loss in losses)
    assert losses[0]["verdict"] == "as good as exact" and not losses[-1]["measured"]
    f16, q8_0 = rows["f16", "f16"], rows["q8_0", "q8_0"]
    assert f16["bytes_per_token"] == 2 * 2 * 64 * 2 * 2
    assert f16["kv_bytes"] == 2048 * f16["bytes_per_token"]
    assert q8_0["kv_bytes"] * 32 == f16["kv_bytes"] * 17
    assert all(row["max_ctx"] == 4096 and row["limit"] == "trained" for row in data["rows"])
    assert f16["max_ctx_memory"] < q8_0["max_ctx_memory"]


def test_what_breaks_a_model_is_said(
    synthetic: SyntheticModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Estimated from the file, measured once the chat has done that."""
    monkeypatch.setenv("STRETCH_KERNEL", "stock")  # it stores K with its constant
    from models.model_losses import losses_of
    from models.splits import read_model
    from quantize.lab.loss import Loss
    from quantize.lab.setting import parse_setting
    from quantize.native import attention

    path = synthetic("huge_bias_qwen2")
    arguments = (str(path), "--header-only", "--ram", "1G", "--tail", "off")
    done = stretch(*arguments, home=tmp_path)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("tq3 ")]
    assert "breaks this model, KLD about" in line
    kernel = "own" if attention.expected() else "stock"
    found = losses_of(read_model(path), path, tmp_path / "data" / "calibrations", kernel=kernel)
    found.store.put(parse_setting("tq3"), Loss(0.012, 0.96, measured=True, n_tokens=96))
    done = stretch(*arguments, home=tmp_path)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("tq3 ")]
    assert "small loss, KLD 0.012" in line


def test_the_window_is_counted(
    synthetic: SyntheticModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the chat would have one: beside small types unless it is said otherwise, and with the kernel."""

    def rows(*arguments: str) -> dict[str, tuple[int, int]]:
        done = stretch(str(synthetic("llama")), "--header-only", "--json", *arguments, home=tmp_path)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)["rows"]
        return {f"{r['type_k']}/{r['type_v']}": (r["tail"], r["kv_bytes"]) for r in found}

    monkeypatch.setenv("STRETCH_KERNEL", "own")
    auto, off, long = rows(), rows("--tail", "off"), rows("--tail", "1k")
    assert {name: tail for name, (tail, _) in auto.items()} == {
        name: 0 if name in ("f16/f16", "q8_0/q8_0") else 256 for name in auto
    }
    assert {tail for tail, _ in off.values()} == {0}
    assert long["q8_0/q8_0"][0] == 1024 and long["f16/f16"] == off["f16/f16"] == auto["f16/f16"]
    assert off["tq3/tq3"][1] < auto["tq3/tq3"][1] < long["tq3/tq3"][1]
    monkeypatch.setenv("STRETCH_KERNEL", "stock")
    assert rows() == off
    refused = stretch("builtin", "--tail", "some", home=tmp_path)
    assert refused.returncode == 2 and "'some' is no number of newest tokens" in refused.stderr


def test_a_machine_with_little_memory(synthetic: SyntheticModels, tmp_path: Path) -> None:
    path = str(synthetic("llama", n_ctx=1_000_000))
    rows = {}
    for size in ("100M", "200M"):
        data = json.loads(stretch(path, "--ram", size, "--json", "--header-only", home=tmp_path).stdout)
        assert all(row["limit"] == "memory" and row["max_ctx"] % 256 == 0 for row in data["rows"])
        rows[size] = [row["max_ctx"] for row in data["rows"]]
    assert all(0 < small < large for small, large in zip(rows["100M"], rows["200M"], strict=True))
    assert {
        row["max_ctx"]
        for row in json.loads(stretch(path, "--ram", "10M", "--json", home=tmp_path).stdout)["rows"]
    } == {0}


def test_the_table(synthetic: SyntheticModels, tmp_path: Path) -> None:
    done = stretch(str(synthetic("llama", head_dim=80)), "--ram", "500M", home=tmp_path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert "trained for 4,096 tokens" in lines[0] and "500 MiB of memory given" in lines[1]
    table = lines[3:]
    assert table[0].split()[:3] == ["cache", "per", "token"]
    assert "f16" in table[1] and "4,096" in table[1]
    (q8_0,) = (line for line in table if line.startswith("q8_0 "))
    assert "blocks of 32" in q8_0  # which no head of 80 is cut into
    assert "\x1b" not in done.stdout


def test_built_in_model_by_default(tmp_path: Path) -> None:
    done = stretch("--header-only", "--json", home=tmp_path)
    assert json.loads(done.stdout)["model"] == "builtin"


def test_the_second_time_no_engine_is_asked(synthetic: SyntheticModels, tmp_path: Path) -> None:
    path = str(synthetic("llama"))
    assert stretch(path, "--json", home=tmp_path).returncode == 0
    (remembered,) = (tmp_path / "cache" / "plans").iterdir()
    changed = json.loads(remembered.read_text())
    for line in changed.values():
        line["compute"] = [77_000_000, 77_000_000]
    remembered.write_text(json.dumps(changed))
    assert json.loads(stretch(path, "--json", home=tmp_path).stdout)["compute_bytes"] == 77_000_000


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["/nonexistent.gguf"], 1),
        (["/"], 1),
        (["/dev/null"], 1),
        (["builtin", "--ram", "much"], 2),
        (["builtin", "--ctx", "0"], 2),
        (["builtin", "--frobnicate"], 2),
    ],
)
def test_mistakes(arguments: list[str], code: int, tmp_path: Path) -> None:
    done = stretch(*arguments, home=tmp_path)
    assert done.returncode == code and done.stdout == ""
    assert done.stderr.startswith("stretch: ") and "Traceback" not in done.stderr


@pytest.mark.parametrize("size", [0, 3, 100, 5000, -1])
def test_files_that_are_cut_off(synthetic: SyntheticModels, tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(synthetic("llama").read_bytes()[:size])
    done = stretch(str(path), home=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 2 and "cut.gguf" in done.stderr and "Download it again." in done.stderr


def test_a_file_that_only_the_engine_rejects(synthetic: SyntheticModels, tmp_path: Path) -> None:
    path = synthetic("llama", hollow=True, keys={"expert_count": 5000, "expert_used_count": 3})
    done = stretch(str(path), home=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "The engine does not take" in done.stderr


def test_escape_sequences_in_names_are_not_printed(synthetic: SyntheticModels, tmp_path: Path) -> None:
    right = tmp_path / "evil\x1b]0;owned\x07.gguf"
    right.write_bytes(synthetic("llama").read_bytes())
    wrong = tmp_path / "evil\x1b[31m.gguf"
    gguf = Gguf(tensors=[tensor("a", (4,), 0, 0)], data=bytes(16)).key("k", UINT32, 1)
    wrong.write_bytes(gguf.build())
    for path, code in ((right, 0), (wrong, 1)):
        done = stretch(str(path), "--header-only", home=tmp_path)
        assert done.returncode == code
        assert "\x1b" not in done.stdout + done.stderr and "\x07" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8G", 8 * GIB),
        ("8 GiB", 8 * GIB),
        ("512mb", 512 << 20),
        ("1.5g", 3 * GIB // 2),
        ("4096", 4096),
        ("2T", 2 << 40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "0", "1e9", "8X", "nan", "9" * 30])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)
