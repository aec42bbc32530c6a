"""The division of the time, what the pipeline remembers, and the records that it writes. Needs no PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from models.training import card, curves
from models.training.config import RUNS, Shape, trial
from models.training.pipeline import EXPORTS, OVERHEAD_S, State, share


def test_all_runs_fit_into_the_time() -> None:
    """Also if each takes longer than expected to get ready: the others then get less."""
    left = 25 * 60.0
    runs = [RUNS[name] for name in EXPORTS]
    given = []
    for i in range(len(runs)):
        minutes = share(runs[i:], left, OVERHEAD_S)
        given.append(minutes)
        left -= minutes * 60 + OVERHEAD_S + 40
    assert left > -3 * 40
    assert given[0] > 10 and given[0] > given[1] > given[2] > 1


def test_the_usual_time_gives_each_run_its_configured_minutes() -> None:
    runs = [RUNS[name] for name in EXPORTS]
    assert share(runs, 25 * 60, OVERHEAD_S) == pytest.approx(RUNS["dense"].minutes, rel=0.02)


def test_the_state_survives(tmp_path: Path) -> None:
    state = State.load(tmp_path / "pipeline.json")
    state.used_s, state.done = 61.5, ["dense"]
    state.minutes["dense"] = 9.0
    state.save()
    assert State.load(tmp_path / "pipeline.json") == state


def test_ternary_rows_are_whole_blocks_and_sizes_stay_in_the_limits() -> None:
    """TQ2_0 has blocks of 256; 40 MB for the dense file and 15 MB for the ternary one."""
    for run in (*RUNS.values(), *map(trial, RUNS.values())):
        s = run.shape
        assert all(n % 256 == 0 for n in (s.n_embd, s.n_ff, s.n_head * s.head_dim))
        assert run.batch_tokens % run.micro_tokens == 0 and run.micro_tokens % s.n_ctx % run.short_len == 0
    s = RUNS["dense"].shape
    embedding = s.n_vocab * s.n_embd
    blocks = card.parameters(s) - embedding
    assert card.parameters(s) * 34 / 32 < 39.5e6
    assert embedding * 34 / 32 + blocks * 66 / 256 < 14.5e6
    assert RUNS["ternary"].shape == s and RUNS["small"].shape.head_dim == 64


def test_parameters_are_counted() -> None:
    tiny = Shape(n_embd=4, n_layer=2, n_head=2, n_head_kv=1, head_dim=2, n_ff=8, n_vocab=10)
    block = 4 * 4 + 2 * (4 * 2) + 4 * 4 + 3 * 4 * 8 + 2 * 4
    assert card.parameters(tiny) == 10 * 4 + 2 * block + 4


def _records(out: Path) -> None:
    for name in ("dense", "ternary"):
        (out / f"{name}-config.json").write_text(
            json.dumps({"shape": {"n_embd": 256}, "minutes": 2.0, "fingerprint": "abc"})
        )
        rows = [{"s": 15 * i, "loss": 5 / (i + 1), "tokens": 1000 * i} for i in range(8)]
        rows[-1] |= {"prose": 1.2, "chat": 0.7}
        (out / f"{name}-curve.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")


def test_the_picture_is_xml_with_a_line_for_each_run(tmp_path: Path) -> None:
    _records(tmp_path)
    root = ElementTree.fromstring(curves.draw(curves.read(tmp_path)))
    lines = [e.get("class") for e in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert [c for c in lines if c] == ["line dense", "line ternary", *lines[2:]] and len(lines) == 6
    assert curves.draw([]).count("polyline") == 0


def test_the_card_carries_figures_and_attribution(tmp_path: Path) -> None:
    _records(tmp_path)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "SOURCES.md").write_text(
        "# S\n\n## Attribution that a release should carry\n\n- CC-BY: X\n\n## Doubts\n\nno\n"
    )
    text = card.write(tmp_path, corpus, {"a.gguf": {"guide": 0.97}})
    assert "- CC-BY: X" in text and "Doubts" not in text
    assert "| dense |" in text and "1.200 / 0.700" in text and "| guide | 0.970 |" in text


def test_the_pipeline_needs_neither_pytorch_nor_llama_to_start() -> None:
    code = (
        "import sys, models.training.pipeline; sys.exit('torch' in sys.modules or 'llama_cpp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
