import json
from collections import Counter
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reward import Checklist, ChecklistError, load_checklist, save_checklist
from reward.checklist import Question, SubDimension

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


def test_groups_cover_every_scored_question_once_at_each_granularity():
    checklist = load_checklist("image")
    for granularity in ("dimension", "subdimension", "question"):
        names, members = checklist.groups(granularity)
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
    with pytest.raises(ChecklistError, match="is not a gate"):
        checklist.only({"body_1"})
    with pytest.raises(ChecklistError, match="nonsense"):
        checklist.only({"nonsense"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": -1.0}, "weight"),
        ({"weight": float("inf")}, "weight"),
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
        "kind": "image",
        "subdimensions": [{"name": "s", "dimension": "d", "questions": [{"id": "q", "text": "Well?", **change}]}],
    }
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(fields))
    with pytest.raises(ChecklistError, match=message):
        load_checklist(file)


def test_no_dimension_is_called_total():
    """Tables have the total and each dimension by name."""
    with pytest.raises(ValueError, match="another name"):
        SubDimension(name="all", dimension="total", questions=(Question(id="q", text="Well?"),))


def test_unreadable_checklists_are_refused(tmp_path):
    with pytest.raises(ChecklistError, match="neither known"):
        load_checklist("absent")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(ChecklistError, match="is not a mapping"):
        load_checklist(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(ChecklistError, match="not YAML"):
        load_checklist(tmp_path / "broken.yaml")


def test_consistency_reports_a_stricter_yes_beside_a_laxer_no():
    checklist = load_checklist("image").only(
        {"alignment", "clarity_1", "clarity_2", "clarity_3", "has_body", "body_1", "body_2"}
    )
    assert checklist.question_ids == (
        "alignment",
        "has_body",
        "clarity_1",
        "clarity_2",
        "clarity_3",
        "body_1",
        "body_2",
    )
    p_yes = np.array(
        [
            [0.1, 0.9, 0.2, 0.6, 0.9, 0.3, 0.8],  # consistent
            [0.1, 0.9, 0.9, 0.2, 0.4, 0.9, 0.1],  # perfectly sharp, yet neither sharp nor free of blur; bodies too
            [0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.1],  # no body: its questions do not apply
        ]
    )
    found = [
        (each.row, each.stricter_id, each.laxer_id, each.p_stricter, each.p_laxer)
        for each in checklist.consistency(p_yes)
    ]
    assert found == [
        (1, "clarity_1", "clarity_2", 0.9, 0.2), (1, "clarity_1", "clarity_3", 0.9, 0.4), (1, "body_1", "body_2", 0.9, 0.1),
    ]  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(arrays(np.float64, (1, 64), elements=st.floats(0, 1)))
def test_levels_in_order_are_consistent(p_yes):
    checklist = load_checklist("video")
    start = 0
    for sub in checklist.subdimensions:  # the stricter, the less likely
        stop = start + len(sub.questions)
        p_yes[0, start:stop] = np.sort(p_yes[0, start:stop])
        start = stop
    assert checklist.consistency(p_yes) == []


def test_video_has_the_papers_hierarchy():
    checklist = load_checklist("video")
    questions = Counter(sub.dimension for sub in checklist.subdimensions for _ in sub.questions)
    subdimensions = Counter(sub.dimension for sub in checklist.subdimensions)
    paper = {
        "alignment": (1, 4), "composition": (1, 2), "quality": (4, 14), "fidelity": (3, 9), "safety": (1, 4),
        "stability": (5, 12), "dynamic": (2, 8), "physics": (1, 4), "preservation": (2, 7),
    }  # fmt: skip
    assert {d: (subdimensions[d], questions[d]) for d in checklist.dimensions} == paper
    assert (checklist.weights > 0).sum() == 29


def test_other_weights_and_back_through_a_file(tmp_path):
    checklist = load_checklist("video").weighted({"clear_1": 0.5, "alignment_1": 2.0}, name="own")
    assert checklist.divisor == 1.0
    assert dict(zip(checklist.question_ids, checklist.weights, strict=True))["clear_1"] == 0.5
    assert checklist.weights.sum() == 2.5
    assert checklist.questions_fingerprint == load_checklist("video").questions_fingerprint
    save_checklist(checklist, tmp_path / "own.yaml")
    assert load_checklist(tmp_path / "own.yaml") == checklist
    with pytest.raises(ChecklistError, match="sharpness"):
        checklist.weighted({"sharpness": 1.0}, name="own")
    with pytest.raises(ChecklistError, match="3 weights for the 64 questions"):
        checklist.weighted([1.0, 2.0, 3.0], name="own")
    with pytest.raises(ChecklistError, match="greater than or equal to 0"):
        checklist.weighted([-1.0] * 64, name="own")


def test_the_schema_beside_the_checklists_is_that_of_the_types():
    file = resources.files("reward.checklists").joinpath("schema.json")
    expected = json.dumps(Checklist.model_json_schema(), indent=1) + "\n"
    assert file.read_text("utf-8") == expected, f"write this to {file}:\n{expected}"
