"""Against equation 1 of the paper, written out: a softmax over the whole vocabulary, one item at a time."""

import numpy as np
import pytest
import torch

from reward import Judge, JudgeError, Question, VisionReward, load_checklist, load_judge
from reward.judges import check_kind
from reward.judges.loading import count_parameters
from tests.reward.judges.scorers.as_published import vqascores
from tests.reward.judges.scorers.small_scorers import (
    PROMPTS,
    clip_flant5,
    clips,
    largest_difference,
    one_by_one,
    pictures,
    vision_language,
)
from tests.reward.judges.small_vlms import qwen2_5_vl, smolvlm, tokenizer

QUESTIONS = [q for q in load_checklist("image") if q.continuous]
SHORT = PROMPTS[:9] + PROMPTS[10:]  # without the one of hundreds of words


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlm")
    for each in vision_language():
        each.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def scorer(folder):
    return load_judge("vqascore", model=str(folder), batch_size=5)


@pytest.fixture(scope="module")
def found(scorer):
    return scorer.answer(pictures()[: len(SHORT)], SHORT, QUESTIONS)


def test_scores_are_those_of_the_published_formula(found):
    expected = vqascores(*vision_language(), pictures()[: len(SHORT)], SHORT)
    assert np.std(np.log(expected)) > 0.1
    assert largest_difference(np.log(found), np.log(expected)) < 1e-4


def test_it_is_not_the_ratio_of_the_checklists_judge(folder, found):
    judge = load_judge("vlm", model=str(folder), template="{question}")
    asked = Question(id="same", text='Does this figure show "{prompt}"? Please answer yes or no.', continuous=True)
    ratio = judge.answer(pictures()[:1], SHORT[:1], [asked])[0, 0]
    assert 0 < found[0, 0] < ratio < 1


def test_a_batch_gives_what_single_items_give_in_any_order(scorer, found):
    items = pictures()[: len(SHORT)]
    assert largest_difference(np.log(found), np.log(one_by_one(scorer, items, SHORT, QUESTIONS))) < 1e-4
    assert largest_difference(np.log(found[::-1]), np.log(scorer.answer(items[::-1], SHORT[::-1], QUESTIONS))) < 1e-4


def test_it_answers_what_asks_about_the_prompt_and_nothing_else(scorer):
    assert isinstance(scorer, Judge)
    whole = load_checklist("image")
    answered = [q.id for q in whole if scorer.can_answer(q, "image")]
    assert answered == [q.id for q in QUESTIONS]
    reward = VisionReward(scorer, whole, questions="answerable")
    scores = reward.score(pictures()[:2], SHORT[:2])
    assert scores.checklist.question_ids == tuple(answered)
    assert ((scores.answers > 0) & (scores.answers < 1)).all()
    with pytest.raises(JudgeError, match=r"cannot be answered by vqascore, .*answerable"):
        VisionReward(scorer, whole)


def test_two_questions_have_the_same_answer(scorer, found):
    other = Question(id="other", text="Well, is it {prompt}?", continuous=True)
    assert scorer.answer(pictures()[:1], SHORT[:1], [*QUESTIONS, other])[0] == pytest.approx(
        [found[0, 0]] * (len(QUESTIONS) + 1), rel=1e-4
    )


def test_it_looks_at_clips_too(scorer):
    assert scorer.kinds == ("image", "video")
    items, prompts = clips()[:4], SHORT[:4]
    answers = scorer.answer(items, prompts, QUESTIONS)
    assert ((answers > 0) & (answers < 1)).all()
    assert largest_difference(np.log(answers), np.log(one_by_one(scorer, items, prompts, QUESTIONS))) < 1e-4


def test_the_configuration_tells_kinds_and_size(folder, scorer):
    expected = sum(each.numel() for each in vision_language()[0].parameters())
    assert count_parameters("vqascore", {"model": str(folder)}) == expected
    check_kind("vqascore", {"model": str(folder)}, load_checklist("video"))
    with pytest.raises(JudgeError, match="judge 'vqascore' with model='zhiqiulin/clip-flant5-xxl' takes images only"):
        check_kind("vqascore", {}, load_checklist("video"))


def test_the_fingerprint_changes_with_what_an_answer_depends_on(folder, scorer, tmp_path):
    assert scorer.fingerprint == load_judge("vqascore", model=str(folder)).fingerprint
    assert scorer.fingerprint != load_judge("vqascore", model=str(folder), dtype="bfloat16").fingerprint
    assert scorer.fingerprint != load_judge("vqascore", model=str(folder), num_frames=4).fingerprint
    for each in smolvlm("sdpa"):
        each.save_pretrained(tmp_path)
    assert scorer.fingerprint != load_judge("vqascore", model=str(tmp_path)).fingerprint


def test_a_prompt_may_not_hold_a_control_token(scorer):
    with pytest.raises(JudgeError, match=r"control token '<\|image_pad\|>'"):
        scorer.answer(pictures()[:1], ["a <|image_pad|>"], QUESTIONS)


def test_a_model_that_spells_yes_in_several_tokens_is_refused(tmp_path):
    for each in qwen2_5_vl("sdpa", words=tokenizer(["no words", "at all"])):
        each.save_pretrained(tmp_path)
    with pytest.raises(JudgeError, match=r"spells 'Yes' in \d tokens; use a model that has one for it"):
        load_judge("vqascore", model=str(tmp_path)).answer(pictures()[:1], SHORT[:1], QUESTIONS)


def test_options_of_the_other_kind_of_model_are_refused(folder, tmp_path):
    with pytest.raises(JudgeError, match="processor='a/b' is not possible with a vision-language model; leave it out"):
        load_judge("vqascore", model=str(folder), processor="a/b")
    clip_flant5(tmp_path)
    for options in ({"num_frames": 4}, {"quantization": "4bit"}):
        with pytest.raises(
            JudgeError, match=rf"{next(iter(options))}=.* is not possible with a CLIP-FlanT5; leave it out"
        ):
            load_judge("vqascore", model=str(tmp_path), processor=str(tmp_path / "words"), **options)


def test_an_answer_that_is_none_is_an_error(tmp_path):
    model, processor = vision_language()
    model.lm_head.weight.data.fill_(torch.nan)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(JudgeError, match="vqascore of prompt 'a red circle' is nan, which is no probability"):
        load_judge("vqascore", model=str(tmp_path)).answer(pictures()[:1], SHORT[:1], QUESTIONS)
