"""The measured judge: checklist questions answered by classical image measurements.

It has no weights, runs on the CPU, is deterministic and takes milliseconds a picture and some fifty a clip of eight
frames, of as many pictures at a time as there are cores. It answers the questions in `RULES` (`benchmarks/measured_judge.py` measures how far the answers can be trusted)
and raises on all others: no measurement tells whether a face is beautiful, a scene realistic or a picture harmful.
"""

import hashlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image

from reward.checklist import Kind, Question
from reward.errors import JudgeError
from reward.judges import clip_depiction, clip_measures, damage, depiction, light, measures, picture
from reward.media import Clip, Media, Sampling


@dataclass(frozen=True)
class Condition:
    """A measure and its threshold: p_yes is a logistic function of how far the measure is on the side of yes."""

    measure: str  # a function of reward.judges.measures, light or damage or, for clips, of clip_measures
    at: Literal["least", "most"]
    threshold: float
    scale: float  # distance from the threshold, in the measure's units, at which p_yes is 0.73
    harm: float = 0.0  # by how much a whole harm (`damage.harm`) takes the measure away from yes

    def p_yes(self, value: float, harm: float = 0.0) -> float:
        distance = (value - self.threshold) / self.scale * (1 if self.at == "least" else -1)
        distance -= self.harm * harm / self.scale
        return float(1 / (1 + np.exp(-np.clip(distance, -50, 50))))


