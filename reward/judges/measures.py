"""Measurements of what a picture holds: a `Picture` in, one number out.

All are taken at the smaller size (see `reward.judges.picture`), in pixels of 64 a side. Each cites where the measure comes
from. Light and colours: `reward.judges.light`; what spoils a picture: `damage`.
"""

import cv2
import numpy as np
from jaxtyping import Float32
from skimage.filters import threshold_otsu

from reward.judges.picture import Picture


def _blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(pixels, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def _box(pixels: np.ndarray, side: int) -> np.ndarray:
    return cv2.blur(pixels, (side, side), borderType=cv2.BORDER_REPLICATE)


def mirror_asymmetry(picture: Picture) -> float:
    """Mean difference from the mirror image over mean difference from the average, about 0 (symmetric) to 1.4.

    Left-right intensity balance as in den Heijer, Evolving symmetric and balanced abstract art, 2012; taken on
    a smoothed picture, because a person sees the layout and not each pixel.
    """
    smooth = _blurred(picture.lab, 2)
    spread = np.linalg.norm(smooth - np.median(smooth, axis=(0, 1)), axis=-1).mean()
    return float(np.linalg.norm(smooth - smooth[:, ::-1], axis=-1).mean() / max(spread, 1.0))


def _saliency(picture: Picture) -> Float32[np.ndarray, "h w"]:
    """Colour distance from the frame's typical colour, row by row, in units of L*a*b*.

    Frequency-tuned saliency (Achanta et al., Frequency-tuned salient region detection, CVPR 2009) with the
    frame in place of the mean, since what touches the frame is background (Wei et al., ECCV 2012).
    """
    lab = _blurred(picture.lab, 0.7)
    rows = np.stack([lab[:, :2].mean(axis=1), lab[:, -2:].mean(axis=1)])[:, :, None]
    return np.linalg.norm(lab[None] - rows, axis=-1).min(axis=0)


def subject_prominence(picture: Picture) -> float:
    """Contrast times size of the largest salient region that does not lie across the frame, about 0 to 1."""
    saliency = _saliency(picture)
    threshold = max(threshold_otsu(saliency), 5.0) if np.ptp(saliency) > 1 else 5.0
    num_labels, labels, stats, _ = cv2.connectedComponentsWithStats(
        (saliency > threshold).astype(np.uint8), connectivity=4
    )
    if num_labels == 1:
        return 0.0
    area = stats[1:, cv2.CC_STAT_AREA]
    contrast = np.bincount(labels.ravel(), saliency.ravel())[1:] / area / 100
    frame = np.ones(saliency.shape, bool)
    frame[1:-1, 1:-1] = False
    on_frame = np.bincount(labels[frame], minlength=num_labels)[1:] / frame.sum()
    cut = np.clip(1 - on_frame / 0.08, 0, 1)  # a subject cut by the frame is only half seen
    return float(np.max(np.sqrt(np.minimum(area / saliency.size, 0.25)) * np.minimum(contrast, 0.6) * cut) / 0.3)


def busy_share(picture: Picture) -> float:
    """Share of the picture in which something goes on: local contrast above four just noticeable differences.

    Edge density as the measure of clutter (Mack and Oliva, Computational estimation of visual complexity, 2004);
    on the median-filtered picture, because grain is no content.
    """
    lab = picture.clean_lab
    variance = _box(lab**2, 5) - _box(lab, 5) ** 2
    return float((variance.sum(axis=-1) > (4 * 2.3) ** 2).mean())


def content_range(picture: Picture) -> float:
    """How much there is to see: the 98th percentile of the colour distance from the median colour, in units of L*a*b*."""
    lab = _blurred(picture.lab, 1.5)
    return float(np.percentile(np.linalg.norm(lab - np.median(lab, axis=(0, 1)), axis=-1), 98))
