"""Against the published inference (clip_t5_model.py, clip_t5.py), written out in float64: one item at a time."""

import json

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from reward import JudgeError, load_checklist, load_judge
from reward.judges import check_kind
from reward.judges.loading import count_parameters
from tests.reward.judges.scorers.as_published import clip_flant5_scores
from tests.reward.judges.scorers.small_scorers import PROMPTS, clip_flant5, largest_difference, one_by_one, pictures

QUESTIONS = [q for q in load_checklist("image") if q.continuous]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("clip_flant5")


@pytest.fixture(scope="module")
def parts(folder):
    return clip_flant5(folder)


@pytest.fixture(scope="module")
def scorer(folder, parts):
    return judge(folder, batch_size=5)


@pytest.fixture(scope="module")
def found(scorer):
    return scorer.answer(pictures(), PROMPTS, QUESTIONS)


def judge(folder, **options):
    return load_judge("vqascore", model=str(folder), processor=str(folder / "words"), **options)


def test_scores_are_those_of_the_published_network(folder, parts, found):
    words = PreTrainedTokenizerFast.from_pretrained(folder / "words")
    expected = clip_flant5_scores(parts, words, pictures(), PROMPTS)
    assert words("Yes")["input_ids"][-1] == words.eos_token_id  # the end counts
    assert np.std(np.log(expected)) > 0.1
    assert largest_difference(np.log(found), np.log(expected)) < 1e-4


def test_a_batch_gives_what_single_items_give_in_any_order(scorer, found):
    items = pictures()
    assert largest_difference(np.log(found), np.log(one_by_one(scorer, items, PROMPTS, QUESTIONS))) < 1e-4
    assert largest_difference(np.log(found[::-1]), np.log(scorer.answer(items[::-1], PROMPTS[::-1], QUESTIONS))) < 1e-4


def test_a_prompt_is_cut_at_2048_tokens(scorer):
    items, words = pictures()[:1] * 2, "many words " * 1100
    one, two = scorer.answer(items, [words, words + "and a cat"], QUESTIONS)
    assert one == pytest.approx(two, rel=1e-4)


def test_it_looks_at_pictures_alone(folder, scorer):
    assert scorer.kinds == ("image",)
    with pytest.raises(JudgeError, match="takes images only"):
        check_kind("vqascore", {"model": str(folder)}, load_checklist("video"))
    with pytest.raises(JudgeError, match="control token '<image>'"):
        scorer.require_prompts(["an <image>"], "image")


def test_what_the_configuration_tells_needs_no_weights(folder, parts, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    expected = sum(each.numel() for part in (parts[0], parts[1], *parts[2]) for each in part.parameters())
    assert count_parameters("vqascore", {"model": str(tmp_path)}) == expected


def test_the_fingerprint_changes_with_what_an_answer_depends_on(folder, scorer):
    assert scorer.fingerprint == judge(folder).fingerprint
    assert scorer.fingerprint != judge(folder, dtype="bfloat16").fingerprint


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("mm_projector_type", "linear", "mm_projector_type is 'linear', not 'mlp2x_gelu'"),
        ("mm_vision_tower", "nobody/nothing", "nobody/nothing"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(folder, parts, tmp_path, field, value, problem):
    for file in folder.glob("*.bin"):
        (tmp_path / file.name).symlink_to(file)
    fields = json.loads((folder / "config.json").read_text()) | {field: value}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(
        JudgeError, match=rf"cannot be loaded \(.*{problem}.*\); give a folder or hub id of a CLIP-FlanT5"
    ) as error:
        load_judge("vqascore", model=str(tmp_path), processor=str(folder / "words"))
    assert "\n" not in str(error.value)
