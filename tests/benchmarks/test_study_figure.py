import sys

import numpy as np
import pytest

from benchmarks import study_figure
from benchmarks.study_figure import MEASURES, draw


def test_the_figure_has_the_mean_lead_of_the_first_arm():
    """By hand: two repetitions with leads of 0.1 and 0.3, mean 0.2."""
    values = dict.fromkeys(MEASURES.values(), np.array([[0.7, 0.6], [0.9, 0.6]]))
    (axes,) = draw(values, ("dominance", "total")).axes
    means = [float(np.asarray(line.get_xdata())[0]) for line in axes.lines if line.get_marker() == "o"]
    assert means == pytest.approx([0.2] * len(MEASURES))
    assert "2 repetitions" in axes.get_xlabel()
    assert [text.get_text() for text in axes.texts] == ["0.80 and 0.60"] * len(MEASURES)


def run_command(monkeypatch, output, *arms: str) -> None:
    monkeypatch.setattr(sys, "argv", ["study_figure", "--output", str(output), "--arms", *arms])
    study_figure.main()


def test_the_command_draws_arms_of_the_record(tmp_path, monkeypatch):
    output = tmp_path / "images" / "study.png"
    run_command(monkeypatch, output, "no-safeguard", "dominance")
    assert output.read_bytes().startswith(b"\x89PNG")


def test_arms_that_the_record_has_not_are_said(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run_command(monkeypatch, tmp_path / "study.png", "dominance", "none")
    assert "has no repetition of both dominance and none" in capsys.readouterr().err
