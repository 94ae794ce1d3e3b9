import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reward import (
    ChecklistError,
    Clip,
    JudgeError,
    JudgeUnavailableError,
    MediaError,
    RewardError,
    VisionReward,
    load_checklist,
    load_judge,
)
from reward.judges import AnswersAnything
from reward.judges.scorers import number
from reward.media import Sampling
from tests.helpers.judges import CountingJudge

CHECKLIST = load_checklist("image")


def test_vision_reward_scores_files_and_pictures(tmp_path):
    image = Image.new("RGB", (80, 64), (200, 30, 30))
    image.save(tmp_path / "a.png")
    reward = VisionReward("measured", "image", questions="answerable")
    prompt = "a red circle on a red background"
    scores = reward.score([image, tmp_path / "a.png"], [prompt, prompt])
    assert scores.p_yes.shape == (2, len(reward.checklist.questions))
    np.testing.assert_array_equal(scores.p_yes[0], scores.p_yes[1])
    assert len(scores.checklist.dimensions) == 4
    assert scores.dimensions.shape == (2, 4)


def test_a_judge_never_guesses():
    with pytest.raises(JudgeError, match="face_1"):
        VisionReward("measured", "image")
    with pytest.raises(JudgeError, match="judges: measured, vlm"):
        load_judge("oracle")
    with pytest.raises(ChecklistError, match="answerable"):
        VisionReward("measured", "image", questions="some")


def test_bad_pictures_are_named(tmp_path):
    reward = VisionReward("measured", "image", questions=["clarity_1"])
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:500])
    (tmp_path / "text.png").write_text("no picture")
    for name in ("cut.png", "text.png", "absent.png"):
        with pytest.raises(MediaError, match=name):
            reward.score([tmp_path / name], [""])
    with pytest.raises(ValueError, match="1 items but 2 prompts"):
        reward.score([tmp_path / "whole.png"], ["", ""])


def test_importing_reward_leaves_the_heavy_libraries_out():
    heavy = "{'diffusers', 'torch', 'transformers', 'mpo'}"
    code = f"import reward, sys; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class RedJudge(AnswersAnything):
    """P(yes) is a picture's, or a clip's mean, red."""

    kinds = ("image", "video")
    sampling = Sampling(max_frames=4)
    fingerprint = "red"
    batch_size = 2

    def answer(self, media, prompts, questions):
        pixels = [m.frames if isinstance(m, Clip) else np.asarray(m) for m in media]
        return np.array([[p[..., 0].mean() / 255] * len(questions) for p in pixels])


def test_compare_says_which_by_how_much_and_why():
    reward = VisionReward(RedJudge(), "image", questions=["alignment", "clarity_1", "clarity_2", "symmetry_1"])
    a, b = Image.new("RGB", (8, 8), (204, 0, 0)), Image.new("RGB", (8, 8), (51, 0, 0))
    found = reward.compare(a, b, "a cat")
    weight = {q.id: q.weight for q in reward.checklist}
    assert found.preferred == "a"
    assert found.margin == pytest.approx(
        0.6 * weight["alignment"] + 2 * (weight["clarity_1"] + weight["clarity_2"] + weight["symmetry_1"])
    )
    assert found.dimension_margins["quality"] == pytest.approx(2 * (weight["clarity_1"] + weight["clarity_2"]))
    assert sum(found.dimension_margins.values()) == pytest.approx(found.margin)
    assert [each.question.id for each in found.contributions] == ["alignment", "symmetry_1", "clarity_2", "clarity_1"]
    assert sum(each.difference for each in found.contributions) == pytest.approx(found.margin)
    assert reward.compare(b, a, "a cat").preferred == "b"
    tie = reward.compare(a, a, "a cat")
    assert (tie.preferred, tie.margin, tie.contributions) == ("tie", 0.0, ())


def test_explain_adds_up_to_the_score():
    reward = VisionReward(RedJudge(), "video")
    clip = np.full((6, 3, 8, 8), 0.75)
    parts = reward.explain(clip, "a cat")
    assert sum(part.difference for part in parts) == pytest.approx(reward.score([clip], "a cat").total[0])
    assert len(parts) == 29
    assert [abs(part.difference) for part in parts] == sorted((abs(part.difference) for part in parts), reverse=True)
    assert {part.dimension for part in parts} <= set(reward.checklist.dimensions)


