import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from reward import ChecklistError, JudgeError, MediaError, VisionReward, load_checklist, load_judge, score_answers

CHECKLIST = load_checklist("image")
Q = len(CHECKLIST.questions)
p_yes_rows = arrays(np.float64, (3, Q), elements=st.floats(0, 1))


def test_by_hand():
    checklist = CHECKLIST.only({"alignment", "has_body", "body_1", "richness_4"})
    scores = score_answers(np.array([[0.5, 0.9, 0.2, 0.7], [0.5, 0.1, 0.2, 0.7]]), checklist)
    # Order: alignment, has_body, richness_4, body_1.
    np.testing.assert_array_equal(scores.answers, [[0.5, 1, -1, 1], [0.5, -1, -1, 0]])
    alignment, richness, body = 2.3542882631150923, 0.5828223926159606, 0.0824178853123111
    np.testing.assert_allclose(scores.total, [0.5 * alignment - richness + body, 0.5 * alignment - richness])
    assert checklist.dimensions == ("alignment", "composition", "fidelity")
    np.testing.assert_allclose(scores.dimensions, [[0.5 * alignment, -richness, body], [0.5 * alignment, -richness, 0]])


@given(p_yes_rows)
def test_every_grain_adds_up_to_the_total(p_yes):
    scores = score_answers(p_yes, CHECKLIST)
    for grain in ("dimension", "subdimension", "question"):
        np.testing.assert_allclose(scores.by(grain).sum(axis=1), scores.total, atol=1e-12)


@given(p_yes_rows, st.integers(0, Q - 1))
def test_a_yes_never_lowers_the_score(p_yes, column):
    question = CHECKLIST.questions[column]
    if question.gate:
        return
    higher = p_yes.copy()
    higher[:, column] = 1.0
    assert (score_answers(higher, CHECKLIST).total >= score_answers(p_yes, CHECKLIST).total - 1e-12).all()


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1])
def test_what_is_no_probability_is_refused(bad):
    p_yes = np.full((2, Q), 0.5)
    p_yes[1, 3] = bad
    with pytest.raises(ValueError, match=r"p_yes\[1, 3\]"):
        score_answers(p_yes, CHECKLIST)
    with pytest.raises(ValueError, match="shape"):
        score_answers(p_yes[:, 1:], CHECKLIST)


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
    with pytest.raises(JudgeError, match="judges: measured"):
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
    with pytest.raises(ValueError, match="1 pictures but 2 prompts"):
        reward.score([tmp_path / "whole.png"], ["", ""])


def test_importing_reward_leaves_the_heavy_libraries_out():
    heavy = "{'diffusers', 'torch', 'transformers', 'mpo'}"
    code = f"import reward, sys; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
