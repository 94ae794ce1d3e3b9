"""Against the published inference (hpsv3/inference.py, hpsv3/model/qwen2vl_trainer.py), written out in float64."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from reward import JudgeError, load_checklist, load_judge
from reward.judges import check_kind
from reward.judges.loading import count_parameters
from tests.reward.judges.scorers.as_published import hpsv3_scores
from tests.reward.judges.scorers.small_scorers import (
    PROMPTS,
    hpsv3,
    largest_difference,
    one_by_one,
    pictures,
    qwen2_vl,
)

PIXELS = 256 * 28 * 28


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    qwen2_vl(folder)
    return folder


@pytest.fixture(scope="module")
def folder(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hpsv3")
    hpsv3(folder, base)
    return folder


@pytest.fixture(scope="module")
def scorer(folder, base):
    return judge(folder, base)


@pytest.fixture(scope="module")
def found(scorer):
    return scorer.answer(pictures(), PROMPTS, scorer.checklist.questions)


def judge(folder, base, **options):
    return load_judge("hpsv3", model=str(folder), processor=str(base), **options)


def test_scores_are_those_of_the_published_network(base, folder, found):
    expected = hpsv3_scores(folder, base, pictures(), PROMPTS)
    assert np.std(expected) > 0.1
    assert largest_difference(found, expected) < 1e-4


def test_a_batch_gives_what_single_items_give_in_any_order(scorer, found):
    """Rows of a batch differ in length by the picture's shape and by the prompt: the shorter ones are padded."""
    items, questions = pictures(), scorer.checklist.questions
    assert largest_difference(found[:4], one_by_one(scorer, items[:4], PROMPTS[:4], questions)) < 1e-4
    assert largest_difference(found[4::-1], scorer.answer(items[4::-1], PROMPTS[4::-1], questions)) < 1e-4


def test_newer_names_of_the_same_weights_give_the_same(base, folder, scorer, tmp_path):
    newer = {
        name.replace("model.", "model.language_model.", 1).replace("visual.", "model.visual.", 1): value
        for name, value in load_file(folder / "HPSv3.safetensors").items()
    }
    save_file(newer, tmp_path / "HPSv3.safetensors")
    assert judge(tmp_path, base).fingerprint == scorer.fingerprint


def test_the_fingerprint_changes_with_what_a_score_depends_on(base, folder, scorer, tmp_path):
    assert scorer.fingerprint == judge(folder, base, batch_size=2).fingerprint
    assert scorer.fingerprint != judge(folder, base, dtype="bfloat16").fingerprint
    for name in ("rm_head.5.bias", "model.layers.0.self_attn.q_proj.weight"):
        weights = load_file(folder / "HPSv3.safetensors")
        weights[name] = weights[name] + 0.1
        save_file(weights, tmp_path / "HPSv3.safetensors")
        assert scorer.fingerprint != judge(tmp_path, base).fingerprint


def test_what_the_configuration_tells_needs_no_weights(base, scorer):
    expected = sum(each.numel() for each in scorer.model.parameters())
    assert count_parameters("hpsv3", {"model": "nowhere/none", "processor": str(base)}) == expected
    with pytest.raises(JudgeError, match="judge 'hpsv3' takes images only"):
        check_kind("hpsv3", {}, load_checklist("video"))


def test_a_prompt_may_not_hold_the_token_that_is_read(scorer):
    with pytest.raises(JudgeError, match=r"holds the model's control token '<\|Reward\|>'"):
        scorer.require_prompts(["a <|Reward|> cat"], "image")


def test_a_picture_much_longer_than_wide_is_refused(scorer):
    with pytest.raises(JudgeError, match=r"the picture's size is not possible .*; crop it"):
        scorer.answer([Image.new("RGB", (201, 1))], ["a line"], scorer.checklist.questions)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("rm_head.0.bias", r"the head's weight '0.bias' is missing, not \(1024,\)"),
        ("model.norm.weight", "the weight 'language_model.norm.weight' is missing, and 0 more"),
        ("model.embed_tokens.weight", "it holds no Qwen2-VL"),
    ],
)
def test_weights_that_lack_a_part_are_refused(base, folder, tmp_path, name, problem):
    weights = load_file(folder / "HPSv3.safetensors")
    del weights[name]
    save_file(weights, tmp_path / "HPSv3.safetensors")
    with pytest.raises(JudgeError, match=rf"cannot be loaded \(.*{problem}.*\); give a folder or hub id") as error:
        judge(tmp_path, base)
    assert "\n" not in str(error.value)


def test_a_processor_of_another_model_is_refused(folder, tmp_path):
    with pytest.raises(JudgeError, match=r"cannot be loaded \(.*\); give a folder or hub id with HPSv3.safetensors"):
        judge(folder, tmp_path)


def test_a_number_that_is_none_is_an_error(base, folder, tmp_path):
    weights = load_file(folder / "HPSv3.safetensors")
    weights["rm_head.5.bias"] = torch.full_like(weights["rm_head.5.bias"], torch.inf)
    save_file(weights, tmp_path / "HPSv3.safetensors")
    broken = judge(tmp_path, base)
    with pytest.raises(JudgeError, match="hpsv3 of prompt 'a red circle' is inf, which is no score"):
        broken.answer(pictures()[:1], PROMPTS[:1], broken.checklist.questions)
