import copy
import importlib.util
import logging
import re
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reward import Clip, JudgeError, Question, VisionReward, load_checklist, load_judge
from reward.judges.options import VlmMode
from reward.judges.packing import _block_mask, _lay_out, shared_length
from reward.judges.vlm import VLMJudge
from reward.judges.yes_no import answer_mass, p_yes, yes_no_tokens
from tests.reward.judges.small_vlms import BUILDERS, gemma3, lfm2_vl, paligemma, qwen2_5_vl, qwen3_5, tokenizer

PROMPTS = ["a red cat", 'two "dogs" {x} [[prompt]] in {prompt}']
IMAGE = load_checklist("image").questions[:10]
VIDEO = load_checklist("video").questions[:8]


@pytest.fixture(scope="module")
def media() -> dict[str, list]:
    """Two of each, of different sizes and shapes."""
    rng = np.random.default_rng(0)

    def pixels(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, (*shape, 3), dtype=np.uint8)

    pictures = [Image.fromarray(pixels(70, 130)), Image.fromarray(pixels(100, 60))]
    clips = [Clip(pixels(8, 64, 80), np.arange(8) / 4), Clip(pixels(8, 64, 80), np.arange(8) / 4)]
    return {"image": pictures, "video": clips}


@pytest.fixture(scope="module")
def short_clip() -> Clip:
    return Clip(np.random.default_rng(1).integers(0, 256, (5, 48, 80, 3), dtype=np.uint8), np.arange(5) / 4)


@pytest.fixture(scope="module")
def qwen():
    return BUILDERS["qwen2_5_vl"]("sdpa")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", BUILDERS)
def test_one_look_answers_as_many_looks_do(family, attention, media):
    """Takes seconds: every mode on every family, pictures and clips, alone and in a batch, in each kind of attention."""
    model, processor = BUILDERS[family](attention)
    reference = VLMJudge(model, processor=processor, mode="sequential")
    assert reference.kinds == (("image",) if family == "idefics3" else ("image", "video"))
    cases: list[tuple[VlmMode, int]] = [("packed", 1), ("packed", 2), ("batched", 1), ("batched", 2), ("copied", 2)]
    for kind in reference.kinds:
        questions = IMAGE if kind == "image" else VIDEO
        expected = reference.answer(media[kind], PROMPTS, questions)
        assert expected.shape == (2, len(questions))
        assert expected.std(axis=1).min() > 1e-3, (
            "the model does not tell questions apart: the test would prove nothing"
        )
        assert abs(expected[0] - expected[1]).max() > 1e-3
        for mode, batch_size in cases:
            judge = VLMJudge(model, processor=processor, mode=mode, batch_size=batch_size, max_packed_tokens=70)
            got = judge.answer(media[kind], PROMPTS, questions)
            np.testing.assert_allclose(got, expected, atol=1e-4, err_msg=f"{kind} {mode} {batch_size}")
            assert judge.used_mode == mode
        auto = VLMJudge(model, processor=processor)
        np.testing.assert_allclose(auto.answer(media[kind], PROMPTS, questions), expected, atol=1e-4)
        assert auto.used_mode == "packed"


