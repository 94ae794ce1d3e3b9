"""A picture at the sizes at which it is measured, converted once for all the measures that need it.

h x w pixels: at most `WORKING_SIDE` on the short side, for what a person sees at a glance, so that a photograph and a
thumbnail are judged as they look at the same size. H x W pixels: at most `FINE_SIDE`, for grain and blocks, which averaging
would hide.
"""

from collections.abc import Callable
from functools import cached_property, wraps
from typing import TypeVar

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

WORKING_SIDE = 64
MEDIUM_SIDE = 128
FINE_SIDE = 512
Value = TypeVar("Value")


def working_pixels(image: Image.Image) -> Float32[np.ndarray, "h w 3"]:
    """RGB picture -> [0, 1], at most 64 pixels on the short side, never enlarged."""
    return _reduced(np.asarray(image), WORKING_SIDE).astype(np.float32) / 255


def convert(pixels: np.ndarray, code: int) -> Float32[np.ndarray, "*B 3"]:
    """OpenCV's conversion of colours (..., 3) in [0, 1]."""
    flat = np.ascontiguousarray(pixels, np.float32).reshape(1, -1, 3)
    return cv2.cvtColor(flat, code).reshape(pixels.shape)


def _reduced(pixels: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "h w 3"]:
    scale = side / min(pixels.shape[:2])
    if scale >= 1:
        return pixels
    height, width = (max(1, round(each * scale)) for each in pixels.shape[:2])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


class Picture:
    """An RGB picture, and what several measures take from it; arrays in [0, 1], and L*a*b* with L* in [0, 100]."""

    def __init__(self, image: Image.Image | np.ndarray):
        """image: PIL, or pixels (H, W, 3), uint8 or floats in [0, 1]."""
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8:
            pixels = (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
        self.fine = _reduced(pixels, FINE_SIDE)
        self.small = _reduced(pixels, WORKING_SIDE)
        self.medium = _reduced(pixels, MEDIUM_SIDE)
        self.taken: dict[str, object] = {}  # what `once` has taken of it

    @cached_property
    def pixels(self) -> Float32[np.ndarray, "h w 3"]:
        return self.small.astype(np.float32) / 255

    @cached_property
    def lab(self) -> Float32[np.ndarray, "h w 3"]:
        return convert(self.pixels, cv2.COLOR_RGB2Lab)

    @cached_property
    def lightness(self) -> Float32[np.ndarray, "h w"]:
        return np.ascontiguousarray(self.lab[..., 0])

    @cached_property
    def clean(self) -> Float32[np.ndarray, "h w 3"]:
        """Pixels without the finest grain: the median of each 3 x 3."""
        return cv2.medianBlur(self.pixels, 3)

    @cached_property
    def clean_lab(self) -> Float32[np.ndarray, "h w 3"]:
        return convert(self.clean, cv2.COLOR_RGB2Lab)

    @cached_property
    def medium_light(self) -> Float32[np.ndarray, "m n"]:
        """L* at the medium size, without the finest grain."""
        clean = cv2.medianBlur(self.medium.astype(np.float32) / 255, 3)
        return convert(clean, cv2.COLOR_RGB2Lab)[..., 0]

    @cached_property
    def fine_light(self) -> UInt8[np.ndarray, "H W"]:
        """Luma at the finer size."""
        return cv2.cvtColor(self.fine, cv2.COLOR_RGB2GRAY)

    @cached_property
    def fine_steps(self) -> tuple[np.ndarray, np.ndarray]:
        """How much neighbouring pixels differ in luma (uint8), down the columns and along the rows."""
        light = self.fine_light
        return cv2.absdiff(light[1:], light[:-1]), cv2.absdiff(light[:, 1:], light[:, :-1])


def once(measure: Callable[[Picture], Value]) -> Callable[[Picture], Value]:
    """A measure that is taken once of each picture, however many questions ask for it."""

    @wraps(measure)
    def taken(picture: Picture) -> Value:
        if measure.__name__ not in picture.taken:
            picture.taken[measure.__name__] = measure(picture)
        return picture.taken[measure.__name__]  # type: ignore[return-value]

    return taken
