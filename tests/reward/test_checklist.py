import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from reward import ChecklistError, load_checklist

# arXiv 2412.21059, table of the hierarchy and the published weight.json: sub-dimension -> number of questions, in order.
PUBLISHED = {
    "alignment": 1, "symmetry": 2, "object_pairing": 2, "main_object": 2, "richness": 4, "background": 3, "clarity": 4,
    "color_brightness": 2, "color_aesthetic": 2, "lighting_distinction": 3, "lighting_aesthetic": 2, "emotion": 4,
    "detail_refinement": 6, "detail_realism": 4, "body": 4, "face": 4, "hands": 4, "safety": 4,
}  # fmt: skip
SHARED = Path(__file__).parents[3] / "shared" / "visionreward" / "VisionReward_Image"


def test_image_has_the_published_hierarchy():
    checklist = load_checklist("image")
    scored = Counter(sub.name for sub in checklist.subdimensions for q in sub.questions if not q.gate)
    assert dict(scored) == PUBLISHED
    assert list(scored) == list(PUBLISHED)
    assert checklist.dimensions == ("alignment", "composition", "quality", "safety_and_emotion", "fidelity")
    assert [q.id for q in checklist if q.gate] == ["has_body", "has_face", "has_hands"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published files are not beside this checkout")
def test_image_has_the_published_weights_but_not_the_published_words():
    checklist = load_checklist("image")
    coefficients = json.loads((SHARED / "weight.json").read_text())["coef"]
    # weight.json leaves out the two questions whether there is a background, and light and shade.
    weights = [q.weight for q in checklist if not q.gate and q.id not in ("background_3", "lighting_distinction_3")]
    assert weights == coefficients
    published = [line.strip() for line in (SHARED / "VisionReward_image_qa.txt").read_text().splitlines()]
    assert len(published) == len(checklist.questions) - 1  # all but alignment
    assert not set(published) & {q.text for q in checklist}


def test_groups_cover_every_scored_question_once_at_each_grain():
    checklist = load_checklist("image")
    for grain in ("dimension", "subdimension", "question"):
        names, members = checklist.groups(grain)
        assert members.shape == (len(names), len(checklist.questions))
        np.testing.assert_array_equal(members.sum(axis=0), [not q.gate for q in checklist])


def test_a_prompt_is_inserted_literally():
    question = load_checklist("image").questions[0]
    assert '"{x} says "[[prompt]]""' in question.ask('{x} says "[[prompt]]"')


def test_only_keeps_order_and_changes_the_fingerprint():
    checklist = load_checklist("image")
    cut = checklist.only({"clarity_2", "alignment"})
    assert cut.question_ids == ("alignment", "clarity_2")
    assert cut.fingerprint != checklist.fingerprint
    with pytest.raises(ChecklistError, match="is no gate"):
        checklist.only({"body_1"})
    with pytest.raises(ChecklistError, match="nonsense"):
        checklist.only({"nonsense"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": -1.0}, "weight"),
        ({"wieght": 1.0}, "wieght"),
        ({"id": "Bad Id"}, "id"),
        ({"gate": True, "weight": 1.0}, "gate"),
        ({"gate_id": "absent"}, "absent"),
    ],
)
def test_a_bad_checklist_is_refused_by_name(tmp_path, change, message):
    fields = {
        "name": "own",
        "version": 1,
        "medium": "image",
        "subdimensions": [{"name": "s", "dimension": "d", "questions": [{"id": "q", "text": "Well?", **change}]}],
    }
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(fields))
    with pytest.raises(ChecklistError, match=message):
        load_checklist(file)


def test_unreadable_checklists_are_refused(tmp_path):
    with pytest.raises(ChecklistError, match="neither known"):
        load_checklist("absent")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(ChecklistError, match="no mapping"):
        load_checklist(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(ChecklistError, match="not YAML"):
        load_checklist(tmp_path / "broken.yaml")
