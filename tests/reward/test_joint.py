"""Several judges as one reward: columns, weights, failures, and what is asked of whom."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reward import ChecklistError, JointReward, RewardError, VisionReward, load_checklist
from reward.joint import join_checklists
from tests.helpers.judges import BrightnessScorer, CountingJudge

CHECKLIST = load_checklist("image")
SHARP = CHECKLIST.only({"clarity_1", "clarity_2"})
PICTURES = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (0, 51, 204, 255)]


def test_each_judge_adds_its_columns_and_its_dimensions():
    reward = JointReward([VisionReward(CountingJudge(), SHARP), VisionReward(BrightnessScorer())], weights=[1.0, 0.5])
    scores = reward.score(PICTURES, "red")
    assert reward.checklist.question_ids == ("clarity_1", "clarity_2", "brightness")
    assert reward.checklist.dimensions == (*SHARP.dimensions, "brightness")
    levels = np.array([0, 51, 204, 255])
    np.testing.assert_allclose(scores.p_yes, np.stack([levels / 255, levels / 255, levels / 3], axis=1))
    alone = VisionReward(CountingJudge(), SHARP).score(PICTURES, "red")
    np.testing.assert_allclose(scores.total, alone.total + 0.5 * levels / 3)
    np.testing.assert_allclose(scores.dimension("brightness"), 0.5 * levels / 3)


def test_compare_and_explain_say_what_a_number_adds():
    reward = JointReward([VisionReward(CountingJudge(), SHARP), VisionReward(BrightnessScorer())])
    found = reward.compare(PICTURES[2], PICTURES[1], "red")
    assert found.preferred == "a"
    assert found.dimension_margins["brightness"] == pytest.approx(153 / 3)
    first = reward.explain(PICTURES[2], "red")[0]
    assert (first.question.id, first.answer, first.difference) == ("brightness", 68.0, 68.0)


def test_a_question_is_answered_by_the_first_judge_that_is_asked_it():
    """As the published score has its alignment from a judge of its own: together they are the whole checklist again."""
    alignment, others = CountingJudge(), CountingJudge()
    reward = JointReward([VisionReward(alignment, CHECKLIST, questions=["alignment"]), VisionReward(others, CHECKLIST)])
    assert (reward.checklist.name, reward.checklist.version) == (CHECKLIST.name, CHECKLIST.version)
    assert reward.checklist.question_ids == CHECKLIST.question_ids
    assert reward.parts[1].checklist.question_ids == CHECKLIST.question_ids[1:]
    whole = VisionReward(CountingJudge(), CHECKLIST).score(PICTURES, "red")
    np.testing.assert_array_equal(reward.score(PICTURES, "red").total, whole.total)
    assert (alignment.num_asked, others.num_asked) == (len(PICTURES), len(PICTURES))


def test_an_item_that_one_judge_cannot_judge_has_no_score_and_is_not_shown_to_the_next():
    scorer, judge = BrightnessScorer(), CountingJudge()
    reward = JointReward([VisionReward(scorer), VisionReward(judge, SHARP)])
    scores = reward.score(PICTURES, ["red", "too dark", "red", "unanswerable"], on_error="record")
    assert set(scores.failures) == {1, 3}
    assert "too dark" in scores.failures[1]
    assert "unanswerable" in scores.failures[3]
    assert np.isnan(scores.total).tolist() == [False, True, False, True]
    alone = reward.score([PICTURES[0], PICTURES[2]], "red")
    np.testing.assert_array_equal(scores.total[[0, 2]], alone.total)


def test_every_item_counts_once_in_the_progress():
    counted = []
    reward = JointReward([VisionReward(CountingJudge(), SHARP), VisionReward(BrightnessScorer())])
    reward.score(PICTURES * 40, "red", on_item=lambda: counted.append(1))
    assert len(counted) == 160


def test_each_judge_keeps_its_own_answers(tmp_path):
    """Another scorer beside a judge does not have that judge asked again."""
    judge, scorer = CountingJudge(), BrightnessScorer()
    VisionReward(judge, SHARP, cache=tmp_path).score(PICTURES, "red")
    reward = JointReward([VisionReward(judge, SHARP, cache=tmp_path), VisionReward(scorer, cache=tmp_path)])
    first = reward.score(PICTURES, "red")
    assert (judge.num_asked, scorer.num_asked) == (4, 4)
    np.testing.assert_array_equal(reward.score(PICTURES, "red").total, first.total)
    assert (judge.num_asked, scorer.num_asked) == (4, 4)


def test_a_part_of_the_questions_keeps_its_weights():
    reward = JointReward([VisionReward(CountingJudge(), SHARP), VisionReward(BrightnessScorer())], weights=[2.0, 0.5])
    part = reward.only(["clarity_2", "brightness"])
    whole = reward.checklist
    assert [(q.id, q.weight) for q in part.checklist] == [(q.id, q.weight) for q in whole if q.id != "clarity_1"]
    assert part.without_alignment().checklist.question_ids == ("clarity_2",)  # the number is about the prompt, too
    with pytest.raises(ChecklistError, match="'nothing'"):
        reward.only(["nothing"])


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.floats(0.5, 40), st.floats(0.5, 40))
def test_joining_keeps_each_total_times_its_weight(first_weight, second_weight, first_divisor, second_divisor):
    first = SHARP.model_copy(update={"divisor": first_divisor, "intercept": 0.3, "name": "first"})
    second = CHECKLIST.only({"alignment"}).model_copy(update={"divisor": second_divisor, "intercept": -2.0})
    joined = join_checklists([first, second], [first_weight, second_weight])
    answers = np.array([1.0, -1.0, 0.7])
    total = (answers @ joined.weights + joined.intercept) / joined.divisor
    expected = first_weight * (answers[:2] @ first.weights + 0.3) / first_divisor
    expected += second_weight * (answers[2:] @ second.weights - 2.0) / second_divisor
    assert total == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert joined.divisor == max(first_divisor, second_divisor)  # so that ties are no wider than in either


def test_what_cannot_be_joined_is_said():
    judge = VisionReward(CountingJudge(), SHARP)
    with pytest.raises(ChecklistError, match=r"reward 2 \(counting\) adds nothing"):
        JointReward([judge, judge])
    with pytest.raises(ChecklistError, match="are about images and videos"):
        join_checklists([CHECKLIST, load_checklist("video")], [1.0, 1.0])
    with pytest.raises(RewardError, match=r"weights=\[0.0\]"):
        JointReward([judge], weights=[0])
    with pytest.raises(RewardError, match="rewards is empty"):
        JointReward([])