def test_the_video_score_is_a_mean():
    reward = VisionReward(RedJudge(), "video")
    scores = reward.score(np.ones((2, 5, 3, 8, 8)), ["a", "b"])
    np.testing.assert_allclose(scores.total, reward.checklist.weights.sum() / 29)
    np.testing.assert_allclose(scores.dimensions.sum(axis=1), scores.total)
    np.testing.assert_array_equal(scores.dimension("physics"), scores.dimensions[:, 7])
    with pytest.raises(ChecklistError, match="dimension='phisics' is not in checklist 'video'; it has: alignment"):
        scores.dimension("phisics")


def test_tensors_are_batches_of_pictures():
    reward = VisionReward(RedJudge(), "image")
    images = torch.zeros(3, 3, 8, 8)
    images[1, 0] = 1.0
    scores = reward.score(images, "a cat")
    assert scores.p_yes[:, 5].tolist() == [0.0, 1.0, 0.0]
    np.testing.assert_array_equal(reward.score(images.permute(0, 2, 3, 1), "a cat", layout="HWC").p_yes, scores.p_yes)


def test_a_failed_item_is_recorded_and_the_others_scored(tmp_path):
    (tmp_path / "bad.png").write_text("x")
    good = Image.new("RGB", (8, 8), (255, 0, 0))
    reward = VisionReward(RedJudge(), "image")
    seen = []
    scores = reward.score(
        [good, tmp_path / "bad.png", good, np.full((3, 8, 8), np.nan), good],
        ["a", "b", "  ", "c", "d"],
        on_error="record",
        on_item=lambda: seen.append(1),
    )
    assert sorted(scores.failures) == [1, 2, 3]
    assert "bad.png" in scores.failures[1]
    assert "'alignment' asks about the prompt, which is empty" in scores.failures[2]
    assert "NaN" in scores.failures[3]
    assert np.isnan(scores.total).tolist() == [False, True, True, True, False]
    assert np.isnan(scores.dimensions[1]).all()
    assert len(seen) == 5
    with pytest.raises(MediaError, match=r"item 1: .*bad\.png"):
        reward.score([good, tmp_path / "bad.png"], "a")


class FailingJudge(RedJudge):
    """Fails as a model may, on pictures with a blue pixel; runs out of memory on more pixels at a time than it can take."""

    fingerprint = "failing"
    batch_size = 4
    room = 10**9  # pixels

    def __init__(self):
        self.batches: list[int] = []

    def answer(self, media, prompts, questions):
        self.batches.append(len(media))
        pixels = [np.asarray(m) for m in media]
        if sum(p.shape[0] * p.shape[1] for p in pixels) > self.room:
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")
        if any(p[..., 2].any() for p in pixels):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied\n(3x4 and 5x6)")
        return super().answer(media, prompts, questions)


def test_an_error_that_the_judge_did_not_expect_is_recorded_too():
    good, bad = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (255, 0, 9))
    reward = VisionReward(FailingJudge(), "image", questions=["clarity_1"])
    scores = reward.score([good, bad, good, good, good], "", on_error="record")
    assert list(scores.failures) == [1]
    assert scores.failures[1].startswith(
        "the judge failed (RuntimeError: mat1 and mat2 shapes cannot be multiplied (3x4"
    )
    assert np.isfinite(scores.total[[0, 2, 3, 4]]).all()
    with pytest.raises(JudgeError, match=r"item 1: the judge failed \(RuntimeError: mat1") as raised:
        reward.score([good, bad], "")
    causes = [raised.value.__cause__, getattr(raised.value.__cause__, "__cause__", None)]
    assert any(type(cause) is RuntimeError for cause in causes)


