"""Judges whose answers are known, and that count what they are asked."""

import numpy as np

from reward import JudgeError
from reward.judges import AnswersAnything
from reward.judges.scorers import Scorer, number
from reward.media import Sampling


class CountingJudge(AnswersAnything):
    """Says yes in proportion to a picture's red, and counts what it is asked."""

    kinds = ("image",)
    sampling = Sampling(max_frames=1)
    fingerprint = "counting"

    def __init__(self, batch_size: int = 4):
        self.batch_size = batch_size
        self.num_asked = 0

    def answer(self, media, prompts, questions):
        assert len(media) <= self.batch_size
        self.num_asked += len(media)
        if "unanswerable" in prompts:
            raise JudgeError("prompt 'unanswerable' cannot be answered")
        return np.array([[np.asarray(m)[..., 0].mean() / 255] * len(questions) for m in media])


class BrightnessScorer(Scorer):
    """Gives a picture's mean level, 0 to 255, as its number; says which rows it was asked about."""

    checklist = number("brightness", kind="image", title="Brightness")
    sampling = Sampling(max_frames=1)
    fingerprint = "brightness"
    batch_size = 3

    def __init__(self):
        self.num_asked = 0

    def numbers(self, media, prompts):
        self.num_asked += len(media)
        if "too dark" in prompts:
            raise JudgeError("prompt 'too dark' cannot be judged")
        return np.array([[np.asarray(each).mean()] for each in media])


class ThresholdJudge(CountingJudge):
    """Says yes if a picture's mean red in [0, 1] is at least `above`: a judge with an option."""

    def __init__(self, above: float = 0.0):
        super().__init__()
        self.above = above
        self.fingerprint = f"threshold-{above}"

    def answer(self, media, prompts, questions):
        return (super().answer(media, prompts, questions) >= self.above).astype(np.float64)
