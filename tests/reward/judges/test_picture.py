import numpy as np
import pytest
from PIL import Image

from reward.judges.picture import FINE_SIDE, WORKING_SIDE, Picture, convert, once, working_pixels


@pytest.mark.parametrize(
    ("size", "fine", "small"),
    [((40, 30), (30, 40), (30, 40)), ((200, 100), (100, 200), (64, 128)), ((2048, 1024), (512, 1024), (64, 128))],
)
def test_a_picture_is_reduced_and_never_enlarged(size, fine, small):
    seen = Picture(Image.new("RGB", size, "teal"))
    assert seen.fine.shape[:2] == fine
    assert seen.small.shape[:2] == seen.lab.shape[:2] == working_pixels(Image.new("RGB", size)).shape[:2] == small
    assert min(fine) <= FINE_SIDE
    assert min(small) <= WORKING_SIDE


def test_pixels_and_pictures_are_the_same():
    values = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    for given in (Image.fromarray(values), values / 255):
        np.testing.assert_array_equal(Picture(given).small, Picture(values).small)


def test_colours_by_hand():
    # CIE 1976: white has L* = 100 and no chroma, the sRGB primary red L* = 53.2, a* = 80.1, b* = 67.2.
    import cv2

    found = convert(np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]), cv2.COLOR_RGB2Lab)
    np.testing.assert_allclose(found, [[100, 0, 0], [53.2, 80.1, 67.2]], atol=0.3)


def test_a_measure_is_taken_once_of_each_picture():
    asked = []

    @once
    def height(picture: Picture) -> float:
        asked.append(picture)
        return float(len(picture.fine))

    first, second = Picture(Image.new("RGB", (20, 30))), Picture(Image.new("RGB", (20, 40)))
    assert [height(first), height(second), height(first)] == [30, 40, 30]
    assert asked == [first, second]
