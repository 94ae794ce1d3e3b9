"""Trains the oracle, an independent judge of the embedded model: `python -m mpo.embedded.train_oracle --output DIR`.

Three phases, each flat: draw scenes of known content (`mpo/embedded/scenes.py`); pass some of them, defects included, through
the embedded model's autoencoder, as its samples are; train a small network to read content and defects off the pictures.
It goes on from where a killed run was. About 11 minutes on one core. `python -m benchmarks.oracle` examines what comes out.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from mpo.embedded.oracle import ALL_PLACES, WEIGHTS, Reader, to_pixels
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
Log = Callable[..., None]


@dataclass(frozen=True)
class OracleTraining:
    """What the shipped weights were trained with."""

    seed: int = 11  # of no prompt file and of no training of the embedded models
    num_scenes: int = 6_000  # each is given other defects each time that it is used
    num_decoded: int = 2_400  # pictures that have been through the autoencoder
    scenes_per_file: int = 200
    cycles: tuple[int, ...] = (2_000, 800)  # steps; in each the learning rate falls to zero (arXiv 1608.03983)
    batch_size: int = 32
    decoded_share: float = 0.25  # of a batch
    spared_share: float = 0.4  # at least so many drawn pictures have no defect of lens, sensor or codec
    decoded_spared_share: float = 0.25  # the same of those that go through the autoencoder
    latent_noise: float = 0.1  # standard deviation, before decoding: a sample's latents are never quite an encoder's
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    checkpoint_interval_steps: int = 100

    @property
    def num_steps(self) -> int:
        return sum(self.cycles)


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


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """The file is there whole or not at all, whenever the process is killed."""
    part = path.with_name(f"{path.name}.part")
    write(part)
    os.replace(part, path)


def keep_pictures(path: Path, pictures: Pictures) -> None:
    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez(file, **pictures._asdict())

    write_whole(path, write)


def load_pictures(paths: list[Path]) -> Pictures:
    files = [np.load(path) for path in paths]
    return Pictures(*(np.concatenate([file[column] for file in files]) for column in Pictures._fields))


def make_pictures(config: OracleTraining, folder: Path, log: Log) -> tuple[Pictures, Pictures]:
    """Scenes, and pictures from the autoencoder. Each file of `folder` is made once."""
    autoencoder: Any = AutoencoderTiny.from_pretrained(AUTOENCODER, torch_dtype=torch.float32).eval()
    scenes, decoded = [], []
    for part in range(math.ceil(config.num_scenes / config.scenes_per_file)):
        scenes.append(folder / f"scenes-{part:03d}.npz")
        rng = np.random.default_rng((config.seed, part))
        if not scenes[-1].exists():
            keep_pictures(scenes[-1], draw_scenes(config.scenes_per_file, rng))
            log(phase="scenes", num_scenes=(part + 1) * config.scenes_per_file)
    for part in range(math.ceil(config.num_decoded / config.scenes_per_file)):
        decoded.append(folder / f"decoded-{part:03d}.npz")
        rng = np.random.default_rng((config.seed, 1, part))
        if not decoded[-1].exists():
            degraded = degrade_pictures(load_pictures([scenes[part % len(scenes)]]), rng, config.decoded_spared_share)
            keep_pictures(decoded[-1], pass_through(autoencoder, degraded, config.latent_noise, seed=part))
            log(phase="decoded", num_pictures=(part + 1) * config.scenes_per_file)
    return load_pictures(scenes), load_pictures(decoded)


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


def sample_batch(scenes: Pictures, decoded: Pictures, step: int, config: OracleTraining) -> tuple[Tensor, Pictures]:
    """The batch of a step, the same whether or not the training was cut off before it."""
    rng = np.random.default_rng((config.seed, 2, step))
    num_decoded = round(config.batch_size * config.decoded_share)
    drawn = scenes[rng.integers(len(scenes.pixels), size=config.batch_size - num_decoded)]
    given_back = decoded[rng.integers(len(decoded.pixels), size=num_decoded)]
    halves = zip(degrade_pictures(drawn, rng, config.spared_share), given_back, strict=True)
    batch = Pictures(*(np.concatenate(columns) for columns in halves))
    return augment(batch, torch.Generator().manual_seed(config.seed * 1_000_003 + step))


def losses_of(said: dict[str, Tensor], truth: Pictures) -> dict[str, Tensor]:
    """Cross entropy of each reading, summed over what is read; of an amount in [0, 1], as of a share."""
    numbers = torch.from_numpy(truth.numbers)
    targets = {
        "place": torch.from_numpy(truth.place),
        "position": torch.from_numpy(truth.position),
        "total": numbers.sum(dim=(1, 2)),
        "shapes": numbers.sum(dim=2),
        "colours": numbers.sum(dim=1),
        "objects": numbers,
    }
    losses = {
        name: F.cross_entropy(said[name].flatten(0, -2), target.flatten(), ignore_index=UNKNOWN, reduction="sum")
        for name, target in targets.items()
    }
    # Not the absolute error: of what most pictures lack, its median is none, and nothing is learnt.
    amounts = torch.from_numpy(truth.amounts)
    losses["amounts"] = 2 * F.binary_cross_entropy_with_logits(said["amounts"], amounts, reduction="sum")
    return {name: loss / len(truth.pixels) for name, loss in losses.items()}


def rate_factor(step: int, config: OracleTraining) -> float:
    """Of the learning rate: in each cycle a warm-up, then half a cosine down to zero."""
    for num_steps in config.cycles:
        if step < num_steps:
            break
        step -= num_steps
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - config.warmup_steps) / (num_steps - config.warmup_steps)))


def train(config: OracleTraining, output: Path, log: Log) -> None:
    """Draw, train and save; go on from where a killed run of the same configuration was."""
    work = output.with_name(f"{output.name}.training")
    work.mkdir(parents=True, exist_ok=True)
    scenes, decoded = make_pictures(config, work, log)
    torch.manual_seed(config.seed)
    reader: Any = Reader().train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(reader.parameters(), lr=config.learning_rate, weight_decay=0.02)
    checkpoint = work / "checkpoint.pt"
    first_step, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        reader.load_state_dict(state["reader"])
        optimizer.load_state_dict(state["optimizer"])
        first_step, seconds = state["step"], state["seconds"]

    for step in range(first_step, config.num_steps):
        started_s = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * rate_factor(step, config)
        # Forward.
        pixels, truth = sample_batch(scenes, decoded, step, config)
        losses = losses_of(reader(pixels.to(memory_format=torch.channels_last)), truth)
        # Backward and step.
        optimizer.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 5.0)
        optimizer.step()
        # Keep: log, checkpoint.
        seconds += time.process_time() - started_s
        if step % 25 == 0 or step + 1 == config.num_steps:
            log(phase="reader", step=step, processor_seconds=seconds, **{k: v.item() for k, v in losses.items()})
        if (step + 1) % config.checkpoint_interval_steps == 0 or step + 1 == config.num_steps:
            state = {"reader": reader.state_dict(), "optimizer": optimizer.state_dict()}
            write_whole(checkpoint, partial(torch.save, {**state, "step": step + 1, "seconds": seconds}))
    output.mkdir(parents=True, exist_ok=True)
    weights = {k: v.half() if v.is_floating_point() else v for k, v in reader.state_dict().items()}
    weights = {k: v.contiguous() for k, v in weights.items()}
    write_whole(output / WEIGHTS.name, lambda part: save_file(weights, part))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for the weights")

    def log(**event: Any) -> None:
        print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in event.items()}), flush=True)

    train(OracleTraining(), parser.parse_args().output, log)


if __name__ == "__main__":
    main()
