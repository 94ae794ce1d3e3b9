"""Pictures and pairs of them as data sets hold them."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.recipes import TRAIN_PROMPTS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the library's own imports
    import datasets


def picture(value: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    noise = np.random.default_rng(value).integers(0, 60, (size[1], size[0], 3))
    return Image.fromarray((noise + value).astype(np.uint8))


def jpeg(value: int, size: tuple[int, int] = (32, 32)) -> bytes:
    buffer = io.BytesIO()
    picture(value, size).save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()


def pickapic(folder: Path, prompts: Sequence[str] = TRAIN_PROMPTS, *, num_broken: int = 0) -> Path:
    """Columns and kinds of Pick-a-Pic v2's parquet files: three pairs, a tie, and a picture that two pairs share.

    The pictures of the first `num_broken` pairs cannot be decoded.
    """
    labels = [1.0, 0.0, 0.5, 1.0]  # of the first picture
    pictures = [[jpeg(10), jpeg(20), jpeg(30), jpeg(140)], [jpeg(110), jpeg(120), jpeg(130), jpeg(10)]]
    for row in [0, 1, 3][:num_broken]:
        for side in pictures:
            side[row] = side[row][:100]
    rows = {
        "caption": [prompts[0], prompts[1], prompts[2], prompts[0]],
        "jpg_0": pictures[0],
        "jpg_1": pictures[1],
        "label_0": labels,
        "label_1": [1.0 - label for label in labels],
        "has_label": [True] * 4,
        "user_id": [1, 2, 3, 4],
    }
    datasets.Dataset.from_dict(rows).to_parquet(folder / "pickapic.parquet")
    return folder / "pickapic.parquet"
