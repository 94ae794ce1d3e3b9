import numpy as np
import pytest
import torch

from mpo.embedded.oracle import ALL_PLACES, DEFECTS
from mpo.embedded.oracle_pictures import UNKNOWN, Pictures, amounts_of, augment, degrade_pictures, describe, draw_scenes
from mpo.embedded.scenes import COLOURS, SHAPES, Defects, Group, Scene, paint


def test_the_truth_about_a_scene():
    scene = Scene((Group("star", "blue"), Group("ring", "red", 2)), "desert")
    numbers, place, position, amounts = describe(scene, Defects(blur_sigma=1.5, block=8, shrink=0.7))
    assert numbers[SHAPES.index("ring"), list(COLOURS).index("red")] == 2
    assert numbers.sum() == 3
    assert ALL_PLACES[place] == "desert"
    assert position == UNKNOWN
    assert dict(zip(DEFECTS, amounts.round(3), strict=True)) == pytest.approx(
        {**dict.fromkeys(DEFECTS, 0), "blur": 0.5, "blocks": 1, "shrink": 0.5}
    )
    assert describe(Scene((Group("star", "blue"),), "sea"), Defects())[2] == 0, "the middle"
    assert describe(Scene((Group("star", "blue"),), "sea"), Defects(cut_off=0.5))[2] == UNKNOWN, "at any side"
    assert not describe(Scene((), "sea"), Defects(cut_off=0.5))[3].any(), "nothing to cut off"


def test_the_largest_amounts_are_those_of_the_scenes():
    most = Defects(3.0, 0.8, 0.8, 0.2, 25, 0.6, 0.4, 8, True)
    assert amounts_of(most) == pytest.approx(np.ones(len(DEFECTS)))
    assert not amounts_of(Defects()).any()


def test_a_kept_scene_is_degraded_as_one_painted_so():
    """Enlarged by repetition and reduced again, a picture without defects stays as it is."""
    rng = np.random.default_rng(3)
    pictures = draw_scenes(12, rng)
    degraded = degrade_pictures(pictures, rng, spared_share=0.3)
    untouched = (degraded.amounts[:, [0, 1, 2, 3, 7]] == 0).all(axis=1)
    assert 0 < untouched.sum() < 12
    np.testing.assert_array_equal(degraded.pixels[untouched], pictures.pixels[untouched])
    assert (degraded.pixels[~untouched] != pictures.pixels[~untouched]).any(axis=(1, 2, 3)).all()


def test_a_mirrored_picture_has_its_object_at_the_other_side():
    scene = Scene((Group("circle", "white"),), "black", "left")
    row = (np.asarray(paint(scene, Defects(), np.random.default_rng(0))), *describe(scene, Defects()))
    pixels, truth = augment(Pictures(*(np.stack([column] * 40) for column in row)), torch.Generator().manual_seed(0))
    assert set(truth.position.tolist()) == {1, 2}
    lighter_side = (
        1 + (pixels.mean(dim=(1, 2))[:, 32:].mean(dim=1) > pixels.mean(dim=(1, 2))[:, :32].mean(dim=1)).long()
    )
    assert lighter_side.tolist() == truth.position.tolist()
    assert pixels.min() >= 0
    assert pixels.max() <= 1
