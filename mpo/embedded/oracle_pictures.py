"""Pictures whose truth is known, for teaching and examining the oracle (`mpo/embedded/oracle.py`).

A scene of `mpo/embedded/scenes.py` is drawn, given defects, passed through the embedded model's autoencoder, as the model's samples
are, and varied a little. Whatever is done to a picture, its truth goes along.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional as F

from mpo.embedded.oracle import ALL_PLACES, to_pixels
from mpo.embedded.scenes import (
    COLOURS,
    POSITIONS,
    SHAPES,
    Defects,
    Group,
    Scene,
    degrade,
    paint,
    sample_place,
    sample_scene,
)

AUTOENCODER = Path(__file__).parent / "model" / "vae"
UNKNOWN = -100  # a position that is left open; torch's own mark of a target that does not count


class Pictures(NamedTuple):
    """N pictures, and what is true of them."""

    pixels: np.ndarray  # (N, H, W, 3) uint8
    numbers: np.ndarray  # (N, shapes, colours) int64: how many objects
    place: np.ndarray  # (N,) int64, an index of ALL_PLACES
    position: np.ndarray  # (N,) int64: 0 = the middle, then POSITIONS; UNKNOWN = not a single object, or left open
    amounts: np.ndarray  # (N, defects) float32, in the order of DEFECTS, each in [0, 1]

    def __getitem__(self, index: Any) -> "Pictures":  # type: ignore[override]
        return Pictures(*(np.asarray(column)[index] for column in self._asdict().values()))


def amounts_of(defects: Defects) -> np.ndarray:
    """(defects,) float32 in [0, 1]: 0 = none, 1 = the most that `scenes.sample_defects` draws."""
    return np.array(
        [
            defects.blur_sigma / 3.0,
            defects.gloom / 0.8,
            defects.wash / 0.8,
            defects.noise_sigma / 0.2,
            defects.num_fragments / 25,
            defects.cut_off / 0.6,
            (1 - defects.shrink) / 0.6,
            (defects.block - 1) / 7,
            float(defects.flat),
        ],
        np.float32,
    )


def sample_wide_scene(rng: np.random.Generator) -> Scene:
    """None to three objects, each of any shape and colour: what a model may draw, whatever the caption said."""
    place, colours = sample_place(rng)
    num_objects = int(rng.choice([0, 1, 2, 3], p=[0.05, 0.35, 0.35, 0.25]))
    groups = tuple(Group(str(rng.choice(SHAPES)), str(rng.choice(colours))) for _ in range(num_objects))
    position = POSITIONS[rng.integers(len(POSITIONS))] if num_objects == 1 and rng.random() < 0.6 else None
    return Scene(groups, place, position)


def sample_scene_defects(rng: np.random.Generator) -> Defects:
    """Defects that are painted, each of any amount up to the most that `scenes.sample_defects` draws."""
    return Defects(
        num_fragments=int(rng.integers(1, 26)) if rng.random() < 0.2 else 0,
        cut_off=float(rng.uniform(0.05, 0.6)) if rng.random() < 0.15 else 0.0,
        shrink=float(rng.uniform(0.4, 1)) if rng.random() < 0.15 else 1.0,
        flat=bool(rng.random() < 0.15),
    )


def sample_lens_defects(rng: np.random.Generator, spared_share: float) -> Defects:
    """Defects of the finished picture, each of any amount. At least this share of the pictures has none of them."""
    if rng.random() < spared_share:
        return Defects()
    return Defects(
        blur_sigma=float(rng.uniform(0, 3)) if rng.random() < 0.3 else 0.0,
        gloom=float(rng.uniform(0, 0.8)) if rng.random() < 0.25 else 0.0,
        wash=float(rng.uniform(0, 0.8)) if rng.random() < 0.25 else 0.0,
        noise_sigma=float(rng.uniform(0, 0.2)) if rng.random() < 0.25 else 0.0,
        block=int(rng.choice([2, 3, 4, 6, 8])) if rng.random() < 0.12 else 1,
    )


def describe(scene: Scene, defects: Defects) -> tuple[np.ndarray, int, int, np.ndarray]:
    """Numbers, place, position and amounts, as a row of `Pictures`."""
    numbers = np.zeros((len(SHAPES), len(COLOURS)), np.int64)
    for group in scene.groups:
        numbers[SHAPES.index(group.shape), list(COLOURS).index(group.colour)] += group.count
    # A subject that is cut off lies at any side that the caption leaves open.
    position = UNKNOWN
    if numbers.sum() == 1 and (scene.position or not defects.cut_off):
        position = 1 + POSITIONS.index(scene.position) if scene.position else 0
    if not numbers.any():
        defects = Defects(num_fragments=defects.num_fragments, flat=defects.flat)  # there is nothing to cut off
    return numbers, ALL_PLACES.index(scene.place), position, amounts_of(defects)


def draw_scenes(num_scenes: int, rng: np.random.Generator) -> Pictures:
    """Half of them of the kind that the embedded model learnt from, half of them wider; with painted defects alone."""
    rows = []
    for _ in range(num_scenes):
        scene = sample_scene(rng) if rng.random() < 0.5 else sample_wide_scene(rng)
        defects = sample_scene_defects(rng)
        rows.append((np.asarray(paint(scene, defects, rng)), *describe(scene, defects)))
    return Pictures(*(np.stack(column) for column in zip(*rows, strict=True)))


def degrade_pictures(pictures: Pictures, rng: np.random.Generator, spared_share: float) -> Pictures:
    """The same with defects of the finished picture."""
    pixels, amounts = np.empty_like(pictures.pixels), pictures.amounts.copy()
    for i, picture in enumerate(pictures.pixels):
        defects = sample_lens_defects(rng, spared_share)
        # `degrade` reduces a threefold canvas: enlarged by repetition, the picture comes back as it was.
        pixels[i] = np.asarray(degrade(picture.repeat(3, axis=0).repeat(3, axis=1), defects, rng))
        amounts[i] += amounts_of(defects)
    return pictures._replace(pixels=pixels, amounts=amounts)


@torch.no_grad()
def pass_through(autoencoder: AutoencoderTiny, pictures: Pictures, latent_noise: float, seed: int) -> Pictures:
    """The same as the embedded model's autoencoder gives them back, from latents with noise of up to this size."""
    generator = torch.Generator().manual_seed(seed)
    decoded = []
    for start in range(0, len(pictures.pixels), 50):
        latents = autoencoder.encode(2 * to_pixels(pictures.pixels[start : start + 50]) - 1).latents
        noise = torch.randn(latents.shape, generator=generator)
        size = latent_noise * torch.rand(len(latents), 1, 1, 1, generator=generator)
        decoded.append(autoencoder.decode(latents + size * noise).sample.clamp(-1, 1))
    pixels = ((torch.cat(decoded) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return pictures._replace(pixels=pixels)


def augment(pictures: Pictures, generator: torch.Generator) -> tuple[Tensor, Pictures]:
    """Pixels (N, 3, H, W) in [0, 1] with what samples show and nobody minds: half mirrored, moved by up to 2 pixels,
    colours a little off, slightly soft and slightly grainy. And the pictures' truth, mirrored where they are.
    """
    pixels = to_pixels(pictures.pixels)
    n, _, height, width = pixels.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    mirrored = torch.rand(n, generator=generator) < 0.5
    pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
    swapped = np.array([0, 2, 1, 3, 4])[pictures.position.clip(0)]
    position = np.where(mirrored.numpy() & (pictures.position != UNKNOWN), swapped, pictures.position)
    padded = F.pad(pixels, (2, 2, 2, 2), mode="replicate")
    moves = torch.randint(5, (n, 2), generator=generator).tolist()
    pixels = torch.stack([p[:, y : y + height, x : x + width] for p, (y, x) in zip(padded, moves, strict=True)])
    soft = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    pixels = pixels.lerp(soft, (uniform(-0.5, 0.4, 1, 1, 1)).clamp(min=0))
    pixels = pixels * (1 + uniform(-0.05, 0.05, 3, 1, 1)) + uniform(-0.02, 0.02, 3, 1, 1)
    grain = torch.randn(pixels.shape, generator=generator) * uniform(-0.015, 0.015, 1, 1, 1).clamp(min=0)
    return (pixels + grain).clamp(0, 1), pictures._replace(position=position)
