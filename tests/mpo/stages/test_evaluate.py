import json

import numpy as np
import pytest

from mpo.comparison.win_rates import outcomes
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table


def test_summary_and_table_agree(finished):
    run = RunFolder(finished)
    summary = json.loads(run.summary.read_text())
    rows = read_table(run.evaluation_table, made_by="evaluate").to_pylist()
    base, tuned = ([r for r in rows if r["model"] == model] for model in ("base", "tuned"))
    assert [(r["prompt_id"], r["seed"]) for r in base] == [(r["prompt_id"], r["seed"]) for r in tuned]
    outcome = outcomes(np.array([r["total"] for r in tuned]), np.array([r["total"] for r in base]), tie=0.01)
    assert summary["total"]["win_rate"] == pytest.approx(outcome.mean())
    assert summary["total"]["num_prompts"] == 2
    assert set(summary["dimensions"]) == {"alignment", "composition", "quality", "fidelity"}
    for entry in (summary["total"], *summary["dimensions"].values()):
        assert {"win_rate", "tie_rate", "ci95", "num_prompts"} <= set(entry)
