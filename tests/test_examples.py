import ast
import re
import sys
from pathlib import Path
from typing import Any

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


def test_the_page_s_example_of_clips_gives_what_it_says():
    """Takes seconds: docs/reward.md, Clips. A line `expression  # "text"` must give that text."""
    page = (EXAMPLES.parent / "docs" / "reward.md").read_text("utf-8")
    block = page.split("\n## Clips\n")[1].split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    said = []
    for statement in ast.parse(block).body:
        source = ast.get_source_segment(block, statement) or ""
        if isinstance(statement, ast.Expr):
            said += re.findall(re.escape(source) + r'  # "(\w+)"', block)
            assert eval(source, names) == said[-1], source
        else:
            exec(source, names)
    assert said == ["tie", "a", "a"]
