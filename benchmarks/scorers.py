"""Scorers against the formulas that their authors publish, and items a second in batches beside one by one.

    python -m benchmarks.scorers                # 2 cores: about two minutes

Small networks of the published classes with random weights, on the CPU in float32; the formulas are written out in
float64 (tests/reward/judges/scorers/as_published.py) and share no code with the scorers. Differences are over pictures of
a dozen sizes, or clips of half a dozen; speed is over items of one size and prompts of about one length, as in a run, and
that of the small networks: what batches gain there, not what the published ones take.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from reward import load_checklist, load_judge
from reward.media import Clip
from tests.reward.judges.scorers import as_published, small_scorers

PIXELS = 130 * 28 * 28  # of a frame at most: fewer than published, since they are counted in float64, too
BATCH = 6
Case = tuple[Any, Sequence[Any], Sequence[str], Sequence[Any], Any]  # judge, items, prompts, questions, expected


def clip_score(folder: Path) -> Case:
    small_scorers.clip(folder)
    judge = load_judge("clip-score", model=str(folder), batch_size=BATCH)
    cosines = as_published.clip_cosines(folder, small_scorers.pictures(), small_scorers.PROMPTS)
    return picture_case(judge, np.maximum(100 * cosines, 0))


def pickscore(folder: Path) -> Case:
    model = small_scorers.clip(folder)
    judge = load_judge("pickscore", model=str(folder), processor=str(folder), batch_size=BATCH)
    cosines = as_published.clip_cosines(folder, small_scorers.pictures(), small_scorers.PROMPTS)
    return picture_case(judge, model.logit_scale.double().exp().item() * cosines)


def imagereward(folder: Path) -> Case:
    weights = small_scorers.imagereward(folder)
    judge = load_judge("imagereward", model=str(folder), processor=str(folder), batch_size=BATCH)
    items = small_scorers.pictures(), small_scorers.PROMPTS
    return picture_case(judge, as_published.imagereward_scores(folder, weights, *items))


def hpsv3(folder: Path) -> Case:
    base = folder / "base"
    small_scorers.qwen2_vl(base)
    small_scorers.hpsv3(folder, base)
    judge = load_judge("hpsv3", model=str(folder), processor=str(base), batch_size=BATCH)
    items = small_scorers.pictures(), small_scorers.PROMPTS
    return picture_case(judge, as_published.hpsv3_scores(folder, base, *items))


def videoreward(folder: Path) -> Case:
    base, model = folder / "base", folder / "model"
    small_scorers.qwen2_vl(base)
    tuned = small_scorers.videoreward(model, base, max_frame_pixels=PIXELS)
    judge: Any = load_judge("videoreward", model=str(model), processor=str(base), batch_size=BATCH)
    items = small_scorers.clips()
    prompts = small_scorers.PROMPTS[: len(items)]
    expected = as_published.videoreward_scores(base, tuned, items, prompts, small_scorers.NORMS, most_pixels=PIXELS)
    return judge, items, prompts, judge.checklist.questions, expected


def vqascore_flant5(folder: Path) -> Case:
    parts = small_scorers.clip_flant5(folder)
    judge = load_judge("vqascore", model=str(folder), processor=str(folder / "words"), batch_size=BATCH)
    words = PreTrainedTokenizerFast.from_pretrained(folder / "words")
    items = small_scorers.pictures(), small_scorers.PROMPTS
    return picture_case(judge, as_published.clip_flant5_scores(parts, words, *items))


def vqascore_vlm(folder: Path) -> Case:
    for each in small_scorers.vision_language():
        each.save_pretrained(folder)
    judge = load_judge("vqascore", model=str(folder), batch_size=BATCH)
    items = small_scorers.pictures(), small_scorers.PROMPTS
    return picture_case(judge, as_published.vqascores(*small_scorers.vision_language(), *items))


def picture_case(judge: Any, expected: Any) -> Case:
    own = judge.checklist.questions if hasattr(judge, "checklist") else load_checklist("image").questions
    asked = [question for question in own if judge.can_answer(question, "image")]
    return judge, small_scorers.pictures(), small_scorers.PROMPTS, asked[:1], expected


CASES: dict[str, Callable[[Path], Case]] = {
    "clip-score": clip_score,
    "pickscore": pickscore,
    "imagereward": imagereward,
    "hpsv3": hpsv3,
    "videoreward": videoreward,
    "vqascore, CLIP-FlanT5": vqascore_flant5,
    "vqascore, Qwen2.5-VL": vqascore_vlm,
}


def alike(items: Sequence[Any], prompts: Sequence[str]) -> tuple[list[Any], list[str]]:
    """As many items of one size, and prompts without the one of hundreds of words."""
    short = [prompt if len(prompt) < 200 else prompts[0] for prompt in prompts]
    if isinstance(items[0], Image.Image):
        return [item.resize((224, 224)) for item in items], short
    first = items[1]
    return [Clip(np.roll(first.frames, shift, axis=2), first.times_s) for shift in range(len(items))], short


def seconds(run: Callable[[], Any], repeats: int) -> float:
    """The shortest of some runs."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    print(
        "| scorer | scores | largest difference from the formula | batch from single | items/s in batches of 6 | one by one |"
    )
    print("|---|---|---|---|---|---|")
    for name, build in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            judge, items, prompts, questions, expected = build(Path(folder))
            found = judge.answer(items, prompts, questions)
            single = small_scorers.one_by_one(judge, items, prompts, questions)
            from_formula = small_scorers.largest_difference(found, expected)
            from_single = small_scorers.largest_difference(found, single)
            timed = (*alike(items, prompts), questions)
            batched_s = seconds(partial(judge.answer, *timed), repeats)
            single_s = seconds(partial(small_scorers.one_by_one, judge, *timed), repeats)
        count = len(items)
        print(
            f"| {name} | {found.min():.3g} to {found.max():.3g} | {from_formula:.1e} | {from_single:.1e} | {count / batched_s:.1f} | {count / single_s:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