def test_the_picture_is_looked_at_once(qwen, media):
    model, processor = qwen
    looks, tokens = [], []
    vision = model.base_model.visual.register_forward_pre_hook(lambda *_: looks.append(1))
    language = model.get_decoder().register_forward_pre_hook(
        lambda _m, _a, kwargs: tokens.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    judge = VLMJudge(model, processor=processor, mode="packed")
    judge.answer(media["image"][1:], PROMPTS[1:], IMAGE[:2])  # compares the mode with "sequential", once
    looks.clear()
    tokens.clear()
    try:
        judge.answer(media["image"][:1], PROMPTS[:1], IMAGE)
        num_looks, num_tokens, prefix = len(looks), sum(tokens), tokens[0]
        looks.clear()
        tokens.clear()
        VLMJudge(model, processor=processor, mode="sequential").answer(media["image"][:1], PROMPTS[:1], IMAGE)
    finally:
        vision.remove()
        language.remove()
    assert (num_looks, len(looks)) == (1, len(IMAGE))
    assert num_tokens == sum(tokens) - (len(IMAGE) - 1) * prefix


@pytest.mark.parametrize("family", [name for name in BUILDERS if name != "idefics3"])
def test_clips_of_any_length_go_together(family, media, short_clip):
    """SmolVLM's processor tells every clip of a batch the number of frames of the longest; others fail."""
    model, processor = BUILDERS[family]("sdpa")
    one_frame = Clip(short_clip.frames[:1], short_clip.times_s[:1])
    clips, prompts = [media["video"][0], short_clip, media["video"][1], one_frame], ["a", "b", "c", "d"]
    expected = VLMJudge(model, processor=processor, mode="sequential").answer(clips, prompts, VIDEO)
    judge = VLMJudge(model, processor=processor, batch_size=4)
    np.testing.assert_allclose(judge.answer(clips, prompts, VIDEO), expected, atol=1e-4)


def test_an_item_that_the_processor_refuses_is_named_and_the_others_scored(qwen, media):
    judge = VLMJudge(qwen[0], processor=qwen[1], batch_size=3)
    reward = VisionReward(judge, "image", questions=["clarity_1"])
    narrow = Image.new("RGB", (600, 2))
    scores = reward.score([media["image"][0], narrow, media["image"][1]], "", on_error="record")
    assert list(scores.failures) == [1]
    assert "aspect ratio" in scores.failures[1]
    bare = copy.copy(qwen[1])
    bare.chat_template = None
    with pytest.raises(JudgeError, match="chat template"):
        VLMJudge(qwen[0], processor=bare).answer(media["image"][:1], [""], IMAGE)


def test_a_model_with_an_adapter_is_a_model(media):
    from peft import LoraConfig, get_peft_model

    model, processor = BUILDERS["qwen2_5_vl"]("sdpa")
    expected = VLMJudge(model, processor=processor).answer(media["image"], PROMPTS, IMAGE)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    judge = VLMJudge(adapted, processor=processor)
    np.testing.assert_allclose(judge.answer(media["image"], PROMPTS, IMAGE), expected, atol=1e-4)


def test_an_offloaded_model_has_a_fingerprint(qwen, media, tmp_path):
    qwen[0].save_pretrained(tmp_path / "model")
    qwen[1].save_pretrained(tmp_path / "model")
    device_map = {"model.visual": "cpu", "model.language_model": "disk", "lm_head": "cpu"}
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(
        tmp_path / "model", device_map=device_map, offload_folder=str(tmp_path / "offload"), dtype=torch.float32
    )
    judge = VLMJudge(model, processor=qwen[1])
    assert judge.fingerprint.startswith("vlm:")
    expected = VLMJudge(qwen[0], processor=qwen[1]).answer(media["image"], PROMPTS, IMAGE)
    np.testing.assert_allclose(judge.answer(media["image"], PROMPTS, IMAGE), expected, atol=1e-4)


def test_one_question_and_one_repeated_question(qwen, media):
    model, processor = qwen
    question = Question(id="q", text="Is the picture sharp?")
    one = VLMJudge(model, processor=processor, mode="packed").answer(media["image"], PROMPTS, [question])
    twice = VLMJudge(model, processor=processor, mode="packed").answer(media["image"], PROMPTS, [question, question])
    np.testing.assert_allclose(twice, np.repeat(one, 2, axis=1), atol=1e-5)


def test_half_precision_stays_near(media):
    model, processor = BUILDERS["qwen2_5_vl"]("sdpa")
    expected = VLMJudge(model, processor=processor, mode="sequential").answer(media["image"], PROMPTS, IMAGE)
    half = VLMJudge(model.to(torch.bfloat16), processor=processor)
    np.testing.assert_allclose(half.answer(media["image"], PROMPTS, IMAGE), expected, atol=0.05)
    assert half.used_mode == "packed"


def test_windowed_attention_is_asked_in_a_batch(media):
    """Its layers keep only the last few keys: what is packed behind would push the picture out."""
    window = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}
    model, processor = qwen2_5_vl("eager", text=window)
    expected = VLMJudge(model, processor=processor, mode="sequential").answer(media["image"], PROMPTS, IMAGE)
    for batch_size in (1, 2):
        judge = VLMJudge(model, processor=processor, batch_size=batch_size)
        np.testing.assert_allclose(judge.answer(media["image"], PROMPTS, IMAGE), expected, atol=1e-4)
        assert judge.used_mode == "batched"


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("build", [qwen3_5, lfm2_vl])
def test_running_states_are_copied_for_each_question(build, attention, media, caplog):
    """Linear attention and convolutions keep a state in place of keys; padding would become a part of it.

    Takes seconds: two families without their fast kernels.
    """
    model, processor = build(attention)
    reference = VLMJudge(model, processor=processor, mode="sequential")
    cases: list[tuple[VlmMode, int]] = [("copied", 1), ("auto", 2)]
    refusals: list[tuple[VlmMode, str]] = [("packed", "more than keys"), ("batched", "a running state, which padding")]
    for kind in reference.kinds:
        questions = IMAGE if kind == "image" else VIDEO
        expected = reference.answer(media[kind], PROMPTS, questions)
        assert expected.std(axis=1).min() > 1e-3
        for mode, batch_size in cases:
            judge = VLMJudge(model, processor=processor, mode=mode, batch_size=batch_size)
            np.testing.assert_allclose(judge.answer(media[kind], PROMPTS, questions), expected, atol=1e-5)
            assert judge.used_mode == "copied"
    assert "reward" not in {each.name.split(".")[0] for each in caplog.records}  # no warning: all is as expected
    for mode, why in refusals:
        judge = VLMJudge(model, processor=processor, mode=mode)
        with pytest.raises(JudgeError, match=rf"^mode='{mode}' does not fit \w+ForCond.*{why}.*; use mode='auto'$"):
            judge.answer(media["image"], PROMPTS, IMAGE)


