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


def test_the_command_draws_arms_of_the_record_and_says_which_it_has_not(tmp_path, monkeypatch, capsys):
    output = tmp_path / "images" / "study.png"
    for arms in (["no-safeguard", "dominance"], ["dominance", "none"]):
        monkeypatch.setattr(sys, "argv", ["study_figure", "--output", str(output), "--arms", *arms])
        if arms[1] == "none":
            with pytest.raises(SystemExit):
                study_figure.main()
            assert "has no repetition of both dominance and none" in capsys.readouterr().err
        else:
            study_figure.main()
            assert output.read_bytes().startswith(b"\x89PNG")
