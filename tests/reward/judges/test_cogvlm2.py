import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reward import Clip, JudgeError, VisionReward, load_checklist, load_judge
from reward.media import read_clip
from tests.reward.judges.small_vlms import tokenizer
from tests.reward.judges.stand_in_cogvlm2 import StandInConfig, StandInForCausalLM

VIDEO = load_checklist("video").questions[:8]
PROMPTS = ["a red cat", 'two "dogs" {x}']


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A checkpoint with its own modelling code beside it."""
    folder = tmp_path_factory.mktemp("cogvlm2") / "checkpoint"
    words = tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        StandInForCausalLM(StandInConfig(vocab_size=len(words))).save_pretrained(folder)
    words.save_pretrained(folder)
    shutil.copy(Path(__file__).parent / "stand_in_cogvlm2.py", folder / "modeling_stand_in.py")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {
        "AutoConfig": "modeling_stand_in.StandInConfig",
        "AutoModelForCausalLM": "modeling_stand_in.StandInForCausalLM",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.fixture(autouse=True)
def _code_of_checkpoints_apart(monkeypatch, tmp_path):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("transformers_modules"):
            del sys.modules[name]


@pytest.fixture
def clips() -> list[Clip]:
    frames = np.random.default_rng(0).integers(0, 256, (2, 120, 16, 24, 3), dtype=np.uint8)
    return [read_clip(Clip(each, np.arange(120) / 24), sampling=load_sampling()) for each in frames]


def load_sampling():
    from reward.judges.cogvlm2 import CogVLM2Judge

    return CogVLM2Judge.sampling


def test_code_that_comes_with_weights_is_run_only_when_asked(folder):
    with pytest.raises(JudgeError, match="trust_remote_code=False is not possible"):
        load_judge("cogvlm2", model=folder)


def test_a_shared_look_answers_as_many_do(folder, clips):
    options = {"model": folder, "trust_remote_code": True, "dtype": "float32"}
    expected = load_judge("cogvlm2", mode="sequential", **options).answer(clips, PROMPTS, VIDEO)
    assert expected.std(axis=1).min() > 1e-3
    assert abs(expected[0] - expected[1]).max() > 1e-3
    judge = load_judge("cogvlm2", mode="shared", **options)
    judge.answer(clips[1:], PROMPTS[1:], VIDEO[:2])  # compares the mode with "sequential", once
    looks = type(judge.model).num_looks  # type: ignore[attr-defined]
    np.testing.assert_allclose(judge.answer(clips, PROMPTS, VIDEO), expected, atol=1e-4)
    assert type(judge.model).num_looks == looks + 2  # type: ignore[attr-defined]
    auto = load_judge("cogvlm2", **options)
    np.testing.assert_allclose(auto.answer(clips, PROMPTS, VIDEO), expected, atol=1e-4)
    assert auto.used_mode == "shared"  # type: ignore[attr-defined]


@pytest.mark.parametrize("times_s", [(0.0,), (0.0, 0.5, 1.0, 1.4, 4.0)])
def test_every_question_about_a_clip_is_answered(folder, times_s):
    """The whole checklist, of one frame and of uneven times: behind one look as one by one."""
    options = {"model": folder, "trust_remote_code": True, "dtype": "float32"}
    questions = load_checklist("video").questions
    frames = np.random.default_rng(0).integers(0, 256, (len(times_s), 16, 24, 3), dtype=np.uint8)
    clip = read_clip(Clip(frames, np.array(times_s)), sampling=load_sampling())
    expected = load_judge("cogvlm2", mode="sequential", **options).answer([clip], PROMPTS[:1], questions)
    assert expected.std() > 1e-3
    judge = load_judge("cogvlm2", mode="shared", **options)
    np.testing.assert_allclose(judge.answer([clip], PROMPTS[:1], questions), expected, atol=1e-4)


def test_the_number_behind_a_frame_is_its_second(folder):
    """The published code counts frames and means seconds. Of uneven times, each second has the frame nearest to it."""
    judge = load_judge("cogvlm2", model=folder, trust_remote_code=True, dtype="float32")
    times_s = np.array([10.0, 10.5, 10.9, 12.1, 14.4, 14.6])  # seconds 0 to 5 from the first: 10, 11 … 15
    frames = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.full((8, 8, 3), 40, np.uint8)
    built = judge._build(read_clip(Clip(frames, times_s), sampling=judge.sampling), "Well?")  # type: ignore[attr-defined]
    looks = (built["images"][0][0].mean(dim=(1, 2, 3)) * 255 / 40).round().int().tolist()
    assert looks == [0, 2, 3, 3, 4, 5]
    ids, kinds = built["input_ids"][0], built["token_type_ids"][0]
    words = tokenizer().decode(ids[kinds == 0])
    assert words.startswith(f"{tokenizer().decode(ids[:1])}012345Question:")


def test_the_mode_counts_for_the_fingerprint_as_requested(folder, clips):
    options = {"model": folder, "trust_remote_code": True, "dtype": "float32"}
    modes = {load_judge("cogvlm2", mode=mode, **options).fingerprint for mode in ("auto", "shared", "sequential")}
    assert len(modes) == 3
    judge = load_judge("cogvlm2", **options)
    before = judge.fingerprint
    judge.answer(clips[:1], PROMPTS[:1], VIDEO)
    assert judge.fingerprint == before


def test_what_cannot_be_shared_is_asked_one_by_one(folder, clips, monkeypatch, caplog):
    options = {"model": folder, "trust_remote_code": True, "dtype": "float32"}
    judge = load_judge("cogvlm2", **options)
    expected = load_judge("cogvlm2", mode="sequential", **options).answer(clips, PROMPTS, VIDEO)
    forward = type(judge.model).forward  # type: ignore[attr-defined]

    def forgets(self, *arguments, past_key_values=None, **named):
        return forward(self, *arguments, past_key_values=None, **named)

    monkeypatch.setattr(type(judge.model), "forward", forgets)  # type: ignore[attr-defined]
    np.testing.assert_allclose(judge.answer(clips, PROMPTS, VIDEO), expected, atol=1e-4)
    assert judge.used_mode == "sequential"  # type: ignore[attr-defined]
    assert "mode 'sequential' (one by one" in caplog.text
    assert "not in mode 'shared': " in caplog.text
    with pytest.raises(JudgeError, match=r"mode='shared' does not fit .*checkpoint: .*; use mode='auto'"):
        load_judge("cogvlm2", mode="shared", **options).answer(clips, PROMPTS, VIDEO)


def test_queries_are_those_of_the_published_code(folder, clips):
    judge = load_judge("cogvlm2", model=folder, trust_remote_code=True, dtype="float32")
    queries = judge._queries("a cat", VIDEO[:2])  # type: ignore[attr-defined]
    assert queries == [VIDEO[0].ask("a cat") + "\n", VIDEO[1].ask("a cat")]
    built = judge._build(clips[0], "Well?")  # type: ignore[attr-defined]
    words = tokenizer().decode(built["input_ids"][0, -20:])
    assert words.endswith("Question: Well? Answer:")
    assert built["images"][0][0].shape[0] == 6  # five seconds: 0, 1, 2, 3, 4 and 5 (the last frame)
    image = load_judge("cogvlm2", model=folder, kind="image", trust_remote_code=True, dtype="float32")
    built = image._build(Image.new("RGB", (20, 20)), "Well?")  # type: ignore[attr-defined]
    assert tokenizer().decode(built["input_ids"][0]).endswith("Question: Well? Short answer:")


def test_frames_are_one_a_second_and_at_most_24(folder):
    """124 frames at 24 Hz: seconds 0 to 5, so frames 0, 24, 48, 72, 96, 120."""
    frames = np.arange(124, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    taken = read_clip(Clip(frames, np.arange(124) / 24), sampling=load_sampling())
    assert taken.frames[:, 0, 0, 0].tolist() == [0, 24, 48, 72, 96, 120]
    long = read_clip(Clip(frames, np.arange(124) * 0.5), sampling=load_sampling())
    assert long.frames[:, 0, 0, 0].tolist() == list(range(0, 48, 2))


def test_scores_a_clip(folder):
    judge = load_judge("cogvlm2", model=folder, trust_remote_code=True, dtype="float32")
    clip = np.random.default_rng(0).random((16, 3, 20, 20), dtype=np.float32)
    scores = VisionReward(judge, "video").score([clip], ["a cat"], fps=8.0)
    assert scores.total.shape == (1,)
    with pytest.raises(JudgeError, match="images"):
        VisionReward(judge, "image")


def test_a_model_of_another_kind_is_refused(folder, tmp_path):
    with pytest.raises(JudgeError, match="cannot be loaded"):
        load_judge("cogvlm2", model=str(tmp_path), trust_remote_code=True)