def test_a_picture_goes_through_linear_attention_once(media):
    model, processor = qwen3_5("sdpa")
    looks = []
    judge = VLMJudge(model, processor=processor)
    judge.answer(media["image"][1:], PROMPTS[1:], IMAGE[:2])
    with model.base_model.visual.register_forward_pre_hook(lambda *_: looks.append(1)):
        judge.answer(media["image"][:1], PROMPTS[:1], IMAGE)
    assert len(looks) == 1


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("window", "mode"), [(4096, "packed"), (69, "packed"), (68, "batched")])
def test_windows_longer_than_the_text_are_packed(window, mode, attention, media):
    """13 tokens of picture and opening words, and up to 55 of a question: 69 hold the longest question alone."""
    model, processor = gemma3(attention, window=window)
    expected = VLMJudge(model, processor=processor, mode="sequential").answer(media["image"], PROMPTS, IMAGE)
    assert expected.std(axis=1).min() > 1e-3
    for batch_size in (1, 2):
        judge = VLMJudge(model, processor=processor, batch_size=batch_size)
        np.testing.assert_allclose(judge.answer(media["image"], PROMPTS, IMAGE), expected, atol=1e-5)
        assert judge.used_mode == mode
    judge = VLMJudge(model, processor=processor, mode="packed")
    if mode == "packed":
        np.testing.assert_allclose(judge.answer(media["image"], PROMPTS, IMAGE), expected, atol=1e-5)
    else:
        with pytest.raises(
            JudgeError, match=r"mode='packed' does not fit Gemma3.*13 tokens of picture and words and 55"
        ):
            judge.answer(media["image"], PROMPTS, IMAGE)


