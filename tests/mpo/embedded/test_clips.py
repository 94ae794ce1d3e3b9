from dataclasses import replace

import numpy as np
import pytest

from mpo.embedded.clips import (
    MOTIONS,
    NUM_FRAMES,
    ClipDefects,
    MovingScene,
    clip_caption,
    paint_clip,
    paint_clips,
    sample_clip_defects,
)
from mpo.embedded.scenes import Defects, Group
from tests.helpers.clips import DIRECTIONS, seen_motion, subject_path

STAR = MovingScene(Group("star", "orange"), "up", "blue")


def painted(scene: MovingScene, defects: ClipDefects, seed: int = 0) -> np.ndarray:
    return paint_clip(scene, defects, np.random.default_rng(seed))


def brightness(frames: np.ndarray) -> np.ndarray:
    """Of each frame, in [0, 1]."""
    return frames.mean(axis=(1, 2, 3)) / 255


def sharpness(frames: np.ndarray) -> np.ndarray:
    """The largest difference between neighbouring pixels of each frame."""
    return np.abs(np.diff(frames.astype(float), axis=2)).max(axis=(1, 2, 3))


def bends(frames: np.ndarray) -> float:
    """How far the subject's path is from one at constant speed, in shares of the side."""
    return float(np.abs(np.diff(subject_path(frames), n=2, axis=0)).max())


def test_captions_say_what_which_way_and_where():
    assert clip_caption(STAR) == "an orange star moves up on a blue background"
    still = MovingScene(Group("ring", "red"), "still", "meadow")
    assert clip_caption(still) == "a red ring stands still in a meadow"


@pytest.mark.parametrize("place", ["blue", "night sky"])
@pytest.mark.parametrize("motion", MOTIONS)
def test_a_good_clip_shows_what_its_caption_says(motion, place):
    """From one side towards the other in a straight line at constant speed; or nothing moves, not even the background."""
    for seed in range(3):
        frames = painted(replace(STAR, motion=motion, place=place), ClipDefects(), seed)
        assert frames.shape == (NUM_FRAMES, 64, 64, 3)
        assert frames.dtype == np.uint8
        first, last = subject_path(frames)[[0, -1]]
        if motion == "still":
            assert (frames == frames[0]).all()
            continue
        along = np.array(DIRECTIONS[motion])
        assert 0.35 < (last - first) @ along < 0.55
        assert np.abs((last - first) @ along[::-1]) < 0.05
        assert bends(frames) < 0.03
        assert seen_motion(frames) == motion


def test_a_frozen_clip_stands_still_though_its_caption_names_a_direction():
    assert seen_motion(painted(STAR, ClipDefects(frozen=True))) == "still"


def test_a_path_that_jitters_bends_but_leads_the_right_way():
    frames = painted(STAR, ClipDefects(jitter=0.05))
    assert bends(frames) > 0.06
    assert seen_motion(frames) == "up"


def test_flicker_changes_the_brightness_of_frames_and_nothing_else():
    good, bad = painted(STAR, ClipDefects()), painted(STAR, ClipDefects(flicker=0.5))
    assert np.ptp(brightness(good)) < 0.02
    share = brightness(bad) / brightness(good)
    assert share.min() > 0.5 - 0.02
    assert share.max() <= 1
    assert np.ptp(share) > 0.2
    np.testing.assert_allclose(subject_path(bad), subject_path(good), atol=0.02)


def test_defects_of_a_picture_are_in_every_frame():
    good = painted(STAR, ClipDefects())
    gloomy = painted(STAR, ClipDefects(Defects(gloom=0.6)))
    np.testing.assert_allclose(brightness(gloomy), 0.4 * brightness(good), rtol=0.05)
    blurred = painted(STAR, ClipDefects(Defects(blur_sigma=2)))
    assert (sharpness(blurred) < 0.5 * sharpness(good)).all()


def test_clips_are_reproducible_and_held_out_captions_never_drawn():
    pixels, captions = paint_clips(5, rng=np.random.default_rng(3))
    again, same = paint_clips(5, rng=np.random.default_rng(3))
    assert captions == same
    np.testing.assert_array_equal(pixels, again)
    others = paint_clips(5, held_out=frozenset(captions), rng=np.random.default_rng(3))[1]
    assert len(others) == 5
    assert not set(others) & set(captions)


def test_half_of_the_clips_have_a_defect_and_every_kind_occurs():
    rng = np.random.default_rng(0)
    drawn = [sample_clip_defects(rng) for _ in range(400)]
    assert 160 <= sum(defects.is_none for defects in drawn) <= 240
    for kind in ("jitter", "flicker", "frozen"):
        assert 4 <= sum(bool(getattr(defects, kind)) for defects in drawn) <= 60
    assert 80 <= sum(defects.picture != Defects() for defects in drawn) <= 160
