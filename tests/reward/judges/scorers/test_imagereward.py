"""Against BLIP as its authors wrote it (vit.py, med.py), written out here in float64 over the published names."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from reward import JudgeError, load_checklist, load_judge
from reward.judges import check_kind
from reward.judges.loading import count_parameters
from tests.reward.judges.scorers.as_published import imagereward_scores
from tests.reward.judges.scorers.small_scorers import PROMPTS, imagereward, largest_difference, one_by_one, pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("imagereward")


@pytest.fixture(scope="module")
def weights(folder):
    return {name: value.double() for name, value in imagereward(folder).items()}


@pytest.fixture(scope="module")
def scorer(folder, weights):
    return judge(folder)


def judge(folder, **options):
    return load_judge("imagereward", model=str(folder), processor=str(folder), **options)


def test_scores_are_those_of_the_published_network(folder, weights, scorer):
    expected = imagereward_scores(folder, weights, pictures(), PROMPTS)
    found = scorer.answer(pictures(), PROMPTS, scorer.checklist.questions)
    assert np.std(expected) > 1
    assert largest_difference(found, expected) < 1e-4


def test_a_batch_gives_what_single_items_give_in_any_order(folder, scorer):
    items, questions = pictures(), scorer.checklist.questions
    found = judge(folder, batch_size=5).answer(items, PROMPTS, questions)
    assert largest_difference(found, one_by_one(scorer, items, PROMPTS, questions)) < 1e-4
    assert largest_difference(found[::-1], scorer.answer(items[::-1], PROMPTS[::-1], questions)) < 1e-4


def test_safetensors_under_the_same_names_give_the_same(folder, weights, scorer, tmp_path):
    save_file({name: value.float() for name, value in weights.items()}, tmp_path / "ImageReward.safetensors")
    same = load_judge("imagereward", model=str(tmp_path), processor=str(folder))
    assert same.fingerprint == scorer.fingerprint
    questions = scorer.checklist.questions
    assert same.answer(pictures()[:1], PROMPTS[:1], questions) == scorer.answer(pictures()[:1], PROMPTS[:1], questions)


def test_the_fingerprint_changes_with_what_a_score_depends_on(folder, weights, scorer, tmp_path):
    assert scorer.fingerprint == judge(folder, batch_size=2).fingerprint
    assert scorer.fingerprint != judge(folder, dtype="bfloat16").fingerprint
    for name in ("mlp.layers.7.bias", "blip.visual_encoder.blocks.1.attn.qkv.weight"):
        other = {each: value.float() for each, value in weights.items()}
        other[name] = other[name] + 0.1
        torch.save(other, tmp_path / "ImageReward.pt")
        changed = load_judge("imagereward", model=str(tmp_path), processor=str(folder))
        assert scorer.fingerprint != changed.fingerprint


def test_the_published_network_has_its_published_size():
    """By hand: a ViT-L/16 at 224 pixels, BERT-base with cross attention to it, and the head.

    ViT: patches 1024*(3*16*16) + 1024; 24 blocks of 12 * 1024^2 + 13 * 1024 (norms 4, qkv 3, out 1, inner 4 + 1); the rest
    1024 (class) + 197 * 1024 (places) + 2048 (last norm).
    """
    vision = 1024 * 768 + 1024 + 24 * (12 * 1024**2 + 13 * 1024) + 1024 + 197 * 1024 + 2 * 1024
    words = (30524 + 512) * 768 + 2 * 768
    self_attention = 4 * (768 * 768 + 768) + 2 * 768
    cross_attention = 2 * (768 * 768 + 768) + 2 * (1024 * 768 + 768) + 2 * 768
    inner = 768 * 3072 + 3072 + 3072 * 768 + 768 + 2 * 768
    head = 768 * 1024 + 1024 + 1024 * 128 + 128 + 128 * 64 + 64 + 64 * 16 + 16 + 16 + 1
    expected = vision + words + 12 * (self_attention + cross_attention + inner) + head
    assert count_parameters("imagereward", {}) == expected


def test_a_folder_tells_its_size(folder, weights):
    known = sum(value.numel() for name, value in weights.items() if "_proj." not in name.removeprefix("blip.")[:12])
    assert count_parameters("imagereward", {"model": str(folder)}) == known


def test_clips_are_refused_before_anything_is_loaded():
    with pytest.raises(JudgeError, match="judge 'imagereward' takes images only"):
        check_kind("imagereward", {}, load_checklist("video"))


def test_what_cannot_be_loaded_is_said_in_one_line(folder, weights, tmp_path):
    with pytest.raises(
        JudgeError, match=r"cannot be loaded \(it holds no ImageReward.safetensors or ImageReward.pt\); give"
    ):
        load_judge("imagereward", model=str(tmp_path), processor=str(folder))
    torch.save({"other": torch.zeros(1)}, tmp_path / "ImageReward.pt")
    with pytest.raises(JudgeError, match=r"it holds no weights named blip.visual_encoder.…"):
        load_judge("imagereward", model=str(tmp_path), processor=str(folder))
    short = {name: value for name, value in weights.items() if name != "blip.visual_encoder.norm.bias"}
    torch.save(short, tmp_path / "ImageReward.pt")
    with pytest.raises(JudgeError, match=r"the weight 'post_layernorm.bias' is missing"):
        load_judge("imagereward", model=str(tmp_path), processor=str(folder))


def test_a_pickle_that_holds_code_is_not_run(folder, tmp_path):
    torch.save({"model": print}, tmp_path / "ImageReward.pt")
    with pytest.raises(JudgeError, match="cannot be loaded"):
        load_judge("imagereward", model=str(tmp_path), processor=str(folder))
