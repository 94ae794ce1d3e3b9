"""A judge whose answers are known, and that counts what it is asked."""

import numpy as np

from reward import JudgeError
from reward.judges import AnswersAnything
from reward.media import Sampling


class CountingJudge(AnswersAnything):
    """Says yes in proportion to a picture's red, and counts what it is asked."""

    kinds = ("image",)
    sampling = Sampling(max_frames=1)
    fingerprint = "counting"
    batch_size = 4

    def __init__(self):
        self.num_asked = 0

    def answer(self, media, prompts, questions):
        self.num_asked += len(media)
        if "unanswerable" in prompts:
            raise JudgeError("prompt 'unanswerable' cannot be answered")
        return np.array([[np.asarray(m)[..., 0].mean() / 255] * len(questions) for m in media])
