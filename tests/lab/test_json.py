"""What scripts read: the fields of ``stretch eval --json`` and ``stretch bench --json``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from quantize.native import register_types
from quantize.native.attention import enable
from tests.cli.conftest import Run
from tests.synthetic import SyntheticModels

EVAL_FIELDS = {
    "type_k": str,
    "type_v": str,
    "bits_k": float,
    "bits_v": float,
    "bytes_per_token": float,
    "kld_mean": float,
    "kld_median": float,
    "kld_p999": float,
    "top1": float,
    "ppl": float,
    "recall": float,
}
BENCH_FIELDS = {
    "type_k": str,
    "type_v": str,
    "bits_k": float,
    "bits_v": float,
    "bytes_per_token": float,
    "depth": int,
    "prefill_tps": float,
    "decode_tps": float,
    "kernel": str,
}
N_LAYER, N_VALUES = 2, 128
"""Layers of the synthetic model, and values of K (and of V) in each: two heads of 64."""


def check(row: dict[str, Any], fields: dict[str, type]) -> None:
    for name, kind in fields.items():
        allowed = (int, float) if kind is float else kind
        assert isinstance(row[name], allowed), name
        assert not isinstance(row[name], bool), name


@pytest.fixture
def evaluation(synthetic: SyntheticModels) -> list[str]:
    sizes = ["--ctx", "64", "--questions", "2", "--recall-ctx", "128", "--threads", "1"]
    return ["eval", str(synthetic("llama")), "--kv", "q8_0,q8_0/q4_0", *sizes]


def test_eval(evaluation: list[str], stretch: Run, tmp_path: Path) -> None:
    done = stretch(*evaluation, "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)  # one object and nothing else
    for row in data["rows"]:
        check(row, EVAL_FIELDS)
    f16, q8, mixed = data["rows"]
    assert [(r["type_k"], r["type_v"]) for r in data["rows"]] == [
        ("f16", "f16"),
        ("q8_0", "q8_0"),
        ("q8_0", "q4_0"),
    ]
    assert [(r["bits_k"], r["bits_v"]) for r in data["rows"]] == [(16, 16), (8.5, 8.5), (8.5, 4.5)]
    values = N_LAYER * N_VALUES
    assert [r["bytes_per_token"] for r in data["rows"]] == [
        values * (k + v) / 8 for k, v in ((16, 16), (8.5, 8.5), (8.5, 4.5))
    ]
    assert f16["kld_mean"] == f16["kld_p999"] == 0 and f16["top1"] == 1
    assert data["ppl_f16"] == f16["ppl"] > 1
    floor = data["noise_floor"]
    assert (floor["noise"], floor["n_tokens"], floor["failed"]) == (2.5e-4, 31, "")
    assert 0 < floor["kld_mean"] < q8["kld_mean"] and 0 < floor["top1"] <= 1
    for row in (q8, mixed):
        assert 0 < row["kld_median"] <= row["kld_p999"] and 0 < row["top1"] <= 1
    assert q8["kld_mean"] < mixed["kld_mean"]
    assert data["recommended"] in {r["label"] for r in data["rows"]} and data["why"]
    assert (data["n_ctx"], f16["n_tokens"], f16["recall_asked"]) == (64, 63, 2)

    figures, picture = map(Path, re.findall(r"^(?:Figures|Picture): (.+)$", done.stderr, re.MULTILINE))
    assert json.loads(figures.read_text()) == data
    assert ElementTree.fromstring(picture.read_text()).tag.endswith("svg")
    assert tmp_path in figures.parents and tmp_path in picture.parents

    lines = stretch(*evaluation, "--json", "lines")
    events = [json.loads(line) for line in lines.stdout.splitlines()]
    assert [e for e in events if e["event"] == "row"] == [{"event": "row", **r} for r in data["rows"]]
    file = tmp_path / "result.json"
    printed = stretch(*evaluation, "--json", str(file))
    assert json.loads(file.read_text()) == data
    ElementTree.fromstring(file.with_suffix(".svg").read_text())
    assert re.search(r"^cache +bits K/V", printed.stdout, re.MULTILINE)
    assert "Recommended: " in printed.stdout and "Worth their bytes: " in printed.stdout
    assert "\x1b" not in printed.stdout


def test_eval_without_recall(evaluation: list[str], stretch: Run) -> None:
    done = stretch(*evaluation, "--json", "--questions", "0")
    for row in json.loads(done.stdout)["rows"]:
        check(row, {k: v for k, v in EVAL_FIELDS.items() if k != "recall"})
        assert row["recall"] is None


def test_eval_of_a_setting_that_the_model_cannot_have(synthetic: SyntheticModels, stretch: Run) -> None:
    """The others are measured, a sentence says why, and the exit code tells."""
    sizes = ["--ctx", "64", "--questions", "0", "--threads", "1", "--json"]
    done = stretch("eval", str(synthetic("llama", head_dim=96)), "--kv", "q8_0,tq4", *sizes)
    assert done.returncode == 1
    rows = {row["label"]: row for row in json.loads(done.stdout)["rows"]}
    refused = rows.pop("tq4")
    assert refused["failed"].endswith(".") and refused["kld_mean"] is None
    assert all(row["failed"] == "" and row["ppl"] > 1 for row in rows.values()) and rows


def test_bench(synthetic: SyntheticModels, stretch: Run, tmp_path: Path) -> None:
    command = ["bench", str(synthetic("llama")), "--kv", "q8_0,q8_0/q4_0", "--threads", "1"]
    sizes = ["--depth", "16,32", "--repeats", "1", "--decode", "2"]
    done = stretch(*command, *sizes, "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    for row in data["rows"]:
        check(row, BENCH_FIELDS)
        assert row["kernel"] in ("stock", "own")
        assert row["prefill_tps"] > 0 and row["decode_tps"] > 0
    own = [("own", label) for label in ("q8_0", "q8_0/q4_0")] if register_types().ok and enable().ok else []
    wanted = {*own, ("stock", "f16"), ("stock", "q8_0"), ("stock", "q8_0/q4_0")}
    for depth in (16, 32):
        here = [row for row in data["rows"] if row["depth"] == depth]
        assert len(here) == len(wanted) and {(r["kernel"], r["label"]) for r in here} == wanted
    assert [s["label"] for s in data["switches"]] == ["q8_0", "q8_0/q4_0"]
    assert all(s["switch_s"] > 0 for s in data["switches"]) and not data["failures"]

    file = tmp_path / "speed.json"
    one = stretch(
        *command,
        "--depth",
        "16",
        "--repeats",
        "1",
        "--decode",
        "1",
        "--kernel",
        "stock",
        "--no-switch",
        "--json",
        str(file),
    )
    assert one.returncode == 0 and "depth 16" in one.stdout
    data = json.loads(file.read_text())
    assert {row["kernel"] for row in data["rows"]} == {"stock"} and data["switches"] == []