def test_what_came_before_does_not_change_the_mode():
    """A run that was stopped goes on with other items first; its answers must be the same to the last bit."""
    window = {"use_sliding_window": True, "sliding_window": 100, "max_window_layers": 1}
    model, processor = qwen2_5_vl("sdpa", text=window, max_pixels=28 * 28 * 200)
    rng = np.random.default_rng(0)
    small, large = (Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for side in (84, 336))
    expected = VLMJudge(model, processor=processor, mode="sequential").answer([small, large], PROMPTS, IMAGE)
    forwards, backwards = (VLMJudge(model, processor=processor) for _ in range(2))
    rows = {}
    for judge, order in ((forwards, (0, 1)), (backwards, (1, 0))):
        modes = {}
        for row in order:
            rows[judge, row] = judge.answer([[small, large][row]], [PROMPTS[row]], IMAGE)
            modes[row] = judge.used_mode
        assert modes == {0: "packed", 1: "batched"}
    for row in (0, 1):
        np.testing.assert_array_equal(rows[forwards, row], rows[backwards, row])
        np.testing.assert_allclose(rows[forwards, row][0], expected[row], atol=1e-4)
    with pytest.raises(JudgeError, match=r"mode='packed' does not fit"):
        VLMJudge(model, processor=processor, mode="packed").answer([small, large], PROMPTS, IMAGE)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_prefix_that_sees_the_question_is_not_shared(attention, media, caplog):
    """PaliGemma's picture and words see each other; its processor also returns labels, which no question has."""
    model, processor = paligemma(attention)
    with caplog.at_level(logging.WARNING):
        judge = VLMJudge(model, processor=processor, batch_size=2)
        answers = judge.answer(media["image"], PROMPTS, IMAGE)
    assert judge.used_mode == "sequential"
    assert (
        "'sequential' (one by one, a whole pass each, which is slow); not in mode 'packed' or 'batched' or 'copied': its processor puts its own tokens"
        in caplog.text
    )
    assert answers.std(axis=1).min() > 1e-3
    text = judge._text(media["image"][1], IMAGE[3].ask(PROMPTS[1]))
    inputs = processor(text=[text], images=[media["image"][1]], return_tensors="pt", add_special_tokens=False)
    assert "labels" in inputs
    with torch.inference_mode():
        logits = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits[0, -1]
    assert answers[1, 3] == pytest.approx(p_yes(logits[None], judge.yes, judge.no, ["q"]).item(), abs=1e-6)
    for mode in ("packed", "batched", "copied"):
        with pytest.raises(JudgeError, match=rf"^mode='{mode}' does not fit PaliGemma.*; use mode='auto'$"):
            VLMJudge(model, processor=processor, mode=mode).answer(media["image"], PROMPTS, IMAGE)


@pytest.fixture
def spoil(qwen):
    """`spoil(when, how)`: the language model's passes behind a cache are changed by `how` if `when(mask)`."""
    decoder, handles = qwen[0].get_decoder(), []

    def attach(when, how):
        def hook(_module, arguments, named):
            cache = named.get("cache") or named.get("past_key_values")
            if cache is not None and cache.get_seq_length() and when(named["attention_mask"]):
                named = how(named)
            return arguments, named

        handles.append(decoder.register_forward_pre_hook(hook, with_kwargs=True))

    yield attach
    for handle in handles:
        handle.remove()


def forget_positions(named: dict) -> dict:
    return named | {"position_ids": named["position_ids"] * 0}


def fail(named: dict) -> dict:
    raise RuntimeError("the kernel takes no such mask\nsee the log")


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (forget_positions, "its log-odds of yes are [0-9.]+ away from those of questions asked one by one"),
        (fail, r"it fails \(RuntimeError: the kernel takes no such mask\)"),
    ],
)
def test_a_mode_that_does_not_fit_is_not_used(qwen, media, spoil, caplog, how, why):
    model, processor = qwen
    expected = VLMJudge(model, processor=processor, mode="sequential").answer(media["image"], PROMPTS, IMAGE)
    spoil(lambda mask: mask.ndim == 4, how)
    judge = VLMJudge(model, processor=processor)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_allclose(judge.answer(media["image"], PROMPTS, IMAGE), expected, atol=1e-4)
    assert judge.used_mode == "batched"
    assert re.search(f"Qwen2_5.*: questions are asked in mode 'batched'; not in mode 'packed': {why}", caplog.text)
    with pytest.raises(JudgeError, match=f"^mode='packed' does not fit Qwen2_5.*: {why}.*; use mode='auto'$"):
        VLMJudge(model, processor=processor, mode="packed").answer(media["image"], PROMPTS, IMAGE)
    spoil(lambda mask: mask.ndim == 2, how)
    judge = VLMJudge(model, processor=processor)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_allclose(judge.answer(media["image"], PROMPTS, IMAGE), expected, atol=1e-4)
    assert judge.used_mode == "sequential"
    assert "one by one, a whole pass each, which is slow" in caplog.text


