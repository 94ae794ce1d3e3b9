"""Measurements of a picture's light and colours at the smaller size: a `Picture` in, one number out; each with its source."""

import numpy as np

from reward.judges.picture import Picture, once


@once
def brightness(picture: Picture) -> float:
    """The mean over the picture of L* / 100, less a quarter of the veil that lies over its darkest parts; in [0, 1].

    L* and not HSV value, because a colour may be dark though one channel is full, as after a steep gamma curve. What lightens
    even the darkest parts is haze (the dark channel of He, Sun and Tang, CVPR 2009), which makes no picture bright.
    """
    light = picture.clean_lab[..., 0] / 100
    return float(light.mean() - 0.25 * np.percentile(light, 2))


@once
def colourfulness(picture: Picture) -> float:
    """The first term of M3 of Hasler and Süsstrunk, Measuring colourfulness in natural images, SPIE 5007, 2003.

    How far colours differ from one another, in [0, 255] units. Without their second term, the mean's distance from grey, which
    a cast would raise.
    """
    red, green, blue = np.moveaxis(picture.clean * 255, -1, 0)
    return float(np.hypot((red - green).std(), (0.5 * (red + green) - blue).std()))


@once
def white_balance(picture: Picture) -> float:
    """The weakest channel's brightest hundredth over the strongest channel's, in [0, 1]; low under a cast.

    The white patch algorithm (Land and McCann, Lightness and retinex theory, JOSA 1971) takes these as the light's colour.
    """
    brightest = np.percentile(picture.clean.reshape(-1, 3), 99, axis=0)
    return float(brightest.min() / max(brightest.max(), 0.02))


@once
def lightness_contrast(picture: Picture) -> float:
    """RMS contrast, the standard deviation of lightness / 100 (Peli, Contrast in complex images, JOSA A 1990)."""
    return float(picture.lightness.std() / 100)
