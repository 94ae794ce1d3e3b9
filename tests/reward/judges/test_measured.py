import numpy as np
import pytest

from benchmarks import heldout_set
from benchmarks.measured_judge import accuracy, judge, monotone_share
from mpo.embedded.scenes import Defects, paint, sample_scene
from reward import JudgeError, load_checklist
from reward.judges import measures
from reward.judges.measured import ALIGNMENT, RULES, MeasuredJudge


@pytest.fixture(scope="module")
def examined():
    return judge(heldout_set.cases())


def test_every_question_is_examined(examined):
    assert set(examined) == {*RULES, ALIGNMENT}
    assert len(examined) >= 16
    for judged in examined.values():
        truths = [case.truth for case, _ in judged]
        assert min(truths.count(True), truths.count(False)) >= 10


def test_answers_are_right_where_a_person_can_tell(examined):
    shares = {question_id: accuracy(judged) for question_id, judged in examined.items()}
    assert np.mean(list(shares.values())) >= 0.9
    assert {q: s for q, s in shares.items() if s < 0.8} == {}


def test_more_degradation_is_never_a_better_answer(examined):
    assert {q for q, judged in examined.items() if monotone_share(judged) < 1} == set()


def test_four_dimensions_are_covered():
    questions = {q.id: q for q in load_checklist("image")}
    covered = {
        sub.dimension
        for sub in load_checklist("image").subdimensions
        for q in sub.questions
        if MeasuredJudge().can_answer(q)
    }
    assert covered == {"alignment", "composition", "quality", "fidelity"}
    assert set(RULES) <= set(questions)


def test_answers_are_deterministic_and_probabilities():
    rng = np.random.default_rng(0)
    images = [paint(sample_scene(rng), Defects(), rng) for _ in range(4)]
    questions = [q for q in load_checklist("image") if q.id in RULES]
    first, second = (MeasuredJudge().answer(images, [""] * 4, questions) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert ((first >= 0) & (first <= 1)).all()


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_blank_picture_has_an_answer_to_everything(value):
    pixels = np.full((64, 64, 3), value)
    for rule in RULES.values():
        for condition in rule:
            assert 0 <= condition.p_yes(getattr(measures, condition.measure)(pixels)) <= 1
    assert RULES["richness_4"][0].p_yes(measures.content_range(pixels)) < 0.5
    assert RULES["clarity_4"][0].p_yes(measures.blur_sigma(pixels)) < 0.5


def test_unanswerable_questions_and_prompts_raise():
    questions = {q.id: q for q in load_checklist("image")}
    with pytest.raises(JudgeError, match="safety_1"):
        MeasuredJudge().require([questions["safety_1"]])
    with pytest.raises(JudgeError, match="tapir"):
        MeasuredJudge().require_prompts(["a red circle in a meadow", "a tapir in a meadow"])
