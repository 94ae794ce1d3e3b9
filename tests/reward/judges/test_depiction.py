import numpy as np
import pytest

from mpo.embedded import scenes
from mpo.embedded.scenes import Defects, Group, Scene, caption, paint
from reward import JudgeError
from reward.judges import clip_depiction
from reward.judges.depiction import COLOURS, PLACES, POSITIONS, SHAPES, Claim, Claims, depicts, is_colour, parse


def test_parse_takes_a_text_apart():
    text = "two red circles and an orange star in the night sky"
    assert parse(text) == Claims((Claim(2, "red", "circle"), Claim(1, "orange", "star")), "night sky", None)
    assert parse("A blue ring on the left on a white background.") == Claims(
        (Claim(1, "blue", "ring"),), "white", "left"
    )
    assert parse("one black heart") == Claims((Claim(1, "black", "heart"),), None, None)


def test_a_place_may_begin_with_a_vowel():
    assert parse("a red ring on an orange background") == parse("a red ring on a orange background")


@pytest.mark.parametrize("text", ["", "a circle", "a red circle wearing a hat", "seven red circles", "in a meadow"])
def test_parse_refuses_what_it_cannot_read(text):
    with pytest.raises(JudgeError, match="cannot read"):
        parse(text)


def test_two_groups_of_one_colour_are_refused():
    """Things are found by their colour: even a true text would get a no."""
    with pytest.raises(JudgeError, match=r"two groups are red; give each group a colour of its own.*another judge"):
        parse("a red circle and a red square in a meadow")
    with pytest.raises(JudgeError, match="two groups are blue"):
        clip_depiction.parse("a blue circle and two blue stars move left")


def test_the_embedded_vocabulary_is_covered():
    assert set(scenes.COLOURS) == set(COLOURS)
    assert set(scenes.SHAPES) == set(SHAPES)
    assert set(scenes.PLACES) == set(PLACES)
    assert set(scenes.POSITIONS) == set(POSITIONS)
    rng = np.random.default_rng(0)
    for _ in range(300):
        scene = scenes.sample_scene(rng)
        claims = parse(caption(scene))
        assert [(c.count, c.colour, c.shape) for c in claims.groups] == [
            (g.count, g.colour, g.shape) for g in scene.groups
        ]
        assert (claims.place, claims.position) == (scene.place, scene.position)


@pytest.mark.parametrize("name", [c for c in COLOURS if c not in ("white", "black")])
def test_a_colour_keeps_its_name_in_shade_and_haze(name):
    hue_only = np.array(scenes.COLOURS[name]) / 255
    for pixels in (hue_only, hue_only * 0.5, hue_only * 0.5 + 0.34):
        hsv = np.array(__import__("colorsys").rgb_to_hsv(*pixels)) * [360, 1, 1]
        assert is_colour(hsv, name)


def test_one_false_word_is_a_no():
    scene = Scene((Group("star", "red"),), "white")
    pixels = np.asarray(paint(scene, Defects(), np.random.default_rng(3))) / 255
    assert depicts(pixels, "a red star on a white background") > 0.9
    for wrong in ("a red heart on a white background", "a blue star on a white background", "two red stars on a white background",
                  "a red star in a meadow", "a red star on the left on a white background"):  # fmt: skip
        assert depicts(pixels, wrong) < 0.5
