import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    for name in ("own_loop", "flow_grpo_reward", "best_of_n"):
        sys.modules.pop(name, None)


def test_own_loop(capsys):
    import own_loop  # type: ignore[import-not-found]

    advantages = own_loop.main()
    assert advantages.shape == (4,)
    assert advantages[1] == 0
    assert np.abs(advantages).sum() > 0
    assert "sample 1 has no score" in capsys.readouterr().out


def test_flow_grpo_reward():
    import flow_grpo_reward  # type: ignore[import-not-found]

    assert np.isfinite(flow_grpo_reward.main()).all()


def test_best_of_n(tmp_path, capsys):
    import best_of_n  # type: ignore[import-not-found]

    assert best_of_n.main(output=tmp_path / "best.png").exists()
    assert "scores" in capsys.readouterr().out
