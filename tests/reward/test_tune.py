from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reward import Checklist, Question, VisionReward, load_checklist
from reward.checklist import SubDimension
from reward.errors import RewardError
from reward.judges.vlm import VLMJudge
from reward.pairs import judgements
from reward.preferences import Annotation
from reward.tune import AnswerCollator, TuneSettings, balanced_examples, tune
from tests.reward.judges.small_vlms import BUILDERS

FAMILIES = ["qwen2_5_vl", "qwen3_vl", "smolvlm", "internvl", "llava_onevision"]


def annotations(count: int = 12, kind: str = "image") -> list[Annotation]:
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        light = i % 2 == 0
        pixels = rng.integers(150 if light else 0, 256 if light else 100, (4, 56, 56, 3), dtype=np.uint8)
        media = Image.fromarray(pixels[0]) if kind == "image" else pixels.transpose(0, 3, 1, 2)
        ids = ("color_brightness_1", "clarity_1") if kind == "image" else ("color_1", "clear_1")
        made.append(Annotation(f"prompt {i}", media, {ids[0]: light, ids[1]: i % 3 == 0}, str(i)))
    return made


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.booleans()), max_size=30), st.integers(0, 100))
def test_each_question_is_balanced(answers, seed):
    given_answers = [Annotation("", None, each, "") for each in answers]
    kept = balanced_examples(given_answers, seed=seed)
    assert len(set(kept)) == len(kept)
    counts = Counter((example.question_id, example.answer) for example in kept)
    for question in "abc":
        available = [each[question] for each in answers if question in each]
        assert counts[question, True] == counts[question, False] == min(sum(available), len(available) - sum(available))
    assert all(answers[example.item][example.question_id] == example.answer for example in kept)
    assert balanced_examples(given_answers, seed=seed) == kept


@pytest.mark.parametrize("kind", ["image", "video"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_taught_is_what_is_asked(family, kind):
    """The collator's words are the judge's own, then the answer; the loss is on that token alone."""
    model, processor = BUILDERS[family]("sdpa")
    judge, checklist = VLMJudge(model, processor=processor), load_checklist(kind)
    items = annotations(4, kind)
    examples = balanced_examples(items, seed=0)[:3]
    batch = AnswerCollator(judge, items, checklist).torch_call([vars(example).copy() for example in examples])
    question = {q.id: q for q in checklist}
    for row, example in enumerate(examples):
        labels = batch["labels"][row]
        (place,) = (labels != -100).nonzero().flatten().tolist()
        assert labels[place] in (judge.yes if example.answer else judge.no)
        ids = batch["input_ids"][row, :place][batch["attention_mask"][row, :place].bool()]
        item = items[example.item]
        from reward.media import read_media

        media = read_media(item.media, checklist.kind, sampling=judge.sampling)
        text = judge._text(media, question[example.question_id].ask(item.prompt))
        assert ids.tolist() == judge._inputs([media], [text])["input_ids"][0].tolist()
    assert torch.isfinite(model(**batch).loss)


def test_a_judge_learns_and_is_found_again_in_its_folder(tmp_path):
    from benchmarks.tune import build_base

    build_base(tmp_path / "base")
    judge = VLMJudge(tmp_path / "base", dtype="float32", batch_size=8)
    light = Question(id="light", text="Is the picture light?")
    checklist = Checklist(
        name="one",
        version=1,
        kind="image",
        subdimensions=(SubDimension(name="s", dimension="d", questions=(light,)),),
    )
    items = [
        Annotation(each.prompt, each.media, {"light": each.answers["color_brightness_1"]}, each.group)
        for each in annotations(80)
    ]
    untuned = judge.fingerprint
    (before,), _ = judgements(VisionReward(judge, checklist), items[40:])
    settings = TuneSettings(
        num_steps=40,
        batch_size=16,
        micro_batch_size=8,
        learning_rate=3e-3,
        warmup_steps=5,
        rank=8,
        alpha=8,
        save_steps=10_000,
    )
    log = tune(judge, items[:40], checklist, tmp_path / "tuned", settings)
    (after,), failures = judgements(VisionReward(judge, checklist), items[40:])
    assert not failures
    assert (before.balanced_accuracy, before.num_yes, before.num_no) == (0.5, 20, 20)
    assert after.balanced_accuracy > 0.95
    assert log[-1]["loss"] < log[0]["loss"]
    found = VLMJudge(tmp_path / "tuned", dtype="float32", batch_size=8)
    assert found.fingerprint != untuned
    pictures = [item.media for item in items[40:48]]
    np.testing.assert_allclose(
        found.answer(pictures, [""] * 8, [light]), judge.answer(pictures, [""] * 8, [light]), atol=1e-4
    )


def test_clips_of_different_lengths_are_not_taught_together():
    """SmolVLM's processor would tell the shorter one the number of frames of the longer."""
    model, processor = BUILDERS["smolvlm"]("sdpa")
    judge, (one, other) = VLMJudge(model, processor=processor), annotations(2, "video")
    longer = Annotation(other.prompt, np.repeat(other.media, 2, axis=0), other.answers, other.group)
    collator = AnswerCollator(judge, [one, longer], load_checklist("video"))
    examples = [{"item": i, "question_id": "color_1", "answer": i == 0} for i in range(2)]
    with pytest.raises(RewardError, match=r"\[\(4, 56, 56\), \(8, 56, 56\)\].*; set micro_batch_size=1$"):
        collator.torch_call(examples)
    assert all("labels" in collator.torch_call([example]) for example in examples)


def test_what_cannot_be_taught_is_said(tmp_path):
    model, processor = BUILDERS["idefics3"]("sdpa")
    judge = VLMJudge(model, processor=processor)
    one_sided = [Annotation("", Image.new("RGB", (8, 8)), {"clarity_1": True}, "")]
    with pytest.raises(RewardError, match="both yes and no"):
        tune(judge, one_sided, load_checklist("image"), tmp_path)
    with pytest.raises(RewardError, match=r"about videos; this judge takes images only; .* with a place for them in"):
        tune(judge, annotations(4, "video"), load_checklist("video"), tmp_path)
    with pytest.raises(RewardError, match="not a multiple"):
        tune(judge, annotations(4), load_checklist("image"), tmp_path, TuneSettings(batch_size=5, micro_batch_size=2))
