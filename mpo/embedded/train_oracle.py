"""Trains the oracle, an independent judge of the embedded model: `python -m mpo.embedded.train_oracle --output DIR`.

Three phases, each flat: draw scenes of known content (`mpo/embedded/scenes.py`); pass some of them, defects included, through
the embedded model's autoencoder, as its samples are; train a small network to read content and defects off the pictures.
It goes on from where a killed run was. About 20 minutes on one core. `python -m benchmarks.oracle` examines what comes out.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from mpo.embedded.oracle import WEIGHTS, Reader
from mpo.embedded.oracle_pictures import (
    AUTOENCODER,
    UNKNOWN,
    Pictures,
    augment,
    degrade_pictures,
    draw_scenes,
    pass_through,
)
from reward.files import replacing

Log = Callable[..., None]


@dataclass(frozen=True)
class OracleTraining:
    """What the shipped weights were trained with."""

    seed: int = 11  # of no prompt file and of no training of the embedded models
    num_scenes: int = 8_000  # each is given other defects each time that it is used
    num_decoded: int = 5_000  # pictures that have been through the autoencoder
    scenes_per_file: int = 200
    num_steps: int = 4_500
    batch_size: int = 32
    decoded_share: float = 0.375  # of a batch
    spared_share: float = 0.4  # at least so many drawn pictures have no defect of lens, sensor or codec
    decoded_spared_share: float = 0.25  # the same of those that go through the autoencoder
    latent_noise: float = 0.1  # standard deviation, before decoding: a sample's latents are never quite an encoder's
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    checkpoint_interval_steps: int = 100


def keep_pictures(path: Path, pictures: Pictures) -> None:
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **pictures._asdict())


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
    """Of the learning rate: a warm-up, then half a cosine down to zero (arXiv 1608.03983, without restarts)."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - config.warmup_steps) / (config.num_steps - config.warmup_steps)))


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
            with replacing(checkpoint) as part:
                torch.save({**state, "step": step + 1, "seconds": seconds}, part)
    weights = {k: v.half() if v.is_floating_point() else v for k, v in reader.state_dict().items()}
    weights = {k: v.contiguous() for k, v in weights.items()}
    with replacing(output / WEIGHTS.name) as part:
        save_file(weights, part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for the weights")

    def log(**event: Any) -> None:
        print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in event.items()}), flush=True)

    train(OracleTraining(), parser.parse_args().output, log)


if __name__ == "__main__":
    main()
