"""Writes the prompt files of the embedded models' recipes: `python -m mpo.embedded.prompts FOLDER`.

Captions of random scenes, none chosen by hand: the first for training, the next for evaluation, no caption in both.
The text-to-video model itself has seen none of its held-out captions.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mpo.embedded.clips import clip_caption, sample_moving_scene
from mpo.embedded.scenes import caption, sample_scene

NUM_TRAIN, NUM_HELDOUT, SEED = 256, 128, 2024


class Prompts(NamedTuple):
    train: list[str]
    held_out: list[str]


def picture_prompts() -> Prompts:
    return _draw(lambda rng: caption(sample_scene(rng)))


def clip_prompts() -> Prompts:
    return _draw(lambda rng: clip_caption(sample_moving_scene(rng)))


def _draw(sample_caption: Callable[[np.random.Generator], str]) -> Prompts:
    rng = np.random.default_rng(SEED)
    captions: dict[str, None] = {}
    while len(captions) < NUM_TRAIN + NUM_HELDOUT:
        captions.setdefault(sample_caption(rng))
    lines = list(captions)
    return Prompts(lines[:NUM_TRAIN], lines[NUM_TRAIN:])


def main() -> None:
    folder = Path(sys.argv[1])
    for name, prompts in (("shapes", picture_prompts()), ("moving-shapes", clip_prompts())):
        (folder / f"{name}-train.txt").write_text("\n".join(prompts.train) + "\n", "utf-8")
        (folder / f"{name}-heldout.txt").write_text("\n".join(prompts.held_out) + "\n", "utf-8")


if __name__ == "__main__":
    main()
