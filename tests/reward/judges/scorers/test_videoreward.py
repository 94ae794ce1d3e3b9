"""Against the published inference (inference.py, vision_process.py, trainer.py) with peft's own LoRA, in float64."""

import json

import numpy as np
import pytest

from reward import JudgeError, VisionReward, load_checklist, load_judge
from reward.judges import check_kind
from reward.judges.loading import count_parameters
from reward.media import Clip
from tests.reward.judges.scorers.as_published import videoreward_scores
from tests.reward.judges.scorers.small_scorers import (
    NORMS,
    PROMPTS,
    clips,
    largest_difference,
    one_by_one,
    qwen2_vl,
    videoreward,
)

SMALL = 130 * 28 * 28  # pixels of a frame: fewer than published, so that tests are short; at least 128 * 28 * 28


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    qwen2_vl(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videoreward") / "model"


@pytest.fixture(scope="module")
def tuned(base, folder):
    return videoreward(folder, base, max_frame_pixels=SMALL)


@pytest.fixture(scope="module")
def scorer(base, folder, tuned):
    return judge(folder, base)


@pytest.fixture(scope="module")
def found(scorer):
    return scorer.answer(clips(), PROMPTS[: len(clips())], scorer.checklist.questions)


def judge(folder, base, **options):
    return load_judge("videoreward", model=str(folder), processor=str(base), **{"batch_size": 4, **options})


def test_scores_are_those_of_the_published_network(base, tuned, found):
    expected = videoreward_scores(base, tuned, clips(), PROMPTS[: len(clips())], NORMS, most_pixels=SMALL)
    assert np.std(expected, axis=0).min() > 0.02
    assert largest_difference(found, expected) < 1e-4


def test_a_batch_gives_what_single_items_give_in_any_order(scorer, found):
    """Clips of different sizes and lengths in one batch."""
    items, questions = clips(), scorer.checklist.questions
    prompts = PROMPTS[: len(items)]
    assert largest_difference(found[:3], one_by_one(scorer, items[:3], prompts[:3], questions)) < 1e-4
    assert largest_difference(found[2::-1], scorer.answer(items[2::-1], prompts[2::-1], questions)) < 1e-4


def test_its_total_is_the_published_sum(scorer, found):
    scores = VisionReward(scorer, scorer.checklist).score(clips()[:2], PROMPTS[:2])
    names = ("videoreward_visual", "videoreward_motion", "videoreward_alignment")
    assert scores.checklist.dimensions == names
    assert scores.total == pytest.approx(found[:2].sum(axis=1), abs=1e-5)


def test_only_the_numbers_that_are_asked_for_are_given(scorer, found):
    questions = scorer.checklist.questions[::-2]
    asked = scorer.answer(clips()[:1], PROMPTS[:1], questions)
    assert asked[0] == pytest.approx(found[0, ::-2], abs=1e-5)


def test_the_checkpoint_of_the_latest_step_is_taken(base, scorer, tmp_path):
    videoreward(tmp_path / "two", base, steps=(900, 11352), max_frame_pixels=SMALL)
    assert judge(tmp_path / "two", base).fingerprint == scorer.fingerprint
    videoreward(tmp_path / "other", base, steps=(900,), max_frame_pixels=SMALL)
    assert judge(tmp_path / "other", base).fingerprint != scorer.fingerprint


def test_the_fingerprint_changes_with_what_a_score_depends_on(base, folder, scorer, tmp_path):
    assert scorer.fingerprint == judge(folder, base, batch_size=1).fingerprint
    assert scorer.fingerprint != judge(folder, base, dtype="bfloat16").fingerprint
    config = json.loads((folder / "model_config.json").read_text())
    (tmp_path / "checkpoint-11352").symlink_to(folder / "checkpoint-11352")
    for part, name, value in [
        ("data_config", "fps", 4.0),
        ("data_config", "max_frame_pixels", 200704),
        ("inference_config", "MQ_mean", 0.0),
        ("peft_lora_config", "lora_alpha", 16),
        ("peft_lora_config", "use_rslora", True),
    ]:
        changed = config | {part: config[part] | {name: value}}
        (tmp_path / "model_config.json").write_text(json.dumps(changed))
        assert scorer.fingerprint != judge(tmp_path, base).fingerprint, name


def test_what_the_configuration_tells_needs_no_weights(base, scorer):
    expected = sum(each.numel() for each in scorer.model.parameters())
    assert count_parameters("videoreward", {"processor": str(base)}) == expected
    with pytest.raises(JudgeError, match="judge 'videoreward' takes videos only"):
        check_kind("videoreward", {}, load_checklist("image"))
    check_kind("videoreward", {}, load_checklist("video"))


def test_a_clip_of_one_frame_and_a_prompt_with_a_token_are_refused(scorer):
    with pytest.raises(JudgeError, match="the clip has 1 frame; VideoReward needs 2 or more"):
        scorer.answer([Clip(np.zeros((1, 32, 32, 3), np.uint8), np.zeros(1))], ["a"], scorer.checklist.questions)
    with pytest.raises(JudgeError, match=r"control token '<\|MQ_reward\|>'"):
        scorer.require_prompts(["a <|MQ_reward|>"], "video")


@pytest.mark.parametrize(
    ("name", "value"), [("sample_type", "multi_pts"), ("prompt_template_type", "simple"), ("num_frames", 8)]
)
def test_a_checkpoint_that_is_used_otherwise_is_refused(base, folder, tuned, tmp_path, name, value):
    config = json.loads((folder / "model_config.json").read_text())
    config["data_config"][name] = value
    (tmp_path / "model_config.json").write_text(json.dumps(config))
    with pytest.raises(
        JudgeError, match=rf"cannot be loaded \(data_config.{name} is {value!r}, not .*\); give a folder"
    ):
        judge(tmp_path, base)


def test_a_folder_without_checkpoint_is_refused(base, folder, tuned, tmp_path):
    (tmp_path / "model_config.json").write_bytes((folder / "model_config.json").read_bytes())
    with pytest.raises(JudgeError, match=r"\(it holds no checkpoint-N/model.pth\)"):
        judge(tmp_path, base)