# Measures and their sources: reward/judges/measures.py, light.py and damage.py. Thresholds: fitted on drawn pictures and
# photographs degraded by known amounts (benchmarks/calibration_set.py, calibration_defects.py, heldout_set.py, calibration_smears.py and blind_pictures.py), except where a
# published level is named.
Rules = Mapping[str, tuple[Condition, ...]]
UNSMEARED = Condition("unsmeared", "least", -1.65, 0.36)
PICTURE_RULES: Rules = {
    "symmetry_1": (Condition("mirror_asymmetry", "most", 0.75, 0.08, harm=0.25),),
    "symmetry_2": (Condition("mirror_asymmetry", "most", 1.3, 0.1, harm=0.6),),
    "main_object_2": (Condition("subject_prominence", "least", 0.12, 0.03, harm=0.22),),
    "richness_3": (Condition("busy_share", "least", 0.03, 0.012, harm=0.02),),
    "richness_4": (
        Condition("content_range", "least", 7.6, 1.5),
    ),  # over three just noticeable differences of 2.3 (Mahy 1994)
    # A sharp picture has neither of two kinds of blur, and the hard borders of blocks are no sharpness.
    "clarity_1": (
        Condition("sharpness", "least", 0.42, 0.065, harm=0.033),
        UNSMEARED,
        Condition("block_pitch", "most", 2.3, 0.3),
    ),
    "clarity_2": (
        Condition("sharpness", "least", 0.4, 0.065, harm=0.05),
        UNSMEARED,
        Condition("block_pitch", "most", 2.3, 0.3),
    ),
    "clarity_3": (
        Condition("sharpness", "least", 0.25, 0.065, harm=0.037),
        UNSMEARED,
        Condition("block_pitch", "most", 2.6, 0.3),
    ),
    "clarity_4": (Condition("sharpness", "least", 0.1, 0.065, harm=0.047),),
    "color_brightness_1": (Condition("brightness", "least", 0.3, 0.03, harm=0.033),),
    "color_brightness_2": (Condition("brightness", "least", 0.28, 0.03, harm=0.006),),
    "color_aesthetic_1": (
        Condition("colourfulness", "least", 36.0, 4.0, harm=3.0),
        Condition("white_balance", "least", 0.4, 0.03, harm=0.02),
    ),
    "color_aesthetic_2": (
        Condition("colourfulness", "least", 18.0, 1.5, harm=5.0),
        Condition("white_balance", "least", 0.42, 0.03, harm=0.035),
    ),
    "lighting_distinction_1": (Condition("lightness_contrast", "least", 0.155, 0.01, harm=0.045),),
    "lighting_distinction_2": (Condition("lightness_contrast", "least", 0.1, 0.008),),
    "lighting_distinction_3": (Condition("lightness_contrast", "least", 0.035, 0.004),),
    "detail_refinement_3": (
        Condition("noise_sigma", "most", 0.044, 0.004),
        Condition("speck_share", "most", 0.007, 0.0007),
        Condition("codec_steps", "most", 1.15, 0.03),
        Condition("grid_steps", "most", 2.7, 0.3),
        Condition("block_pitch", "most", 2.5, 0.3),
    ),
    "detail_refinement_4": (
        Condition("noise_sigma", "most", 0.083, 0.006),
        Condition("codec_steps", "most", 1.85, 0.08),
        Condition("grid_steps", "most", 16.6, 1.5),
        Condition("block_pitch", "most", 5.2, 0.4),
    ),
    "detail_refinement_5": (
        Condition("noise_sigma", "most", 0.2, 0.02),
        Condition("block_pitch", "most", 9.6, 0.6),
        Condition("sharpness", "least", 0.16, 0.065),
        Condition("content_range", "least", 6.6, 1.5),
        Condition("brightness", "least", 0.05, 0.01),
    ),
}
# Measures and their sources: reward/judges/clip_measures.py. Thresholds: set on drawn clips and on photographs under a
# moving camera (`python -m benchmarks.measured_judge --kind video --fit`). What a picture is asked in the same words, a
# clip answers from its first, middle and last frame by the same rule.
CLIP_RULES: Rules = {
    "camera_movement_2": (Condition("camera_shake", "most", 0.0155, 0.0015),),
    "color_2": PICTURE_RULES["color_aesthetic_1"],
    "color_3": PICTURE_RULES["color_aesthetic_2"],
    "lighting_accurate_3": (Condition("highlight_value", "least", 0.2, 0.03),),
    "shape_throughout_1": (Condition("shape_overlap", "least", 0.89, 0.015),),
    "shape_throughout_2": (Condition("shape_overlap", "least", 0.8, 0.015),),
    "shape_throughout_3": (Condition("shape_overlap", "least", 0.76, 0.015),),
    "shape_throughout_4": (Condition("shape_overlap", "least", 0.64, 0.02),),
    "object_motion_1": (Condition("subject_travel", "least", 0.28, 0.03),),
    "object_motion_2": (Condition("subject_travel", "least", 0.115, 0.01),),
    "object_motion_3": (Condition("subject_travel", "least", 0.06, 0.006),),
    "object_motion_4": (Condition("subject_travel", "least", 0.016, 0.002),),
    "camera_motion_1": (Condition("camera_travel", "least", 0.37, 0.03),),
    "camera_motion_2": (Condition("camera_travel", "least", 0.175, 0.015),),
    "camera_motion_3": (Condition("camera_travel", "least", 0.058, 0.006),),
    "camera_motion_4": (Condition("camera_travel", "least", 0.014, 0.002),),
    "movement_smoothness_1": (Condition("subject_jerk", "most", 0.0155, 0.0015),),
    "movement_smoothness_2": (Condition("subject_jerk", "most", 0.02, 0.002),),
    # By sharpness alone: what moves in a frame is smeared by right.
    **{
        f"clear_{level}": tuple(each for each in PICTURE_RULES[f"clarity_{level}"] if each.measure == "sharpness")
        for level in (1, 2, 3, 4)
    },
    "image_quality_stability_1": (
        Condition("brightness_flicker", "most", 0.014, 0.0015),
        Condition("sharpness_flicker", "most", 0.16, 0.015),
    ),
    "image_quality_stability_2": (
        Condition("brightness_flicker", "most", 0.075, 0.007),
        Condition("sharpness_flicker", "most", 0.28, 0.03),
    ),
    "image_quality_stability_3": (
        Condition("brightness_flicker", "most", 0.16, 0.015),
        Condition("sharpness_flicker", "most", 0.5, 0.05),
    ),
    "image_quality_stability_4": (
        Condition("brightness_flicker", "most", 0.36, 0.03),
        Condition("sharpness_flicker", "most", 1.1, 0.1),
    ),
    "camera_stability_1": (Condition("camera_shake", "most", 0.006, 0.0006),),
    "camera_stability_2": (Condition("camera_shake", "most", 0.0155, 0.0015),),
    **{name: PICTURE_RULES[name] for name in (f"detail_refinement_{level}" for level in (3, 4))},
}
RULES: Mapping[Kind, Rules] = {"image": PICTURE_RULES, "video": CLIP_RULES}
ALIGNMENT = "alignment"  # of pictures, and of clips in a checklist that asks only once
ALIGNMENTS: Mapping[Kind, Sequence[str]] = {"image": (ALIGNMENT,), "video": (ALIGNMENT, *clip_depiction.ALIGNMENT)}
# Questions about what happens between frames; the others can be answered about a single one.
OF_MOTION = {question_id for question_id in CLIP_RULES if question_id.startswith(
    ("camera_", "object_motion_", "movement_smoothness_", "image_quality_stability_", "shape_throughout_"))}  # fmt: skip
MIN_FRAMES = 3  # a frame and its neighbours on both sides
MIN_SIDE = 3  # pixels of a picture: one and its neighbours on both sides


