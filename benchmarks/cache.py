"""A second run over items that have been scored: how long it takes, and that it judges nothing.

python -m benchmarks.cache [--items 10000]
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from reward import Question, VisionReward
from reward.judges.measured import MeasuredJudge
from reward.media import Media

SIDE = 64


class Counting(MeasuredJudge):
    """The measured judge, counting what it is asked."""

    num_judged = 0

    def answer(self, media: Sequence[Media], prompts: Sequence[str], questions: Sequence[Question]) -> np.ndarray:
        self.num_judged += len(media)
        return super().answer(media, prompts, questions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=10_000)
    count = parser.parse_args().items
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.png" for i in range(count)]
        for file in files:
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file)
        totals, judged, taken_s = [], [], []
        for _ in range(2):
            judge = Counting()
            reward = VisionReward(judge, "image", questions="answerable", cache=Path(folder) / "cache")
            start = time.perf_counter()
            totals.append(reward.score(files, "a red circle on a white background").total)
            taken_s.append(time.perf_counter() - start)
            judged.append(judge.num_judged)
        size = (Path(folder) / "cache" / "answers.sqlite").stat().st_size
    assert (totals[0] == totals[1]).all()
    print(f"{count} pictures of {SIDE}x{SIDE}: judged {judged[0]}, then {judged[1]}")
    print(
        f"{taken_s[0]:.1f} s, then {taken_s[1]:.1f} s: {taken_s[0] / taken_s[1]:.0f} times faster; {size / 2**20:.1f} MiB on disk"
    )


if __name__ == "__main__":
    main()
