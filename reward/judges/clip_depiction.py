"""Does a clip show what a text says, for texts about simple coloured shapes that move or stand still?

The vocabulary of `reward.judges.depiction` and one phrase of motion: moves, drifts, slides, goes or travels left, right,
up or down; rises, falls; stands or stays still. A text without such a phrase says nothing about motion, and none is judged.

F frames, h x w pixels.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float

from reward.errors import JudgeError
from reward.judges import depiction
from reward.judges.clip_measures import WorkingClip, largest_piece, path_of
from reward.judges.depiction import Claims
from reward.judges.picture import convert

Motion = Literal["left", "right", "up", "down", "still"]
DIRECTIONS: Mapping[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}  # x, y

# A thing that moves by less than this share of the frame's shorter side, over the whole clip, stands still: between
# "a trifle" and "more than a trifle" of the calibration set's travels.
MOVES_FROM, MOVES_SCALE = 0.06, 0.012
ACROSS_SCALE = 0.03

_VERB = r"(?:(?:is|are) )?(?:mov|drift|slid|go|travell?)(?:es|e|s|ing)?"
_MOTION = re.compile(
    rf"\b(?:{_VERB} (?:to the )?(?P<towards>left|right|up|down)(?:wards?)?"
    r"|(?P<up>(?:is |are )?(?:rises?|rising))|(?P<down>(?:is |are )?(?:falls?|falling))"
    r"|(?P<still>(?:(?:is|are) )?(?:stands?|stays?|standing|staying) still|(?:is|are) still|do(?:es)? not move))\b"
)


@dataclass(frozen=True)
class ClipClaims:
    """What a text says, taken apart."""

    shown: Claims
    motion: Motion | None  # None = the text says nothing about motion


@lru_cache(maxsize=4096)
def parse(prompt: str) -> ClipClaims:
    """A text such as "a red circle moves left in a meadow" -> its claims.

    Raises JudgeError if a word is left over, since the judge does not guess what it may mean, and if two groups share a colour.
    """
    text = depiction.plain_words(prompt)
    phrase = _MOTION.search(text)
    motion: Any = None
    if phrase:
        motion = phrase["towards"] or next(name for name in ("up", "down", "still") if phrase[name])
        text = text[: phrase.start()] + text[phrase.end() :]
    shown, left_over = depiction.take_apart(text)
    if not shown:
        raise JudgeError(
            f"{depiction.cannot_read(prompt, left_over)}, and of clips one phrase such as 'moves left' (right, up, down) or 'stands still'. {depiction.REMEDY}"
        )
    depiction.refuse_shared_colours(prompt, shown)
    return ClipClaims(shown, motion)


def truths(clip: WorkingClip, claims: ClipClaims) -> list[float]:
    """How far each claim holds, in [0, 1]: of every group its colour, and its shape and number; place, position, motion.

    The mean over the first, middle and last frame; of motion, over all. A position is where things are at first, since they
    may move away. If nothing has the named colour, shape and motion are judged on whatever stands out.
    """
    hsv = _hues(clip)
    held = []
    for group in claims.shown.groups:
        looks = [_group_holds(hsv[k], clip.foreground[k], group) for k in clip.look_numbers]
        held += np.mean(looks, axis=0).tolist()
    named = [clip.foreground & depiction.is_colour(hsv, group.colour) for group in claims.shown.groups]
    if claims.shown.place:
        ends = [depiction.row_ends(look.pixels) for look in clip.looks]
        held.append(float(np.mean([depiction.place_holds(each, claims.shown.place) for each in ends])))
    if claims.shown.position or claims.motion:
        path = path_of(_things(named, claims.shown), clip.times_s)
        path = clip.outline_path if path is None else path
        if claims.shown.position:
            # Sides are of the shorter side, positions of each.
            centre = [] if path is None else [tuple(path[0] * min(hsv.shape[1:3]) / hsv.shape[2:0:-1])]
            held.append(depiction.position_holds(centre, claims.shown.position))
        if claims.motion:
            held.append(motion_holds(path, clip.times_s, claims.motion))
    return held


def motion_holds(path: Float[np.ndarray, "F 2"] | None, times_s: Float[np.ndarray, " F"], motion: Motion) -> float:
    """Whether a path in sides leads where the text says, by the straight line that fits it best; None = there is no thing."""
    if path is None:
        return 0.0
    when = times_s - times_s.mean() if np.ptp(times_s) else np.linspace(-0.5, 0.5, len(path))
    net = np.ptp(when) * when @ path / (when @ when)
    if motion == "still":
        return _logistic(float((MOVES_FROM - np.linalg.norm(net)) / MOVES_SCALE))
    direction = np.array(DIRECTIONS[motion])
    along, across = net @ direction, abs(net @ direction[::-1])
    return _logistic(float(min((along - MOVES_FROM) / MOVES_SCALE, (along - across) / ACROSS_SCALE)))


def num_required(question_id: str, num_claims: int) -> int:
    """How many claims must hold for a yes: all, the greater part, a part (a third) or one."""
    match question_id:
        case "alignment_1":
            return num_claims
        case "alignment_2":
            return num_claims // 2 + 1
        case "alignment_3":
            return math.ceil(num_claims / 3)
        case _:
            return 1


ALIGNMENT = ("alignment_1", "alignment_2", "alignment_3", "alignment_4")


def p_yes(question_id: str, held: list[float]) -> float:
    """One of `ALIGNMENT` from how far the claims hold.

    That k of n hold is as true as the k-th truest (Yager, On ordered weighted averaging aggregation operators, 1988).
    """
    return sorted(held, reverse=True)[num_required(question_id, len(held)) - 1]


def _hues(clip: WorkingClip) -> Float[np.ndarray, "F h w 3"]:
    """Hue in degrees, saturation and value, without grain."""
    return convert(np.stack([cv2.medianBlur(frame, 3) for frame in clip.frames]), cv2.COLOR_RGB2HSV)


def _group_holds(hsv: np.ndarray, foreground: np.ndarray, group: depiction.Claim) -> tuple[float, float]:
    """Whether anything has the colour; and whether it, or else what stands out, has the shape and number."""
    found, centres = depiction.objects(foreground & depiction.is_colour(hsv, group.colour), group)
    if centres:
        return 1.0, min(found)
    return 0.0, min(depiction.objects(foreground, group)[0])


def _things(named: list[Bool[np.ndarray, "F h w"]], shown: Claims) -> Bool[np.ndarray, "F h w"]:
    """What the text names: one thing without specks, or all of several."""
    masks = np.any(named, axis=0)
    alone = sum(group.count for group in shown.groups) == 1
    return np.stack([largest_piece(mask) for mask in masks]) if alone else masks


def _logistic(distance: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(distance, -50, 50))))
