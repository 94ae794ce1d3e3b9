"""Against the formulas as their authors describe them, written out here in float64."""

import numpy as np
import pytest
from transformers import CLIPModel

from reward import Judge, JudgeError, VisionReward, load_checklist, load_judge
from reward.judges import check_kind
from reward.judges.loading import count_parameters
from tests.reward.judges.scorers.as_published import clip_cosines
from tests.reward.judges.scorers.small_scorers import PROMPTS, clip, largest_difference, one_by_one, pictures

NAMES = ("clip-score", "pickscore")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    clip(folder)
    return folder


def judge(name, folder, **options):
    return load_judge(name, model=str(folder), processor=str(folder), **options)


@pytest.fixture(scope="module")
def cosines(folder):
    return clip_cosines(folder, pictures(), PROMPTS)


def test_scores_are_those_of_the_published_formulas(folder, cosines):
    score, pick = judge("clip-score", folder), judge("pickscore", folder)
    found = score.answer(pictures(), PROMPTS, score.checklist.questions)
    assert (found == 0).any()  # a cosine below 0
    assert largest_difference(found, [max(100 * cosine, 0) for cosine in cosines]) < 1e-4
    found = pick.answer(pictures(), PROMPTS, pick.checklist.questions)
    assert (found < 0).any()
    assert largest_difference(found, np.exp(np.float64(np.float32(4.6))) * cosines) < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_what_single_items_give_in_any_order(name, folder):
    whole = judge(name, folder, batch_size=5)
    items, questions = pictures(), whole.checklist.questions
    found = whole.answer(items, PROMPTS, questions)
    assert largest_difference(found, one_by_one(whole, items, PROMPTS, questions)) < 1e-4
    assert largest_difference(found[::-1], whole.answer(items[::-1], PROMPTS[::-1], questions)) < 1e-4


def test_a_prompt_is_cut_at_77_tokens(folder):
    scorer = judge("pickscore", folder)
    long, longer, other = (
        "many words " * count + end for count, end in ((60, ""), (60, "and a cat"), (5, "and a cat"))
    )
    one, two, three = scorer.answer([pictures()[0]] * 3, [long, longer, other], scorer.checklist.questions)
    assert one == pytest.approx(two, abs=1e-4)
    assert abs(one - three) > 0.01


def test_the_scorer_is_a_reward(folder):
    assert isinstance(judge("pickscore", folder), Judge)
    reward = VisionReward(judge("pickscore", folder), judge("pickscore", folder).checklist)
    scores = reward.score(pictures()[:2], PROMPTS[:2])
    assert scores.checklist.dimensions == ("pickscore",)
    assert scores.total.tolist() == scores.p_yes[:, 0].tolist()


def test_a_number_that_is_none_is_an_error(folder, tmp_path):
    model = clip(tmp_path)
    model.visual_projection.weight.data.zero_()  # a vector without a direction
    model.save_pretrained(tmp_path)
    scorer = judge("clip-score", tmp_path)
    with pytest.raises(JudgeError, match=r"clip_score of prompt 'a red circle' is nan, which is no score; .*float32"):
        scorer.answer(pictures()[:1], PROMPTS[:1], scorer.checklist.questions)


def test_the_fingerprint_changes_with_what_a_score_depends_on(folder, tmp_path):
    first = judge("pickscore", folder).fingerprint
    assert first == judge("pickscore", folder, batch_size=2).fingerprint
    assert first != judge("pickscore", folder, dtype="bfloat16").fingerprint
    model = clip(tmp_path)
    model.logit_scale.data.fill_(4.0)
    model.save_pretrained(tmp_path)
    assert first != judge("pickscore", tmp_path).fingerprint
    settings = (folder / "preprocessor_config.json", tmp_path / "preprocessor_config.json")
    text = settings[0].read_text()
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert first == judge("pickscore", tmp_path).fingerprint
    settings[1].write_text(text.replace("0.48145466", "0.5"))
    assert first != judge("pickscore", tmp_path).fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_what_the_configuration_tells_needs_no_weights(name, folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    expected = sum(each.numel() for each in CLIPModel.from_pretrained(folder).parameters())
    assert count_parameters(name, {"model": str(tmp_path)}) == expected
    with pytest.raises(JudgeError, match=f"judge '{name}' takes images only"):
        check_kind(name, {"model": "nowhere/none"}, load_checklist("video"))
    check_kind(name, {"model": "nowhere/none"}, load_checklist("image"))


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_loaded_is_said_in_one_line(name, tmp_path):
    with pytest.raises(
        JudgeError, match=r"^model='.*' cannot be loaded \(.*\); give a folder or hub id of a CLIP"
    ) as error:
        judge(name, tmp_path)
    assert "\n" not in str(error.value)