class MeasuredJudge:
    """Answers `RULES` and alignment (see `reward.judges.depiction`); raises JudgeError on anything else."""

    kinds: tuple[Kind, ...] = ("image", "video")
    sampling = Sampling(max_frames=81)  # every frame of a clip of five seconds at 16 frames a second
    batch_size = os.cpu_count() or 1

    @property
    def fingerprint(self) -> str:
        """`measured:digest` over the source of everything that an answer depends on."""
        modules = (sys.modules[__name__], picture, measures, light, damage, depiction, clip_measures, clip_depiction)
        sources = "".join(inspect.getsource(module) for module in modules) + repr((RULES, self.sampling))
        return f"measured:{hashlib.sha256(sources.encode()).hexdigest()[:12]}"

    def can_answer(self, question: Question, kind: Kind) -> bool:
        return question.id in ALIGNMENTS[kind] or question.id in RULES[kind]

    def require(self, questions: Sequence[Question], kind: Kind) -> None:
        refused = [question.id for question in questions if not self.can_answer(question, kind)]
        if refused:
            raise JudgeError(
                f"the measured judge cannot answer {', '.join(refused)} about {kind}s; ask only what it can (questions='answerable') or use another judge"
            )

    def require_prompts(self, prompts: Sequence[str], kind: Kind) -> None:
        parse = depiction.parse if kind == "image" else clip_depiction.parse
        for prompt in prompts:
            parse(prompt)

    def answer(self, media: Sequence[Media], prompts: Sequence[str], questions: Sequence[Question]) -> np.ndarray:
        """(N, Q) float64: see `Judge.answer`. Prompts are read only if alignment is asked."""
        for item in media:
            self.require(questions, "video" if isinstance(item, Clip) else "image")
        about = list(zip(media, prompts, strict=True))
        if len(about) == 1:
            rows = [_about(about[0], questions)]
        else:  # OpenCV and NumPy leave the interpreter to others while they work
            with ThreadPoolExecutor(self.batch_size) as pool:
                rows = list(pool.map(lambda each: _about(each, questions), about))
        return np.array(rows, dtype=np.float64).reshape(len(prompts), len(questions))


def _about(item: tuple[Media, str], questions: Sequence[Question]) -> list[float]:
    medium, prompt = item
    if isinstance(medium, Clip):
        return _about_clip(medium, prompt, questions)
    return _about_picture(medium, prompt, questions)


def _p_yes(rule: tuple[Condition, ...], value: Callable[[str], float]) -> float:
    """The least of the rule's conditions; what blurs edges is no harm to sharpness, of which it is the measure."""
    harm_to = lambda each: value("harm_beside_blur" if each.measure == "sharpness" else "harm") if each.harm else 0.0  # noqa: E731
    return min(each.p_yes(value(each.measure), harm_to(each)) for each in rule)


def _about_picture(image: Image.Image, prompt: str, questions: Sequence[Question]) -> list[float]:
    if min(image.size) < MIN_SIDE:
        width, height = image.size
        raise JudgeError(
            f"the picture has {width}x{height} pixels, and the measured judge needs {MIN_SIDE} on each side; give a larger one"
        )
    seen = picture.Picture(image)
    value = cache(lambda measure: clip_measures.take(seen, measure))
    return [
        depiction.depicts(seen.pixels, prompt)
        if question.id == ALIGNMENT
        else _p_yes(PICTURE_RULES[question.id], value)
        for question in questions
    ]


def _about_clip(clip: Clip, prompt: str, questions: Sequence[Question]) -> list[float]:
    working = clip_measures.working_clip(clip)
    value = cache(lambda measure: clip_measures.measure(working, measure))
    held = _claims_held(working, prompt) if any(q.id in ALIGNMENTS["video"] for q in questions) else []
    answers = []
    for question in questions:
        if question.id == ALIGNMENT:
            answers.append(depiction.conjunction(held))
        elif question.id in clip_depiction.ALIGNMENT:
            answers.append(clip_depiction.p_yes(question.id, held))
        else:
            if question.id in OF_MOTION:
                _require_frames(working, f"question {question.id!r} asks what happens over time")
            answers.append(_p_yes(CLIP_RULES[question.id], value))
    return answers


def _claims_held(clip: clip_measures.WorkingClip, prompt: str) -> list[float]:
    claims = clip_depiction.parse(prompt)
    if claims.motion:
        _require_frames(clip, f"prompt {prompt!r} names a motion")
    return clip_depiction.truths(clip, claims)


def _require_frames(clip: clip_measures.WorkingClip, reason: str) -> None:
    if len(clip.frames) < MIN_FRAMES:
        raise JudgeError(
            f"{reason}, and the clip has {len(clip.frames)} frame{'s' * (len(clip.frames) > 1)}; give one of at least {MIN_FRAMES}, or score pictures with checklist 'image'"
        )
