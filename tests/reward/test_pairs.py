import numpy as np
import pytest
from PIL import Image

from reward import VisionReward
from reward.errors import RewardError
from reward.pairs import agreements, fit_on_pairs, judge_pairs
from reward.preferences import Preference
from tests.helpers.judges import CountingJudge


def reds(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (8, 8), (255 * i // (count - 1), 0, 0)) for i in range(count)]


def test_each_item_is_judged_once_and_failures_leave_out_their_pairs(tmp_path):
    items = reds(4)
    paths = []
    for i, item in enumerate(items):
        item.save(tmp_path / f"{i}.png")
        paths.append(tmp_path / f"{i}.png")
    (tmp_path / "bad.png").write_text("x")
    preferences = [Preference("p", paths[i], paths[j], float(i > j), "p") for i in range(4) for j in range(4) if i != j]
    preferences.append(Preference("p", paths[0], tmp_path / "bad.png", 1.0, "p"))
    judge = CountingJudge()
    pairs = judge_pairs(VisionReward(judge, "image"), preferences)
    assert judge.num_asked == 4
    assert len(pairs.preferences) == 12
    assert len(pairs.failures) == 1
    assert "bad.png" in pairs.failures[0]
    assert pairs.a.answers.shape == pairs.b.answers.shape == (12, 60)
    with pytest.raises(RewardError, match=r"no pair could be scored.*bad\.png"):
        judge_pairs(VisionReward(judge, "image"), preferences[-1:])


def test_agreement_and_weights_from_judged_pairs():
    items = reds(12)
    rng = np.random.default_rng(0)
    preferences = [
        Preference(f"p{i}", items[a], items[b], float(a > b), f"p{i}", {"quality": float(a < b)})
        for i, (a, b) in enumerate(rng.permuted(np.tile(np.arange(12), (40, 1)), axis=1)[:, :2])
    ]
    pairs = judge_pairs(VisionReward(CountingJudge(), "image"), preferences)
    found = {each.name: each for each in agreements(pairs, num_bootstrap=20)}
    assert found["total"].accuracy.value == 1.0  # redder is better, and alignment is a number
    assert found["alignment"].accuracy.value == 1.0
    assert found["quality (as people judged it)"].accuracy.value == 0.0  # people said the contrary of quality
    fitted = fit_on_pairs(pairs)
    assert fitted.weights[0] > 0
    assert fitted.cv_accuracy == 1.0


def test_a_dimension_that_is_not_in_the_checklist_is_named():
    items = reds(2)
    preferences = [Preference(p, items[0], items[1], 1.0, p, {"qualty": 1.0}) for p in ("p", "q")]
    pairs = judge_pairs(VisionReward(CountingJudge(), "image"), preferences)
    with pytest.raises(RewardError, match=r"'qualty'.*it has: alignment"):
        agreements(pairs)
