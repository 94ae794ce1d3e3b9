"""Classical image measurements: RGB pixels (H, W, 3) in [0, 1] in, one number out.

All are taken from the picture reduced to `WORKING_SIDE` pixels on its short side, so that a photograph and
a thumbnail are judged as they look at the same size. Each cites where the measure comes from.
"""

from functools import cache

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage import color, filters, measure, morphology

WORKING_SIDE = 64


def working_pixels(image: Image.Image) -> np.ndarray:
    """RGB picture -> float64 (H, W, 3) in [0, 1], at most 64 pixels on the short side, never enlarged."""
    scale = WORKING_SIDE / min(image.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float64) / 255


def lightness(pixels: np.ndarray) -> np.ndarray:
    """CIE L* (H, W) in [0, 100]."""
    return color.rgb2lab(pixels)[..., 0]


def blur_sigma(pixels: np.ndarray) -> float:
    """Width of the picture's edges as the sigma, in pixels, of the Gaussian that would make them so soft.

    Blurring an edge of width s again by s0 divides its gradient by R = sqrt((s^2 + s0^2) / s^2), hence
    s = s0 / sqrt(R^2 - 1) (Zhuo and Sim, Defocus map estimation from a single image, Pattern Recognition 2011,
    eq. 5). The median over the steepest edges; infinite if there is no edge.
    """
    luminance = ndimage.median_filter(lightness(pixels), size=3, mode="nearest")  # grain is no edge
    reblur = 1.5
    before = ndimage.gaussian_gradient_magnitude(luminance, 0.5, mode="nearest")
    after = ndimage.gaussian_gradient_magnitude(
        ndimage.gaussian_filter(luminance, reblur, mode="nearest"), 0.5, mode="nearest"
    )
    steepest = (
        (before >= np.percentile(before, 95)) & (before > 0.6) & (before == ndimage.maximum_filter(before, size=3))
    )
    if not steepest.any():
        return np.inf
    ratio = np.median(before[steepest] / np.maximum(after[steepest], 1e-9))
    return float(reblur / np.sqrt(max(ratio**2 - 1, 1e-6)))


def brightest_value(pixels: np.ndarray) -> float:
    """How bright the brighter parts are: the 90th percentile of HSV value, in [0, 1].

    Value as the light of a picture: Datta et al., Studying aesthetics in photographic images, ECCV 2006 (f1);
    a percentile, because a black background does not make a picture dark.
    """
    return float(np.percentile(pixels.max(axis=-1), 90))


def colourfulness(pixels: np.ndarray) -> float:
    """M3 of Hasler and Süsstrunk, Measuring colourfulness in natural images, SPIE 5007, 2003.

    Their readers called 15 slightly, 33 moderately, 45 averagely, 59 quite and 82 highly colourful.
    """
    red, green, blue = np.moveaxis(pixels * 255, -1, 0)
    rg, yb = red - green, 0.5 * (red + green) - blue
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


def lightness_contrast(pixels: np.ndarray) -> float:
    """RMS contrast, the standard deviation of lightness / 100 (Peli, Contrast in complex images, JOSA A 1990)."""
    return float(lightness(pixels).std() / 100)


def mirror_asymmetry(pixels: np.ndarray) -> float:
    """Mean difference from the mirror image over mean difference from the average, about 0 (symmetric) to 1.4.

    Left-right intensity balance as in den Heijer, Evolving symmetric and balanced abstract art, 2012; taken on
    a smoothed picture, because a person sees the layout and not each pixel.
    """
    smooth = ndimage.gaussian_filter(color.rgb2lab(pixels), (2, 2, 0), mode="nearest")
    spread = np.linalg.norm(smooth - np.median(smooth, axis=(0, 1)), axis=-1).mean()
    return float(np.linalg.norm(smooth - smooth[:, ::-1], axis=-1).mean() / max(spread, 1.0))


def noise_sigma(pixels: np.ndarray) -> float:
    """Standard deviation of the grain, in pixel units of [0, 1].

    The response to the difference of two Laplacians, which straight edges and shading leave at zero (Immerkaer, Fast
    noise variance estimation, CVIU 1996, eq. 3), by its median absolute deviation, which sparse structure does
    not move; at full and at half size, since grain may be two pixels wide.
    """
    half = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]
    half = half.reshape(half.shape[0] // 2, 2, half.shape[1] // 2, 2, 3).mean(axis=(1, 3))
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])[..., None]  # sums of squares: 36
    responses = [np.abs(ndimage.convolve(p, kernel, mode="nearest")) for p in (pixels, half)]
    return float(max(np.median(r, axis=(0, 1)).mean() / (0.6745 * 6) for r in responses))


def block_pitch(pixels: np.ndarray) -> float:
    """Side in pixels of the blocks that the picture is made of; 1 if there are none.

    The largest pitch on whose grid lies most of the change between neighbouring pixels, along both axes. Steps on
    block borders against steps inside: Wang, Sheikh and Bovik, No-reference perceptual quality assessment of
    JPEG compressed images, ICIP 2002.
    """
    luminance = lightness(pixels)
    pitches = []
    for axis in (0, 1):
        steps = np.abs(np.diff(luminance, axis=axis)).mean(axis=1 - axis)
        pitches.append(1.0)
        for pitch, borders in _grids(len(steps) + 1):
            # Three borders that show a step, because one or two edges of the scene may meet a grid by chance.
            if steps[borders].sum() >= 0.65 * steps.sum() and (steps[borders] > 0.3).sum() >= 3:
                pitches[-1] = pitch
                break
    return float(min(pitches))