def test_a_batch_that_needs_too_much_memory_is_halved():
    judge = FailingJudge()
    judge.room = 2 * 64
    small, large = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (16, 16), (255, 0, 0))
    reward = VisionReward(judge, "image", questions=["clarity_1"])
    assert np.isfinite(reward.score([small] * 4, "").total).all()
    assert judge.batches == [4, 2, 2]
    scores = reward.score([small, large, small], "", on_error="record")
    assert list(scores.failures) == [1]
    assert (
        "ran out of memory on this item alone (tried to allocate 20 GiB); make the item smaller" in scores.failures[1]
    )
    assert np.isfinite(scores.total[[0, 2]]).all()
    with pytest.raises(JudgeError, match="item 1: the judge ran out of memory"):
        reward.score([small, large], "")


def test_a_judge_that_is_gone_stops_everything():
    class Gone(RedJudge):
        def answer(self, media, prompts, questions):
            raise JudgeUnavailableError("nobody answers; start the server")

    with pytest.raises(JudgeUnavailableError, match=r"^nobody answers"):
        VisionReward(Gone(), "image", questions=["clarity_1"]).score([Image.new("RGB", (8, 8))], "", on_error="record")


def test_prompts_reach_the_judge_as_they_are():
    class Echo(RedJudge):
        def answer(self, media, prompts, questions):
            asked.extend(question.ask(prompt) for prompt in prompts for question in questions)
            return super().answer(media, prompts, questions)

    asked: list[str] = []
    prompt = 'a "cat" {in} [[prompt]] {prompt} \\ %s'
    VisionReward(Echo(), "image", questions=["alignment"]).score([Image.new("RGB", (8, 8))], prompt)
    assert asked == [load_checklist("image").questions[0].text.replace("{prompt}", prompt, 1)]


@pytest.mark.parametrize("kind", ["tensor", "array", "pil"])
def test_the_reward_function_of_other_trainers(kind):
    """As ddpo-pytorch calls it (tensor NCHW in [0, 1], or uint8 NHWC arrays; tuples), and flow_grpo (`only_strict`)."""
    images: Any = torch.zeros(3, 3, 8, 8)
    images[1, 0] = 1.0
    if kind != "tensor":
        images = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    if kind == "pil":
        images = [Image.fromarray(image) for image in images]
    function = VisionReward(RedJudge(), "image").as_reward_function()
    scores, info = function(images, ("a", "b", "c"), ({}, {}, {}), only_strict=True)
    assert scores.dtype == np.float32
    assert scores.shape == (3,)
    assert scores.argmax() == 1
    assert set(info) == set(load_checklist("image").dimensions)
    np.testing.assert_allclose(sum(info.values()), scores, atol=1e-5)
    clips, _ = VisionReward(RedJudge(), "video").as_reward_function()(torch.ones(2, 4, 3, 8, 8), ["a", "b"], [{}, {}])
    assert clips.shape == (2,)


def test_a_checklist_and_a_judge_must_fit():
    with pytest.raises(JudgeError, match="takes images only"):
        VisionReward(CountingJudge(), "video")
    with pytest.raises(ChecklistError, match="sharpness_9"):
        VisionReward(RedJudge(), "image", questions=["sharpness_9"])
    with pytest.raises(ValueError, match="2 items but 1 prompts"):
        VisionReward(RedJudge(), "image").score([None, None], ["a"])
    with pytest.raises(ChecklistError, match="granularity='dimenson'"):
        VisionReward(RedJudge(), "image").score([Image.new("RGB", (8, 8))], "a").by("dimenson")


def test_what_is_no_list_of_items_is_said():
    reward = VisionReward(RedJudge(), "image")
    image = Image.new("RGB", (8, 8))
    for one in ("a.png", Path("a.png"), image, b"x"):
        with pytest.raises(RewardError, match="give a list"):
            reward.score(one, "a")
    with pytest.raises(RewardError, match="on_error='ignore'"):
        reward.score([image], "a", on_error="ignore")
    assert reward.score((image for _ in range(2)), "a").total.shape == (2,)
    assert reward.score([], []).total.shape == (0,)
    scores = reward.score([image, image], ["a", None], on_error="record")
    assert "prompt is None" in scores.failures[1]


def test_a_judge_of_questions_gives_no_numbers():
    checklist = number("pickscore", kind="image", title="PickScore")
    with pytest.raises(JudgeError, match="'pickscore' is a scorer's number, which this judge does not give"):
        VisionReward(CountingJudge(), checklist)