def test_loads_from_a_folder_and_scores(qwen, media, tmp_path):
    model, processor = qwen
    model.save_pretrained(tmp_path / "judge")
    processor.save_pretrained(tmp_path / "judge")
    judge = load_judge("vlm", model=str(tmp_path / "judge"), dtype="float32")
    direct = VLMJudge(model, processor=processor)
    assert judge.fingerprint == direct.fingerprint
    checklist = load_checklist("image").only([q.id for q in IMAGE])
    scores = VisionReward(judge, checklist).score(media["image"], PROMPTS)
    np.testing.assert_allclose(scores.p_yes, direct.answer(media["image"], PROMPTS, IMAGE), atol=1e-4)
    alignment = scores.answers[:, 0]
    assert ((alignment > 0) & (alignment < 1)).all()  # VQAScore: a number, not +1 or -1
    half = load_judge(
        "vlm", model=str(tmp_path / "judge"), dtype="bfloat16", device_map="cpu", attn_implementation="eager"
    )
    assert half.model.dtype == torch.bfloat16  # type: ignore[attr-defined]
    assert half.model.config.get_text_config()._attn_implementation == "eager"  # type: ignore[attr-defined]
    if importlib.util.find_spec("bitsandbytes") is None:  # passed on: transformers says what is missing
        with pytest.raises(JudgeError, match="bitsandbytes"):
            load_judge("vlm", model=str(tmp_path / "judge"), quantization="4bit")


def test_the_fingerprint_follows_weights_words_frames_and_mode(qwen, media):
    model, processor = qwen
    plain = VLMJudge(model, processor=processor).fingerprint
    modes = [VLMJudge(model, processor=processor, mode=mode).fingerprint for mode in get_args(VlmMode)]
    assert modes[0] == plain
    assert len(set(modes)) == len(modes)  # they differ by rounding
    asked = VLMJudge(model, processor=processor)
    asked.answer(media["image"][:1], PROMPTS[:1], IMAGE)
    assert asked.fingerprint == plain  # though it is known now which mode is used
    assert VLMJudge(model, processor=processor, template="{question} Yes or no?").fingerprint != plain
    assert VLMJudge(model, processor=processor, num_frames=4).fingerprint != plain
    coarser = qwen2_5_vl("sdpa", max_pixels=28 * 28 * 4)[1]
    assert VLMJudge(model, processor=coarser).fingerprint != plain
    other, _ = BUILDERS["qwen2_5_vl"]("sdpa")
    with torch.no_grad():
        other.base_model.language_model.layers[1].mlp.up_proj.weight.mul_(1.001)
    assert VLMJudge(other, processor=processor).fingerprint != plain


def test_clips_need_a_judge_that_takes_them():
    model, processor = BUILDERS["idefics3"]("eager")
    with pytest.raises(JudgeError, match="images only"):
        VisionReward(VLMJudge(model, processor=processor), "video")


