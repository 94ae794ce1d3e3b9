from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.calibration_clips import GROUNDS, Film, describe, good_films, shoot
from reward import JudgeError
from reward.judges import depiction
from reward.judges.clip_depiction import DIRECTIONS, ClipClaims, motion_holds, num_required, p_yes, parse, truths
from reward.judges.clip_measures import working_clip
from reward.judges.depiction import Claim, Claims
from reward.media import Clip

OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}


def claims_held(clip: Clip, prompt: str) -> list[float]:
    return truths(working_clip(clip), parse(prompt))


@pytest.mark.parametrize(
    ("phrase", "motion"),
    {
        "moves left": "left", "moving right": "right", "is moving up": "up", "drifts down": "down", "slides to the left": "left",
        "goes upwards": "up", "travels to the right": "right", "travelling downward": "down", "rises": "up", "falling": "down",
        "stands still": "still", "is standing still": "still", "stays still": "still", "does not move": "still",
    }.items(),
)  # fmt: skip
def test_motion_words_are_read(phrase, motion):
    shown = Claims((Claim(1, "red", "circle"),), "meadow", None)
    assert parse(f"A red circle {phrase} in a meadow.") == ClipClaims(shown, motion)


def test_a_text_without_motion_words_claims_no_motion():
    assert parse("a red circle in a meadow").motion is None
    assert parse("a red circle on the left moves right") == ClipClaims(
        Claims((Claim(1, "red", "circle"),), None, "left"), "right"
    )


@pytest.mark.parametrize(
    ("text", "left_over"),
    {
        "a red circle spins": "spins", "a red circle moves": "moves", "a tapir moves left": "a tapir", "moves left": "no object",
        "a red circle moves left and moves up": "moves up", "a red circle moves left quickly": "quickly",
    }.items(),
)  # fmt: skip
def test_what_cannot_be_read_is_named_with_what_can(text, left_over):
    with pytest.raises(
        JudgeError, match=rf"cannot read prompt {text!r} \(left over: {left_over}\).*'moves left'.*another judge"
    ):
        parse(text)


def test_pictures_have_no_motion_words():
    with pytest.raises(JudgeError, match=r"left over: moves left"):
        depiction.parse("a red circle moves left")


@pytest.mark.parametrize("motion", list(DIRECTIONS))
def test_a_path_holds_one_motion_only(motion):
    path = 0.5 + np.linspace(0, 0.3, 7)[:, None] * np.array(DIRECTIONS[motion])
    times_s = np.arange(7.0)
    assert motion_holds(path, times_s, motion) > 0.95
    opposite: Any = OPPOSITE[motion]
    assert motion_holds(path[::-1], times_s, opposite) > 0.95
    others: tuple[Any, ...] = (*DIRECTIONS, "still")
    for other in others:
        assert other == motion or motion_holds(path, times_s, other) < 0.05
    assert motion_holds(np.full((7, 2), 0.5), times_s, "still") > 0.95
    assert motion_holds(None, times_s, "still") == 0.0


@pytest.mark.parametrize("number", range(8))
def test_mirrors_and_reversed_time_turn_the_direction(number):
    scene = good_films(8, np.random.default_rng(5))[number]
    clip = shoot(scene, np.random.default_rng(number))
    mirrored = Clip(np.ascontiguousarray(clip.frames[:, :, ::-1]), clip.times_s)
    backwards = Clip(np.ascontiguousarray(clip.frames[::-1]), clip.times_s)
    lighter = Clip(np.clip(clip.frames.astype(int) + 12, 0, 255).astype(np.uint8), clip.times_s)
    turned = OPPOSITE[scene.motion] if scene.motion in ("left", "right") else scene.motion
    reversed_motion = OPPOSITE[scene.motion] if scene.motion else None
    for version, motion in (
        (clip, scene.motion),
        (lighter, scene.motion),
        (mirrored, turned),
        (backwards, reversed_motion),
    ):
        for told in (*DIRECTIONS, None):
            held = claims_held(version, describe(replace(scene, motion=told)))
            assert (held[-1] > 0.5) == (told == motion)


def test_each_claim_is_judged_by_itself():
    scene = Film("star", "yellow", "blue", "up")
    clip = shoot(scene, np.random.default_rng(0))
    true = dict(zip(("colour", "shape", "place", "motion"), claims_held(clip, describe(scene)), strict=True))
    assert min(true.values()) > 0.5
    for claim, wrong in {
        "colour": replace(scene, colour="red"), "shape": replace(scene, shape="heart"),
        "place": replace(scene, ground="meadow"), "motion": replace(scene, motion=None),
    }.items():  # fmt: skip
        held = dict(zip(true, claims_held(clip, describe(wrong)), strict=True))
        assert {name for name, truth in held.items() if truth < 0.5} == {claim}


def test_a_position_is_where_the_thing_is_at_first():
    clip = shoot(Film("circle", "yellow", "blue", "right", travel=0.5), np.random.default_rng(0))
    assert min(claims_held(clip, "a yellow circle on the left moves right on a blue background")) > 0.5
    assert min(claims_held(clip, "a yellow circle on the right moves right on a blue background")) < 0.5


@pytest.mark.parametrize("num_claims", [2, 3, 4, 5])
def test_laxer_questions_need_fewer_claims(num_claims):
    needed = [num_required(f"alignment_{k}", num_claims) for k in (1, 2, 3, 4)]
    assert needed == sorted(needed, reverse=True)
    assert (needed[0], needed[3]) == (num_claims, 1)
    assert needed[1] > num_claims / 2
    assert p_yes("alignment_2", [1.0] * needed[1] + [0.0] * (num_claims - needed[1])) == 1.0
    assert p_yes("alignment_2", [1.0] * (needed[1] - 1) + [0.0] * (num_claims - needed[1] + 1)) == 0.0


def test_the_grounds_of_the_calibration_are_words_that_the_judge_reads():
    for ground, colours in GROUNDS.items():
        for colour in colours:
            assert parse(describe(Film("ring", colour, ground, "down"))).motion == "down"
