"""Writes the prompt files of the embedded model's recipe: `python -m mpo.embedded.prompts FOLDER`.

Captions of random scenes, none chosen by hand: the first for training, the next for evaluation, no caption in both.
"""

import sys
from pathlib import Path

import numpy as np

from mpo.embedded.scenes import caption, sample_scene

NUM_TRAIN, NUM_HELDOUT, SEED = 256, 128, 2024


def main() -> None:
    rng = np.random.default_rng(SEED)
    captions: dict[str, None] = {}
    while len(captions) < NUM_TRAIN + NUM_HELDOUT:
        captions.setdefault(caption(sample_scene(rng)))
    lines = list(captions)
    folder = Path(sys.argv[1])
    (folder / "shapes-train.txt").write_text("\n".join(lines[:NUM_TRAIN]) + "\n", "utf-8")
    (folder / "shapes-heldout.txt").write_text("\n".join(lines[NUM_TRAIN:]) + "\n", "utf-8")


if __name__ == "__main__":
    main()
