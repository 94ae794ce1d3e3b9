"""Judges as recipes and files name them."""

import pytest

from reward import ChecklistError, JointReward, JudgeError, VisionReward, load_checklist
from reward.judging import Judging, check_judges, checklist_of, checklist_of_all, load_reward, read_judges

MEASURED = Judging(name="measured", checklist="image", questions="answerable")
SCORER = Judging(name="tests.helpers.judges:BrightnessScorer", weight=0.25)


def test_a_file_names_judges(tmp_path):
    file = tmp_path / "judges.yaml"
    file.write_text(
        "- {name: measured, checklist: image, questions: [clarity_1, clarity_2]}\n"
        "- {name: 'tests.helpers.judges:BrightnessScorer', weight: 0.25}\n"
    )
    judges = read_judges(file)
    assert judges == (MEASURED.model_copy(update={"questions": ("clarity_1", "clarity_2")}), SCORER)
    reward = load_reward(judges)
    assert isinstance(reward, JointReward)
    assert reward.checklist.question_ids == ("clarity_1", "clarity_2", "brightness")
    assert reward.checklist.questions[2].weight == 0.25
    file.write_text("{name: measured, checklist: image}\n")
    assert read_judges(file) == (Judging(name="measured", checklist="image"),)


def test_one_judge_stays_as_it_is():
    assert isinstance(load_reward([MEASURED]), VisionReward)


def test_what_is_asked_is_known_without_loading():
    assert checklist_of(SCORER).dimensions == ("brightness",)
    assert checklist_of(Judging(name="pickscore")).dimensions == ("pickscore",)
    both = checklist_of_all([MEASURED, SCORER])
    assert both.dimensions == (*load_checklist("image").dimensions, "brightness")
    check_judges([MEASURED, SCORER])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {name: measured, cheklist: image}", "0.cheklist: Extra inputs are not permitted"),
        ("- {name: measured, weight: 0}", "0.weight: Input should be greater than 0"),
        ("- 7", "0: Input should be"),
        ("a: [", "cannot be read"),
        ("7", "is a list of name"),
    ],
)
def test_a_file_that_names_none_is_refused(tmp_path, text, said):
    (tmp_path / "judges.yaml").write_text(text)
    with pytest.raises(JudgeError, match=said):
        read_judges(tmp_path / "judges.yaml")


def test_a_judge_of_questions_needs_a_checklist_and_all_need_one_kind():
    with pytest.raises(JudgeError, match="judge 'measured' has no checklist of its own"):
        check_judges([Judging(name="measured")])
    with pytest.raises(ChecklistError, match="are about images and videos"):
        checklist_of_all([Judging(name="measured", checklist="video"), SCORER])
    with pytest.raises(JudgeError, match="is about videos"):
        check_judges([SCORER.model_copy(update={"checklist": "video"})])
