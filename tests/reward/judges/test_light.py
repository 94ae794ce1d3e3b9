import numpy as np
import pytest

from benchmarks.calibration_set import photograph, to_pixels
from reward.judges.light import brightness, colourfulness, lightness_contrast, white_balance
from reward.judges.picture import Picture

PIXELS = to_pixels(photograph("coffee.png", 96))


def of(measure, pixels) -> float:
    return measure(Picture(np.clip(pixels, 0, 1)))


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_grey_ground_by_hand(value):
    grey = np.full((64, 64, 3), value)
    assert of(colourfulness, grey) == of(lightness_contrast, grey) == pytest.approx(0.0, abs=1e-5)
    lightness = max(0, 1.16 * ((value + 0.055) / 1.055) ** (2.4 / 3) - 0.16) if value else 0
    assert of(brightness, grey) == pytest.approx(0.75 * lightness, abs=0.003)  # a quarter of it lies over all


def test_contrast_of_two_halves_by_hand():
    halves = np.zeros((64, 64, 3))
    halves[:, 32:] = 1  # L* 0 and 100: half a range from their mean
    assert of(lightness_contrast, halves) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    "darken", [lambda p, k: p ** (1 + k), lambda p, k: p * 0.75**k, lambda p, k: p * (1 - 0.2 * k) + 0.1 * k]
)
def test_gamma_gloom_and_haze_make_no_picture_brighter(darken):
    values = [of(brightness, darken(PIXELS, k)) for k in range(5)]
    assert np.all(np.diff(values) < 0.005)
    assert values[-1] < values[0] - 0.01


@pytest.mark.parametrize("tint", [(0.1, 1, 0.1), (1, 0.2, 0.1), (0.2, 0.3, 1)])
def test_a_cast_unbalances_white_and_makes_nothing_more_colourful(tint):
    gains = [1 - amount * (1 - np.array(tint)) for amount in (0, 0.3, 0.6, 1)]
    assert np.all(np.diff([of(white_balance, PIXELS * gain) for gain in gains]) < 0)
    assert of(white_balance, PIXELS) > 0.7
    assert of(white_balance, PIXELS * gains[-1]) < 0.35


def test_colours_that_fade_are_less_colourful():
    grey = PIXELS.mean(axis=2, keepdims=True)
    values = [of(colourfulness, PIXELS * (1 - amount) + grey * amount) for amount in (0, 0.4, 0.8, 1)]
    assert np.all(np.diff(values) < 0)
    assert values[-1] < 1
