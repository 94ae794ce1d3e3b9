"""What of a clip reaches each family of models: which frames, and which times."""

import copy
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from reward import Clip, JudgeError, VisionReward, load_checklist
from reward.judges.processing import chat_text, input_names, processor_tensors, takes_clips
from reward.judges.vlm import VLMJudge
from tests.reward.judges.small_vlms import BUILDERS, chat_template, gemma3, idefics3, lfm2_vl, paligemma, qwen3_5

FAMILIES = {name: build for name, build in BUILDERS.items() if name != "idefics3"} | {"qwen3_5": qwen3_5}
PAIRS = {"qwen2_5_vl", "qwen3_vl", "qwen3_5"}  # two frames are taken together; an odd one out is shown twice
UNEVEN_S = (10.0, 10.5, 11.25, 13.0, 75.0)  # a file's first frame may come late; times count from it


@pytest.fixture(scope="module")
def built() -> dict[str, tuple[Any, Any]]:
    return {name: build("sdpa") for name, build in FAMILIES.items()}


def grey_clip(times_s: tuple[float, ...], greys: list[int] | None = None) -> Clip:
    """Frames of one grey each, so that a frame can be told by its pixels' mean."""
    greys = greys or [40 + 20 * i for i in range(len(times_s))]
    frames = np.array(greys, np.uint8)[:, None, None, None] * np.ones((56, 56, 3), np.uint8)
    return Clip(frames, np.array(times_s))


def tensors(processor: Any, clip: Clip) -> dict[str, torch.Tensor]:
    return processor_tensors(processor, [clip], [chat_text(processor, clip, "Well?")])


def greys_seen(family: str, processor: Any, inputs: dict[str, torch.Tensor]) -> list[int]:
    """The grey of each frame, in the order in which they reach the model."""
    eye = processor.video_processor
    pixels = inputs["pixel_values_videos" if "pixel_values_videos" in inputs else "pixel_values"]
    if family in PAIRS:  # (patches, C x 2 frames x side x side), the patches of one pair after those of another
        pixels = pixels.unflatten(1, (3, 2, -1)).unflatten(0, (int(inputs["video_grid_thw"][0, 0]), -1))
        pixels = pixels.permute(0, 3, 2, 1, 4).flatten(0, 1)
    channels = pixels.reshape(-1, *pixels.shape[-3:]).mean(dim=(2, 3))
    mean, std = torch.tensor(eye.image_mean), torch.tensor(eye.image_std)
    return ((channels * std + mean) * 255).mean(dim=1).round().int().tolist()


def times_told(processor: Any, inputs: dict[str, torch.Tensor]) -> list[str]:
    """The times in the words around the frames."""
    words = processor.tokenizer.decode(inputs["input_ids"][0])
    return re.findall(r"(?:<|from )([\d.:]+)(?: seconds>|:<)", words)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_every_frame_reaches_the_model_in_order(family, count, built):
    _, processor = built[family]
    clip = grey_clip(UNEVEN_S[:count])
    expected = [40 + 20 * i for i in range(count)]
    if family in PAIRS and count % 2:
        expected.append(expected[-1])
    assert greys_seen(family, processor, tensors(processor, clip)) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_a_processor_samples_no_frames_of_its_own(family, built):
    """60 frames, 20 s: the processors' own settings would take 1 to 2 a second."""
    _, processor = built[family]
    eye = processor.video_processor
    before = eye.do_sample_frames, eye.num_frames, eye.fps
    eye.do_sample_frames, eye.num_frames, eye.fps = True, 4, None
    try:
        clip = grey_clip(tuple(np.arange(60) / 3), [100 + i for i in range(60)])
        assert greys_seen(family, processor, tensors(processor, clip)) == [100 + i for i in range(60)]
    finally:
        eye.do_sample_frames, eye.num_frames, eye.fps = before


@pytest.mark.parametrize(
    ("family", "count", "told"),
    [
        # The mean of each pair's times, an odd frame's own; 0.25 is rounded to even.
        *((qwen, 5, ["0.2", "2.1", "65.0"]) for qwen in ("qwen3_vl", "qwen3_5")),
        *((qwen, 1, ["0.0"]) for qwen in ("qwen3_vl", "qwen3_5")),
        ("smolvlm", 5, ["00:00", "00:00", "00:01", "00:03", "01:05"]),  # whole seconds
        ("smolvlm", 1, ["00:00"]),
        # These families have no words for times.
        *((silent, 5, []) for silent in ("qwen2_5_vl", "internvl", "llava_onevision")),
    ],
)
def test_the_words_tell_each_frame_s_own_time(family, count, told, built):
    _, processor = built[family]
    assert times_told(processor, tensors(processor, grey_clip(UNEVEN_S[:count]))) == told


