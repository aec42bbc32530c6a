"""What runs for minutes says so in a file or a pipe, too."""

from __future__ import annotations

import io

from app.lab.status_line import Milestones


def test_a_line_for_each_step_and_each_twentieth() -> None:
    out = io.StringIO()
    lines = Milestones(out)
    for i in range(100):
        lines.show("m: reading" if i < 50 else "m: measuring", i / 100)
    said = out.getvalue().splitlines()
    assert said[0] == "m: reading, 0%"
    assert "m: measuring, 50%" in said
    assert 18 <= len(said) <= 21
    assert len(set(said)) == len(said)
