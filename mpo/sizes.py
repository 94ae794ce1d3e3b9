"""Sizes of pictures and clips, and which of them a model can make."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpo import MpoError
from reward.checklist import Kind


@dataclass(frozen=True, order=True)
class Size:
    """Of a picture, or with frames and fps of a clip."""

    width: int  # pixels
    height: int  # pixels
    frames: int | None = None
    fps: float | None = None  # frames a second

    @property
    def kind(self) -> Kind:
        return "image" if self.frames is None else "video"

    @property
    def num_pixels(self) -> int:
        """Over all frames."""
        return self.width * self.height * (self.frames or 1)

    def __str__(self) -> str:
        clip = "" if self.frames is None else f", {self.frames} frames at {self.fps:g} a second"
        return f"{self.width}x{self.height}{clip}"


def parse_size(value: Any) -> Size:
    """[width, height], or [width, height, frames, frames a second]. Raises ValueError with the remedy."""
    if isinstance(value, Size):
        return value
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    whole = len(numbers) in (2, 4) and all(type(n) is int and n > 0 for n in numbers[:3])
    if not whole or any(isinstance(n, bool) or not isinstance(n, (int, float)) or n <= 0 for n in numbers):
        raise ValueError(
            f"{value!r} is no size; give [width, height] in pixels, or for clips [width, height, frames, frames a second]"
        )
    return Size(*numbers[:3], *(float(n) for n in numbers[3:]))


def size_fields(size: Size) -> list[int | float]:
    """As a recipe writes it."""
    fields = [size.width, size.height, *([] if size.frames is None else [size.frames, size.fps])]
    return [int(n) if n == int(n) else n for n in fields if n is not None]


@dataclass(frozen=True)
class SizeRule:
    """What a model makes: sides are multiples of `multiple` pixels, frame counts `step` x k + `first`."""

    kind: Kind
    multiple: int
    step: int = 1
    first: int = 0
    max_frames: int | None = None  # None = any number
    fps: float | None = None  # at which its clips were made for training; None for pictures
    area: int | None = None  # pixels of a picture, to which the pipeline scales any other size; None = any number

    def check(self, size: Size, *, field: str, maker: str) -> None:
        """Raises MpoError that names the nearest size that the model can make."""
        if size.kind != self.kind:
            made, form = {
                "image": ("pictures", "[width, height]"),
                "video": ("clips", "[width, height, frames, frames a second]"),
            }[self.kind]
            raise MpoError(f"{field} holds {size_fields(size)}, but {maker} makes {made}; give {form}")
        nearest = self.nearest(size)
        if nearest == size:
            return
        raise MpoError(f"{field} holds {size_fields(size)}: {maker} takes {self.words()}; use {size_fields(nearest)}")

    def words(self) -> str:
        words = [f"multiples of {self.multiple} pixels"]
        if self.kind == "video" and (self.step, self.first) != (1, 0):
            words.append(f"{self.step}k+{self.first} frames")
        if self.max_frames is not None:
            words.append(f"at most {self.max_frames} frames")
        if self.area is not None:
            words.append(f"about {self.area} pixels in all")
        return " and ".join(words)

    def nearest(self, size: Size) -> Size:
        """The size that the model can make, nearest in each number; with an area the nearest in shape."""
        if self.area is not None:
            return self._of_area(size)
        width, height = (max(1, round(side / self.multiple)) * self.multiple for side in (size.width, size.height))
        if size.frames is None:
            return Size(width, height)
        k = max(0 if self.first else 1, round((size.frames - self.first) / self.step))
        if self.max_frames is not None:
            k = min(k, (self.max_frames - self.first) // self.step)
        return Size(width, height, self.step * k + self.first, size.fps)

    def _of_area(self, size: Size) -> Size:
        """As such pipelines scale and cut sides, until that changes nothing."""
        assert self.area is not None
        for _ in range(100):  # sizes whose sides differ most have none
            scale = math.sqrt(self.area / (size.width * size.height))
            sides = (int(side * scale // self.multiple * self.multiple) for side in (size.width, size.height))
            scaled = Size(*(max(side, self.multiple) for side in sides))
            if scaled == size:
                break
            size = scaled
        return size