def test_a_whole_second_is_not_told_as_the_one_before(built):
    """0.1 s steps: 1.0, 2.0 … come out of sums in floating point a little too low."""
    _, processor = built["smolvlm"]
    times_s = tuple(np.cumsum([0.7, *[0.1] * 40]))
    assert any((t - 0.7) % 1 > 0.999 for t in times_s)
    told = [int(text[-2:]) for text in times_told(processor, tensors(processor, grey_clip(times_s, [90] * 41)))]
    assert told == [i // 10 for i in range(41)]


@pytest.mark.parametrize("fps", [1.0, 2.0, 7.0, 8.0, 12.5, 16.0, 24.0, 30000 / 1001])
def test_a_rate_reaches_the_positions(fps, built):
    """Qwen2.5-VL is told one step for all pairs: 2 / fps s. Position of pair i: i x step x 4 a second, rounded down."""
    model, processor = built["qwen2_5_vl"]
    inputs = tensors(processor, grey_clip(tuple(np.arange(12) / fps), [90] * 12))
    assert inputs["second_per_grid_ts"].tolist() == pytest.approx([2 / fps], rel=1e-5)
    with torch.inference_mode():
        assert pair_positions(model, lambda: model(**inputs)) == [int(np.floor(i * 8 / fps + 1e-4)) for i in range(6)]


def test_uneven_times_are_a_mean_step_to_qwen2_5(built):
    """5 frames over 65 s: 16.25 s a frame, 32.5 a pair."""
    inputs = tensors(built["qwen2_5_vl"][1], grey_clip(UNEVEN_S))
    assert inputs["second_per_grid_ts"].tolist() == [32.5]


def pair_positions(model: Any, run: Callable[[], object]) -> list[int]:
    """The position in time of each pair of frames, from the first pair's, as the language model is given them."""
    asked: dict[str, Any] = {}
    passed: dict[str, Any] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _module, _args, named, to=to: to.update(named), with_kwargs=True)
        for module, to in ((model, asked), (model.get_decoder(), passed))
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    times = passed["position_ids"][-3, 0][asked["input_ids"][0] == model.config.video_token_id]
    per_pair = times.unflatten(0, (int(asked["video_grid_thw"][0, 0]), -1))[:, 0]
    return (per_pair - per_pair[0]).tolist()


def test_half_precision_keeps_the_times(built):
    """A pair every 14.05 s, 4 positions a second: the 6th is at 281, for which bfloat16 has 280 or 282."""
    model, processor = built["qwen2_5_vl"]
    half = VLMJudge(copy.deepcopy(model).to(torch.bfloat16), processor=processor, mode="sequential")
    clip, questions = grey_clip(tuple(np.arange(12) * 7.025), [90] * 12), load_checklist("video").questions[:1]
    positions = pair_positions(half.model, lambda: half.answer([clip], ["a red cat"], questions))
    assert positions == [0, 56, 112, 168, 224, 281]


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_takes_clips(family, built):
    model, processor = built[family]
    clip, questions = noisy_clip(), load_checklist("video").questions[:4]
    expected = VLMJudge(model, processor=processor, mode="sequential").answer([clip], ["a red cat"], questions)
    half = VLMJudge(copy.deepcopy(model).to(torch.bfloat16), processor=processor, mode="sequential")
    np.testing.assert_allclose(half.answer([clip], ["a red cat"], questions), expected, atol=0.1)


def noisy_clip(count: int = 5) -> Clip:
    frames = np.random.default_rng(0).integers(0, 256, (count, 48, 80, 3), dtype=np.uint8)
    return Clip(frames, np.array(UNEVEN_S[:count]))


@pytest.mark.parametrize("family", FAMILIES)
def test_one_look_answers_the_whole_checklist(family, built):
    """Seconds: all 64 questions, each in a whole pass too, about a clip of uneven times and an odd number of frames."""
    model, processor = built[family]
    questions, prompt = load_checklist("video").questions, 'two "dogs" {x}'
    expected = VLMJudge(model, processor=processor, mode="sequential").answer([noisy_clip()], [prompt], questions)
    assert expected.std() > 1e-3
    judge = VLMJudge(model, processor=processor)
    np.testing.assert_allclose(judge.answer([noisy_clip()], [prompt], questions), expected, atol=1e-4)
    assert judge.used_mode == ("copied" if family == "qwen3_5" else "packed")


@pytest.mark.parametrize("family", ["qwen3_vl", "smolvlm"])
def test_other_times_are_another_clip(family, built):
    model, processor = built[family]
    clip, questions = noisy_clip(), load_checklist("video").questions[:8]
    judge = VLMJudge(model, processor=processor)
    slower = Clip(clip.frames, clip.times_s * 3)
    shifted = Clip(clip.frames, clip.times_s + 7)
    p, p_slower, p_shifted = (judge.answer([each], ["a red cat"], questions) for each in (clip, slower, shifted))
    assert abs(p - p_slower).max() > 1e-4
    np.testing.assert_array_equal(p, p_shifted)


@pytest.mark.parametrize("build", [lfm2_vl, idefics3, gemma3, paligemma])
def test_a_family_without_clips_is_refused_before_anything_is_scored(build):
    model, processor = build("sdpa")
    assert not takes_clips(processor, input_names(model))
    with pytest.raises(
        JudgeError, match=r"^checklist 'video' is about videos; this judge takes images only; use a .*$"
    ):
        VisionReward(VLMJudge(model, processor=processor), "video")


@pytest.mark.parametrize(
    "template",
    [
        chat_template("<|vision_start|><|image_pad|><|vision_end|>", ""),  # passes over what it does not know
        chat_template("<|image_pad|>", "{{ raise_exception('no videos') }}"),
        None,
    ],
)
def test_a_chat_template_without_a_place_for_clips_is_refused(template, built):
    """The model would answer without having seen the clip."""
    model, processor = built["qwen2_5_vl"]
    silent = copy.copy(processor)
    silent.chat_template = template
    judge = VLMJudge(model, processor=silent)
    assert judge.kinds == ("image",)
    with pytest.raises(JudgeError, match="use a judge or model that takes videos, with a place for them in its chat"):
        VisionReward(judge, "video")


def test_frames_that_the_model_would_not_look_at_are_refused(built):
    model, processor = built["qwen2_5_vl"]
    assert takes_clips(processor, input_names(model))
    assert not takes_clips(processor, input_names(model) - {"pixel_values_videos"})