def test_mistakes_are_named(qwen, media, tmp_path):
    model, processor = qwen
    with pytest.raises(JudgeError, match="its processor"):
        VLMJudge(model)
    with pytest.raises(JudgeError, match=r"mode='fast' is not possible; use 'auto', 'packed'"):
        load_judge("vlm", model="x", mode="fast")
    with pytest.raises(JudgeError, match="no place for the question; put"):
        VLMJudge(model, processor=processor, template="Well?")
    with pytest.raises(JudgeError, match=r"nobody/nothing.*cannot be loaded"):
        load_judge("vlm", model="nobody/nothing")
    with pytest.raises(JudgeError, match="needs the option 'model'"):
        load_judge("vlm")
    with pytest.raises(JudgeError, match=r"no option 'modle'.*did you mean 'model'\?"):
        load_judge("vlm", modle="x")
    with pytest.raises(JudgeError, match="quantization='2bit' is not possible; use '4bit' or '8bit'"):
        load_judge("vlm", model="x", quantization="2bit")
    for option in ("batch_size", "num_frames", "max_packed_tokens"):
        none: dict[str, Any] = {option: 0}
        with pytest.raises(JudgeError, match=f"{option}=0"):
            VLMJudge(model, processor=processor, **none)
    judge = VLMJudge(model, processor=processor, batch_size=3)
    with pytest.raises(JudgeError, match=r"control token '<\|image_pad\|>'"):
        judge.answer(media["image"][:1], ["a <|image_pad|> cat"], IMAGE)
    reward = VisionReward(judge, load_checklist("image").only(["alignment", "clarity_1"]))
    scores = reward.score([media["image"][0]] * 3, ["a cat", "<|im_end|>", "a dog"], on_error="record")
    assert list(scores.failures) == [1]
    assert np.isfinite(scores.total[[0, 2]]).all()


def test_every_spelling_counts():
    words = tokenizer()
    yes, no = yes_no_tokens(words)
    assert {str(words.decode([i])).strip() for i in yes} == {"yes", "Yes", "YES"}
    assert {str(words.decode([i])).strip() for i in no} == {"no", "No", "NO"}
    assert {str(words.decode([i])) for i in yes} >= {"yes", " yes"}


def test_a_vocabulary_without_yes_is_refused():
    class Words:
        all_special_ids = ()

        def get_vocab(self):
            return {"no": 0, "maybe": 1}

        def convert_tokens_to_string(self, tokens):
            return tokens[0]

    with pytest.raises(JudgeError, match="no token for 'yes'"):
        yes_no_tokens(Words())


def test_p_yes_by_hand():
    logits = torch.log(torch.tensor([[0.3, 0.1, 0.1, 0.5]]))
    assert p_yes(logits, [0, 1], [2], ["q"]).item() == pytest.approx(0.8)
    assert answer_mass(logits, [0, 1], [2]).item() == pytest.approx(0.5)
    with pytest.raises(JudgeError, match=r"'q'.*not answering"):
        p_yes(torch.log(torch.tensor([[1e-5, 1e-5, 1 - 2e-5]])), [0], [1], ["q"])
    with pytest.raises(JudgeError, match=r"'q'.*not answering"):
        p_yes(torch.full((1, 3), float("nan")), [0], [1], ["q"])


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=5))
def test_what_rows_share(rows):
    shared = shared_length(rows)
    assert all(row[:shared] == rows[0][:shared] for row in rows)
    assert shared < min(map(len, rows))
    longer = shared + 1
    assert longer == min(map(len, rows)) or any(row[:longer] != rows[0][:longer] for row in rows)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 5), min_size=3, max_size=3), min_size=1, max_size=3), st.integers(1, 6))
def test_a_question_sees_the_prefix_and_itself(lengths, prefix_length):
    slots = [[list(range(1, row[q] + 1)) for row in lengths] for q in range(3)]
    widths = [max(row[q] for row in lengths) for q in range(3)]
    ids, real, slot, offset = _lay_out(slots, widths, device=torch.device("cpu"))
    prefix = torch.ones(len(lengths), prefix_length, dtype=torch.bool)
    prefix[0, 0] = False
    allowed = _block_mask(prefix, real, slot)
    for n in range(len(lengths)):
        for i in range(ids.shape[1]):
            if real[n, i]:
                seen = allowed[n, i, prefix_length:].nonzero().flatten()
                assert (slot[seen] == slot[i]).all()
                assert real[n, seen].all()
                assert seen.max() == i
                assert len(seen) == offset[n, i] + 1 == ids[n, i]
                assert (allowed[n, i, :prefix_length] == prefix[n]).all()


def test_smolvlm_without_its_library_is_said_in_one_line(tmp_path, monkeypatch):
    model, processor = BUILDERS["smolvlm"]("eager")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", None)  # as if it were not installed
    with pytest.raises(JudgeError, match=r"needs num2words; pip install 'mpo\[smolvlm\]'"):
        load_judge("vlm", model=str(tmp_path))