@cache
def _grids(side: int) -> list[tuple[float, np.ndarray]]:
    """The grids that a side of so many pixels may have, coarsest first: pitch, and the steps that lie on its borders."""
    return [
        (side / blocks, np.unique(np.round(np.arange(1, blocks) * side / blocks).astype(int) - 1))
        for blocks in range(4, side // 3 + 1)
    ]


def roughness(pixels: np.ndarray) -> float:
    """Grain and blocks on one scale: 0 = none, about 1 = they are the first thing that one sees; it has no upper end."""
    return max(noise_sigma(pixels) / 0.1, (block_pitch(pixels) - 1) / 6)


def fine_detail(pixels: np.ndarray) -> float:
    """Energy of structure one to two pixels wide, in units of L*, on the half of the picture that has the most.

    A band of the Laplacian pyramid (Burt and Adelson, The Laplacian pyramid as a compact image code, 1983).
    """
    luminance = lightness(pixels)
    band = ndimage.gaussian_filter(luminance, 0.5, mode="nearest") - ndimage.gaussian_filter(
        luminance, 1.5, mode="nearest"
    )
    local = np.sqrt(np.maximum(ndimage.uniform_filter(band**2, size=9, mode="nearest"), 0))
    return float(np.percentile(local, 75))


def _saliency(pixels: np.ndarray) -> np.ndarray:
    """Colour distance (H, W) from the frame's typical colour, row by row and as a whole, in units of L*a*b*.

    Frequency-tuned saliency (Achanta et al., Frequency-tuned salient region detection, CVPR 2009) with the
    frame in place of the mean, since what touches the frame is background (Wei et al., ECCV 2012).
    """
    lab = ndimage.gaussian_filter(color.rgb2lab(pixels), (0.7, 0.7, 0), mode="nearest")
    rows = np.stack([lab[:, :2].mean(axis=1), lab[:, -2:].mean(axis=1)])[:, :, None]
    return np.linalg.norm(lab[None] - rows, axis=-1).min(axis=0)


def subject_prominence(pixels: np.ndarray) -> float:
    """Contrast times size of the largest salient region that does not lie across the frame, about 0 to 1."""
    saliency = _saliency(pixels)
    threshold = max(filters.threshold_otsu(saliency), 5.0) if np.ptp(saliency) > 1 else 5.0
    labels = np.asarray(measure.label(saliency > threshold, connectivity=1))
    num_regions = int(labels.max())
    if not num_regions:
        return 0.0
    index = np.arange(1, num_regions + 1)
    area = ndimage.sum_labels(np.ones_like(saliency), labels, index) / saliency.size
    contrast = ndimage.mean(saliency, labels, index) / 100
    frame = np.ones(saliency.shape, bool)
    frame[1:-1, 1:-1] = False
    on_frame = ndimage.sum_labels(frame, labels, index) / frame.sum()
    cut = np.clip(1 - on_frame / 0.08, 0, 1)  # a subject cut by the frame is only half seen
    return float(np.max(np.sqrt(np.minimum(area, 0.25)) * np.minimum(contrast, 0.6) * cut) / 0.3)


def scrap_share(pixels: np.ndarray) -> float:
    """Share of the picture taken up by scraps: spots of under 0.8 % of its area, lighter or darker than all around.

    What area opening and closing remove (Vincent, Morphological area openings and closings, 1993), after a
    median filter has removed grain and the finest texture.
    """
    light = lightness(ndimage.median_filter(pixels, size=(3, 3, 1), mode="nearest"))
    padded = np.pad(np.round(light).astype(np.uint8), 1, mode="edge")
    limit = max(4, int(0.008 * light.size))
    flat = morphology.area_closing(morphology.area_opening(padded, limit), limit)
    return float((np.abs(padded.astype(int) - flat) > 10)[1:-1, 1:-1].mean())


def busy_share(pixels: np.ndarray) -> float:
    """Share of the picture in which something goes on: local contrast above four just noticeable differences.

    Edge density as the measure of clutter (Mack and Oliva, Computational estimation of visual complexity, 2004);
    on the median-filtered picture, because grain is no content.
    """
    lab = color.rgb2lab(ndimage.median_filter(pixels, size=(3, 3, 1), mode="nearest"))
    mean = ndimage.uniform_filter(lab, size=5, axes=(0, 1), mode="nearest")
    variance = ndimage.uniform_filter(lab**2, size=5, axes=(0, 1), mode="nearest") - mean**2
    return float((np.sqrt(np.maximum(variance.sum(axis=-1), 0)) > 4 * 2.3).mean())


def content_range(pixels: np.ndarray) -> float:
    """How much there is to see: the 98th percentile of the colour distance from the median colour, in units of L*a*b*."""
    lab = ndimage.gaussian_filter(color.rgb2lab(pixels), (1.5, 1.5, 0), mode="nearest")
    return float(np.percentile(np.linalg.norm(lab - np.median(lab, axis=(0, 1)), axis=-1), 98))
