"""The measured judge: checklist questions answered by classical image measurements.

It has no weights, runs on the CPU, is deterministic and takes about ten milliseconds a picture. It answers the
questions in `RULES` (`benchmarks/measured_judge.py` measures how far the answers can be trusted) and raises on all
others: no measurement tells whether a face is beautiful, a scene realistic or a picture harmful.
"""

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from reward.checklist import Kind, Question
from reward.errors import JudgeError
from reward.judges import depiction, measures
from reward.media import Media, Sampling


@dataclass(frozen=True)
class Condition:
    """A measure and its threshold: p_yes is a logistic function of how far the measure is on the side of yes."""

    measure: str  # a function of reward.judges.measures
    at: Literal["least", "most"]
    threshold: float
    scale: float  # distance from the threshold, in the measure's units, at which p_yes is 0.73

    def p_yes(self, value: float) -> float:
        distance = (value - self.threshold) / self.scale * (1 if self.at == "least" else -1)
        return float(1 / (1 + np.exp(-np.clip(distance, -50, 50))))


# Measures and their sources: reward/judges/measures.py. Thresholds: fitted on drawn pictures and photographs
# degraded by known amounts (`python -m benchmarks.measured_judge --fit`), except where a published level is named.
RULES: dict[str, tuple[Condition, ...]] = {
    "symmetry_1": (Condition("mirror_asymmetry", "most", 0.7, 0.08),),
    "symmetry_2": (Condition("mirror_asymmetry", "most", 1.15, 0.1),),
    "main_object_1": (Condition("subject_prominence", "least", 0.4, 0.05),),
    "main_object_2": (Condition("subject_prominence", "least", 0.16, 0.03),),
    "richness_1": (Condition("busy_share", "least", 0.57, 0.05),),
    "richness_2": (Condition("busy_share", "least", 0.3, 0.05),),
    "richness_3": (Condition("busy_share", "least", 0.06, 0.015),),
    "richness_4": (
        Condition("content_range", "least", 9.2, 1.5),
    ),  # four just noticeable differences of 2.3 (Mahy 1994)
    "clarity_1": (Condition("blur_sigma", "most", 0.88, 0.08),),
    "clarity_2": (Condition("blur_sigma", "most", 1.2, 0.1),),
    "clarity_3": (Condition("blur_sigma", "most", 1.7, 0.15),),
    "clarity_4": (Condition("blur_sigma", "most", 2.5, 0.2),),
    "color_brightness_1": (Condition("brightest_value", "least", 0.51, 0.04),),
    "color_brightness_2": (Condition("brightest_value", "least", 0.41, 0.04),),
    "color_aesthetic_1": (Condition("colourfulness", "least", 45.0, 4.0),),  # "averagely colourful"
    "color_aesthetic_2": (Condition("colourfulness", "least", 25.0, 3.0),),
    "lighting_distinction_1": (Condition("lightness_contrast", "least", 0.21, 0.01),),
    "lighting_distinction_2": (Condition("lightness_contrast", "least", 0.1, 0.008),),
    "lighting_distinction_3": (Condition("lightness_contrast", "least", 0.035, 0.004),),
    "detail_refinement_1": (Condition("fine_detail", "least", 3.3, 0.4), Condition("roughness", "most", 0.35, 0.05)),
    "detail_refinement_2": (Condition("fine_detail", "least", 1.6, 0.2), Condition("roughness", "most", 0.35, 0.05)),
    "detail_refinement_3": (Condition("roughness", "most", 0.42, 0.05),),
    "detail_refinement_4": (Condition("roughness", "most", 0.9, 0.08),),
    "detail_refinement_5": (
        Condition("roughness", "most", 1.5, 0.1),
        Condition("blur_sigma", "most", 3.5, 0.2),
        Condition("content_range", "least", 9.2, 1.5),
    ),
    "detail_refinement_6": (Condition("scrap_share", "most", 0.005, 0.0015),),
}
ALIGNMENT = "alignment"


class MeasuredJudge:
    """Answers `RULES` and alignment (see `reward.judges.depiction`); raises JudgeError on anything else."""

    kinds: tuple[Kind, ...] = ("image",)
    sampling = Sampling(max_frames=1)
    batch_size = 1

    @property
    def fingerprint(self) -> str:
        """`measured:digest` over the source of everything that an answer depends on."""
        sources = "".join(inspect.getsource(module) for module in (measures, depiction)) + repr(RULES)
        return f"measured:{hashlib.sha256(sources.encode()).hexdigest()[:12]}"

    def can_answer(self, question: Question) -> bool:
        return question.id == ALIGNMENT or question.id in RULES

    def require(self, questions: Sequence[Question]) -> None:
        refused = [question.id for question in questions if not self.can_answer(question)]
        if refused:
            raise JudgeError(
                f"the measured judge cannot answer {', '.join(refused)}; ask only what it can (questions='answerable') or use another judge"
            )

    def require_prompts(self, prompts: Sequence[str]) -> None:
        for prompt in prompts:
            depiction.parse(prompt)

    def answer(self, media: Sequence[Media], prompts: Sequence[str], questions: Sequence[Question]) -> np.ndarray:
        """(N, Q) float64: see `Judge.answer`. Prompts are read only if `alignment` is asked."""
        self.require(questions)
        rows = []
        for item, prompt in zip(media, prompts, strict=True):
            if not isinstance(item, Image.Image):
                raise JudgeError("the measured judge looks at pictures, not at clips; use another judge")
            rows.append(self._answer_one(item, prompt, questions))
        return np.array(rows, dtype=np.float64).reshape(len(prompts), len(questions))

    def _answer_one(self, image: Image.Image, prompt: str, questions: Sequence[Question]) -> list[float]:
        pixels = measures.working_pixels(image)
        values: dict[str, float] = {}

        def p_yes(condition: Condition) -> float:
            if condition.measure not in values:
                values[condition.measure] = getattr(measures, condition.measure)(pixels)
            return condition.p_yes(values[condition.measure])

        return [
            depiction.depicts(pixels, prompt) if q.id == ALIGNMENT else min(p_yes(c) for c in RULES[q.id])
            for q in questions
        ]
