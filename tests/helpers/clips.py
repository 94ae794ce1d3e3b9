"""Where the subject of a clip is, measured without knowing how it was drawn."""

import numpy as np
from skimage import color

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def subject_path(frames: np.ndarray) -> np.ndarray:
    """Centre (x, y) of what stands out from the two ends of its row, in each frame: uint8 (F, H, W, 3) -> (F, 2) of the side."""
    lab = color.rgb2lab(frames)
    ends = np.stack([np.median(lab[:, :, :2], axis=2), np.median(lab[:, :, -2:], axis=2)])  # (2, F, H, 3)
    contrast = np.linalg.norm(lab[None] - ends[:, :, :, None], axis=-1).min(axis=0)  # (F, H, W)
    weight = np.where(contrast > 0.5 * contrast.max(axis=(1, 2), keepdims=True), contrast, 0)
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]]
    centres = np.stack([(weight * x).sum(axis=(1, 2)), (weight * y).sum(axis=(1, 2))], axis=1)
    return centres / weight.sum(axis=(1, 2))[:, None] / frames.shape[2]


def seen_motion(frames: np.ndarray) -> str:
    """One of left, right, up, down and still: the line fitted to the subject's path, still below a tenth of the side."""
    path = subject_path(frames)
    time = np.linspace(-0.5, 0.5, len(path))
    travel = time @ (path - path.mean(axis=0)) / (time @ time)  # (dx, dy) from the first frame to the last
    if np.abs(travel).max() < 0.1:
        return "still"
    return max(DIRECTIONS, key=lambda name: float(travel @ DIRECTIONS[name]))
