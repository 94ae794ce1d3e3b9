"""Reads pictures that have been compared already, in three layouts.

`pickapic`: rows of Pick-a-Pic v2 (caption, jpg_0, jpg_1 as bytes; label_0 and label_1, 1 for the better, 0.5 each for a
tie; ties are left out, as in arXiv 2311.12908). `pairs`: rows of prompt, chosen, rejected, as TRL names them; chosen and
rejected are pictures, bytes, or files beside the table. `folder`: chosen/NAME.png, rejected/NAME.png and NAME.txt with
the prompt in either place.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from mpo import MpoError
from mpo.data.readers import read_rows
from mpo.recipe import Preferences

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Preference:
    """One comparison; pictures still as they were stored."""

    prompt: str
    chosen: Any  # bytes, a file's path, or a mapping with "bytes" and "path"
    rejected: Any


def read_preferences(settings: Preferences) -> Iterator[Preference]:
    """The comparisons of a source, in its order, ties left out. Raises MpoError naming what cannot be read."""
    reader = {"pickapic": _pickapic, "pairs": _pairs, "folder": _folder}[settings.layout]
    return islice(reader(settings), settings.limit)


def _pickapic(settings: Preferences) -> Iterator[Preference]:
    columns = ["caption", "jpg_0", "jpg_1", "label_0"]
    for row in read_rows(
        settings.path, split=settings.split, revision=settings.revision, columns=columns, field="preferences.path"
    ):
        if row["label_0"] in (0, 1):
            first, second = ("jpg_0", "jpg_1") if row["label_0"] else ("jpg_1", "jpg_0")
            yield Preference(row["caption"].strip(), row[first], row[second])


def _pairs(settings: Preferences) -> Iterator[Preference]:
    columns = ["prompt", "chosen", "rejected"]
    beside = Path(settings.path).parent
    for row in read_rows(
        settings.path, split=settings.split, revision=settings.revision, columns=columns, field="preferences.path"
    ):
        chosen, rejected = (beside / row[c] if isinstance(row[c], str) else row[c] for c in columns[1:])
        yield Preference(row["prompt"].strip(), chosen, rejected)


def _folder(settings: Preferences) -> Iterator[Preference]:
    folder = Path(settings.path)
    chosen = sorted(p for p in (folder / "chosen").glob("*") if p.suffix.lower() in PICTURES)
    if not chosen:
        raise MpoError(
            f"preferences.path={settings.path!r} holds no chosen/*.png; lay it out as chosen/NAME.png, rejected/NAME.png, NAME.txt"
        )
    for file in chosen:
        rejected = [p for p in (folder / "rejected").glob(f"{file.stem}.*") if p.suffix.lower() in PICTURES]
        texts = [p for p in (folder / f"{file.stem}.txt", file.with_suffix(".txt")) if p.is_file()]
        if not rejected or not texts:
            raise MpoError(
                f"preferences.path={settings.path!r}: {file.name} has no {'rejected picture' if not rejected else 'text'} of the same name; add it, or remove the picture"
            )
        yield Preference(texts[0].read_text("utf-8").strip(), file, rejected[0])


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale to cover (width, height), then crop around the centre."""
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def nearest_size(image: Image.Image, sizes: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """The size with the nearest aspect ratio, by the ratio of the ratios."""
    aspect = image.width / image.height
    return min(sizes, key=lambda size: max(aspect / (size[0] / size[1]), (size[0] / size[1]) / aspect))
