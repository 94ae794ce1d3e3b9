"""What training sees, and in which order: the stream of draws, and their batches.

Everything random about a draw comes from (seed, pair, how often the pair was seen), so that any number of processes,
any micro-batch size and any resumed run see the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor

from mpo import MpoError
from mpo.data.encoded import EncodedPairs, SelectedPairs
from mpo.models.families import Conditioning, Family, shift_mu
from mpo.models.noise import draw_timestep
from mpo.recipe import Train
from mpo.runtime.seeds import derive_seed


@dataclass(frozen=True)
class Draw:
    """One pair at one place of the training stream."""

    pair: int  # row of pairs.parquet
    repetition: int  # which noise of the pair: how often the stream had passed this pair before (modulo num_draws)


def stream(seed: int, num_pairs: int, position: int, count: int, *, num_draws: int | None = None) -> list[Draw]:
    """`count` draws from a position in an endless stream: one seeded permutation of the pairs after another."""
    draws = []
    for place in range(position, position + count):
        epoch, index = divmod(place, num_pairs)
        repetition = epoch if num_draws is None else epoch % num_draws
        draws.append(Draw(int(_permutation(seed, epoch, num_pairs)[index]), repetition))
    return draws


_permutations: dict[tuple[int, int, int], np.ndarray] = {}


def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    key = (seed, epoch, size)
    if key not in _permutations:
        _permutations.clear()
        _permutations[key] = np.random.default_rng((seed, epoch)).permutation(size)
    return _permutations[key]


def draw_noise(
    settings: Train, draw: Draw, shape: Sequence[int], scheduler: Any, mu: float | None = None
) -> tuple[Float[Tensor, "..."], int | float]:
    """The noise and timestep that both pictures of a pair share, from (seed, pair, repetition) alone.

    mu: of this shape, as `families.shift_mu` gives it; needed if the scheduler shifts timesteps by resolution.
    """
    generator = torch.Generator().manual_seed(derive_seed("noise", settings.seed, draw.pair, draw.repetition))
    timestep = draw_timestep(settings, scheduler, generator, mu)
    return torch.randn(tuple(shape), generator=generator), timestep


@dataclass(frozen=True)
class Batch:
    """B draws of one latent shape: N = 2 B rows, the chosen, then the rejected, at the same noises and timesteps."""

    noisy: Float[Tensor, " N *chw"]  # in the model's precision
    target: Float[Tensor, " N *chw"]  # float32
    timesteps: Real[Tensor, " N"]  # whole numbers; real ones for a flow
    conditioning: Conditioning  # each of N rows


class Batches:
    """Makes batches of a run's encoded pairs, on a device."""

    def __init__(
        self, pipeline: Any, family: Family, pairs: SelectedPairs, encoded: EncodedPairs, settings: Train, device: torch.device,
        guidance_scale: float | None = None,
    ):  # fmt: skip
        """guidance_scale: for a model with distilled guidance; None = it has none."""
        self.pipeline, self.family, self.pairs, self.encoded = pipeline, family, pairs, encoded
        self.settings, self.device, self.guidance_scale = settings, device, guidance_scale

    def of_step(self, step: int) -> list[Draw]:
        """The draws of a step over all processes. Draws of one shape are adjacent, so that few batches mix shapes."""
        settings = self.settings
        position = step * settings.batch_size
        draws = stream(settings.seed, len(self.pairs), position, settings.batch_size, num_draws=settings.num_draws)
        return sorted(draws, key=self._shape)

    def _shape(self, draw: Draw) -> tuple[int, ...]:
        return self.encoded.shape(int(self.pairs.chosen[draw.pair]))

    def alike(self, draws: Sequence[Draw]) -> list[list[Draw]]:
        """Groups of adjacent draws with one shape."""
        return [list(group) for _, group in groupby(draws, key=self._shape)]

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """The batch of B draws of one shape."""
        rows = [draw.pair for draw in draws]
        ids = [*self.pairs.chosen[rows].tolist(), *self.pairs.rejected[rows].tolist()]
        latents = self.encoded.latents(ids).to(self.device)
        conditioning = {
            name: torch.cat([value, value]).to(self.device)
            for name, value in self.encoded.conditioning(self.pairs.prompts[rows].tolist()).items()
        }
        fps = self.encoded.fps(ids)
        if fps is not None:  # some networks are told it
            conditioning["fps"] = fps.to(self.device)
        if self.guidance_scale is not None:
            conditioning["guidance"] = torch.full((len(ids),), self.guidance_scale, device=self.device)
        scheduler = self.pipeline.scheduler
        shape = latents.shape[1:]
        mu = shift_mu(self.family, scheduler, shape)
        drawn = [draw_noise(self.settings, draw, shape, scheduler, mu) for draw in draws]
        noise = torch.stack([noise for noise, _ in drawn] * 2).to(self.device)
        timesteps = torch.tensor([timestep for _, timestep in drawn] * 2, device=self.device)
        # In float32: bfloat16 rounds a schedule's first alphas to 1, so that no noise at all would be added.
        noisy, target = self.family.add_noise(self.pipeline, latents.float(), noise, timesteps)
        return Batch(noisy.to(latents.dtype), target, timesteps, conditioning)


def micro_batch_size(settings: Train, num_processes: int) -> int:
    """Pairs that a process holds at a time. Raises MpoError if a step cannot be split evenly."""
    micro = settings.micro_batch_size or max(1, settings.batch_size // num_processes)
    if settings.batch_size % (micro * num_processes):
        raise MpoError(
            f"train.batch_size={settings.batch_size} is not a multiple of {micro} pairs x {num_processes} processes; change train.batch_size or train.micro_batch_size"
        )
    return micro
