"""Captioned clips of deliberately mixed quality: what the embedded text-to-video model learnt from.

One shape of `mpo/embedded/scenes.py` moves left, right, up or down, or stands still. As with pictures, the caption never
mentions quality. `ClipDefects` says what is wrong with a clip: a picture's defects, the same in every frame, and those
that only a clip can have (a path that jitters, brightness that flickers, no motion though the caption names one).
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from mpo.embedded.scenes import (
    COLOURS,
    IMAGE_SIZE,
    SHAPES,
    Defects,
    Group,
    PlacedObject,
    degrade,
    group_phrase,
    paint_object,
    paint_place,
    place_phrase,
    sample_place,
)

NUM_FRAMES = 8

Motion = Literal["left", "right", "up", "down", "still"]
MOTIONS: tuple[Motion, ...] = ("left", "right", "up", "down", "still")
_MOTION_PHRASES: dict[Motion, str] = {
    "left": "moves left",
    "right": "moves right",
    "up": "moves up",
    "down": "moves down",
    "still": "stands still",
}
_DIRECTIONS: dict[Motion, tuple[float, float]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "still": (0, 0),
}


@dataclass(frozen=True)
class MovingScene:
    """What a caption says. `place` as in `Scene`."""

    group: Group  # of one object
    motion: Motion
    place: str


@dataclass(frozen=True)
class ClipDefects:
    """Amounts of degradation; all zero is a good clip."""

    picture: Defects = field(default_factory=Defects)  # the same in every frame
    jitter: float = 0.0  # standard deviation of the path's error in each frame, a share of the side
    flicker: float = 0.0  # largest change of brightness in a frame, a share of it
    frozen: bool = False  # the subject stays in the middle, whatever the caption says

    @property
    def is_none(self) -> bool:
        return self == ClipDefects()


def clip_caption(scene: MovingScene) -> str:
    """The scene in words, such as "a red circle moves left in a meadow"."""
    return f"{group_phrase(scene.group)} {_MOTION_PHRASES[scene.motion]} {place_phrase(scene.place)}"


def sample_moving_scene(rng: np.random.Generator) -> MovingScene:
    """A random scene; each motion is as likely as another."""
    place, colours = sample_place(rng)
    group = Group(SHAPES[rng.integers(len(SHAPES))], colours[rng.integers(len(colours))])
    return MovingScene(group, MOTIONS[rng.integers(len(MOTIONS))], place)


def sample_clip_defects(rng: np.random.Generator) -> ClipDefects:
    """No defect (1 in 2) or one of a random amount."""
    if rng.random() < 0.5:
        return ClipDefects()
    kinds = ("blur", "gloom", "wash", "noise", "shrink", "flat", "jitter", "flicker", "frozen")
    match str(rng.choice(kinds, p=[0.14, 0.12, 0.1, 0.1, 0.08, 0.06, 0.14, 0.14, 0.12])):
        case "blur":
            return ClipDefects(Defects(blur_sigma=float(rng.uniform(1.0, 3.0))))
        case "gloom":
            return ClipDefects(Defects(gloom=float(rng.uniform(0.45, 0.8))))
        case "wash":
            return ClipDefects(Defects(wash=float(rng.uniform(0.45, 0.8))))
        case "noise":
            return ClipDefects(Defects(noise_sigma=float(rng.uniform(0.07, 0.2))))
        case "shrink":
            return ClipDefects(Defects(shrink=float(rng.uniform(0.4, 0.6))))
        case "flat":
            return ClipDefects(Defects(flat=True))
        case "jitter":
            return ClipDefects(jitter=float(rng.uniform(0.04, 0.08)))
        case "flicker":
            return ClipDefects(flicker=float(rng.uniform(0.3, 0.6)))
        case _:
            return ClipDefects(frozen=True)


def paint_clip(scene: MovingScene, defects: ClipDefects, rng: np.random.Generator) -> np.ndarray:
    """The scene as a clip, uint8 (F, H, W, 3) of 8 frames of 64x64. `rng` varies what the caption leaves open."""
    background = paint_place(scene.place, flat=defects.picture.flat, rng=rng)
    placed = _place_at_start(scene, defects, rng)
    offsets = _path(scene.motion, defects, rng)
    dimming = 1 - defects.flicker * rng.random(NUM_FRAMES)
    frames = np.empty((NUM_FRAMES, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    for frame, (dx, dy), brightness in zip(frames, offsets, dimming, strict=True):
        moved = replace(placed, x=placed.x + dx, y=placed.y + dy)
        canvas = paint_object(background, moved, flat=defects.picture.flat)
        frame[:] = np.asarray(degrade(canvas * brightness, defects.picture, rng))
    return frames


def paint_clips(
    num_clips: int, *, held_out: frozenset[str] = frozenset(), rng: np.random.Generator
) -> tuple[np.ndarray, list[str]]:
    """Random clips as uint8 (N, F, H, W, 3) and their captions, none of them `held_out`."""
    pixels = np.empty((num_clips, NUM_FRAMES, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    captions: list[str] = []
    while len(captions) < num_clips:
        scene = sample_moving_scene(rng)
        if clip_caption(scene) not in held_out:
            pixels[len(captions)] = paint_clip(scene, sample_clip_defects(rng), rng)
            captions.append(clip_caption(scene))
    return pixels, captions


def _place_at_start(scene: MovingScene, defects: ClipDefects, rng: np.random.Generator) -> PlacedObject:
    """The object in the middle: the path says where it is in each frame."""
    x, y = 0.5 + rng.normal(0, 0.02, size=2)
    rgb = np.array(COLOURS[scene.group.colour], dtype=np.float32) + rng.normal(0, 5, size=3)
    return PlacedObject(
        shape=scene.group.shape,
        rgb=np.clip(rgb, 0, 255),
        x=x,
        y=y,
        radius=0.19 * rng.uniform(0.9, 1.1) * defects.picture.shrink,
        angle=rng.normal(0, 0.08),
    )


def _path(motion: Motion, defects: ClipDefects, rng: np.random.Generator) -> np.ndarray:
    """Offsets from the middle (F, 2), shares of the side: a straight line at constant speed, nearly from edge to edge."""
    travel = rng.uniform(0.4, 0.5)
    along = np.zeros(NUM_FRAMES) if defects.frozen else np.linspace(-0.5, 0.5, NUM_FRAMES)
    line = along[:, None] * travel * np.array(_DIRECTIONS[motion])
    return line + rng.normal(0, 1, size=(NUM_FRAMES, 2)) * defects.jitter
