import ast
import asyncio
import re
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reward import VisionReward
from tests.helpers.documents import section
from tests.helpers.service import serving

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    for name in ("own_loop", "flow_grpo_reward", "best_of_n", "served_reward", "flow_factory_reward"):
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


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("service")) as (url, _):
        yield url


PICTURES = [Image.new("RGB", (64, 64), colour) for colour in ("white", "navy", "red")]
PROMPTS = ["a red circle on a white background", "a blue star", "a green square"]


def test_the_served_reward_is_the_reward(url, monkeypatch, capsys):
    """Each adapter, called as its trainer calls it, against the reward in this process."""
    import served_reward  # type: ignore[import-not-found]

    expected = VisionReward("measured", "image", questions="answerable").score(PICTURES, PROMPTS)
    served_reward.main(url)
    assert "alignment" in capsys.readouterr().out
    tensors = torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1) / 255 for p in PICTURES])
    for images in (PICTURES, tensors, np.stack([np.asarray(p) for p in PICTURES])):
        scores, info = served_reward.flow_grpo_score(url)(images, PROMPTS, [{}] * 3, only_strict=True)
        np.testing.assert_allclose(scores, expected.total, rtol=1e-6)
        np.testing.assert_allclose(info["alignment"], expected.dimension("alignment"), rtol=1e-6)
    rewards = served_reward.trl_reward(f"{url}/score")(prompts=PROMPTS, images=PICTURES, completion_ids=None)
    assert rewards == pytest.approx(expected.total.tolist())
    monkeypatch.setenv("VISIONREWARD_URL", url)
    found = asyncio.run(
        served_reward.verl_omni_score(
            data_source="x", solution_image=tensors[1], ground_truth=PROMPTS[1], extra_info={}
        )
    )
    assert found["score"] == pytest.approx(expected.total[1])


def test_the_served_reward_raises_where_there_is_no_score(url):
    import served_reward  # type: ignore[import-not-found]

    with pytest.raises(RuntimeError, match=r"item 1 has no score: .*capybara"):
        served_reward.ask(url, PICTURES[:2], [PROMPTS[0], "a capybara"])
    with pytest.raises(RuntimeError, match="cannot be reached"):
        served_reward.ask("http://127.0.0.1:9", PICTURES[:1], PROMPTS[:1], tries=1)


def test_flow_factory(url, monkeypatch):
    """Against a transcription of its base class: how it is built, and what it is called with."""

    @dataclass
    class RewardModelOutput:
        rewards: Any
        extra_info: dict[str, Any] | None = None

    class PointwiseRewardModel(ABC):
        required_fields: tuple[str, ...] = ("image", "prompt")
        use_tensor_inputs: bool = False

        def __init__(self, config: Any, accelerator: Any):
            self.config, self.accelerator = config, accelerator

        @abstractmethod
        def __call__(self, *args: Any, **kwargs: Any) -> RewardModelOutput: ...

    theirs: Any = ModuleType("flow_factory.rewards")
    theirs.PointwiseRewardModel, theirs.RewardModelOutput = PointwiseRewardModel, RewardModelOutput
    monkeypatch.setitem(sys.modules, "flow_factory", ModuleType("flow_factory"))
    monkeypatch.setitem(sys.modules, "flow_factory.rewards", theirs)
    monkeypatch.setenv("VISIONREWARD_URL", url)
    from flow_factory_reward import VisionRewardModel  # type: ignore[import-not-found]

    model = VisionRewardModel(config=object(), accelerator=object())
    found = model(prompt=PROMPTS, image=PICTURES, video=None, audio=None, metadata="{}")
    expected = VisionReward("measured", "image", questions="answerable").score(PICTURES, PROMPTS)
    assert found.rewards == pytest.approx(expected.total.tolist())
    assert found.extra_info["alignment"] == pytest.approx(expected.dimension("alignment").tolist())


def test_served_clips(tmp_path):
    """As pictures in a list; the same as the clip in this process."""
    import served_reward  # type: ignore[import-not-found]

    frames = [Image.new("RGB", (32, 32), (20 * k, 80, 80)) for k in range(6)]
    text = "a red circle moves left"
    with serving(tmp_path, "--checklist", "video") as (url, _):
        [result] = served_reward.ask(url, [frames], [text])
    reward = VisionReward("measured", "video", questions="answerable")
    assert result["total"] == pytest.approx(reward.score([frames], [text], fps=8).total[0])


def test_the_page_s_example_of_clips_gives_what_it_says():
    """Takes seconds: docs/reward.md, Clips. A line `expression  # "text"` must give that text."""
    block = section("docs/reward.md", "Clips").split("```python\n")[1].split("```")[0]
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
