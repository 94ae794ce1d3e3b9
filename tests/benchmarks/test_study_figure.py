import json

import numpy as np
import pytest

from benchmarks.study_figure import MEASURES, draw, values_of


def test_the_figure_has_the_repetitions_that_both_arms_have_finished(tmp_path):
    """By hand: two repetitions with leads of 0.1 and 0.3, mean 0.2; a third without a second arm is left out."""
    for repetition, (first, second) in enumerate([(0.7, 0.6), (0.9, 0.6), (0.8, None)]):
        for arm, rate in (("dominance", first), ("total", second)):
            if rate is not None:
                folder = tmp_path / f"repetition-{repetition}" / "runs" / arm / "evaluation"
                folder.mkdir(parents=True)
                (folder / "report.html").touch()
                one = {"win_rate": rate}
                names = [place[1] for place in MEASURES.values() if place[0] == "dimensions"]
                summary = {
                    "total": one, "dimensions": dict.fromkeys(names, one), "judges": [{"total": one}] * 2,
                    "guards": {"diversity": {"ratio": rate}},
                }  # fmt: skip
                (folder / "summary.json").write_text(json.dumps(summary))
    values = values_of(tmp_path, ("dominance", "total"))
    assert set(values) == set(MEASURES)
    np.testing.assert_array_equal(values["total"], [[0.7, 0.6], [0.9, 0.6]])
    (axes,) = draw(values, ("dominance", "total")).axes
    means = [float(np.asarray(line.get_xdata())[0]) for line in axes.lines if line.get_marker() == "o"]
    assert means == pytest.approx([0.2] * len(MEASURES))
    assert "2 repetitions" in axes.get_xlabel()
