"""Which pairs and which timesteps teach: how much of the gradients of single pairs is common to them.

    python -m benchmarks.gradient_signal runs/quickstart-video          # minutes: 240 gradients
    python -m benchmarks.gradient_signal RUN --per-cell 100 --seed 1

Takes a run whose pairs are encoded. At the first step, where every pair's loss has the same slope, the gradient of a
pair is that of its difference in denoising error, with respect to the LoRA's B (A has none while B is 0). Each is
scaled to length 1, as clipping does to all but the smallest. "Signal" is the mean product of two different ones, without
bias the squared length of their mean: 0 if nothing is common to them, 1 if all are equal; with its standard error
(jackknife). Columns say how long the gradients are before they are scaled.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mpo.recipe import read_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.training.batches import Draw
from mpo.training.forward import denoising_errors, halves
from mpo.training.setup import Training, set_up

RANGES = ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))  # shares of the schedule


def pair_gradient(t: Training, draw: Draw) -> Float[Tensor, " P"]:
    """The gradient of rejected minus chosen error with respect to all of the LoRA's P weights in B."""
    weights = [p for name, p in t.denoiser.named_parameters() if p.requires_grad and "lora_B" in name]
    chosen, rejected = halves([denoising_errors(t.pipeline, t.family, [t.batches.batch([draw])])])
    return torch.cat([g.flatten() for g in torch.autograd.grad((rejected - chosen).sum(), weights)])


def signal(gradients: Float[Tensor, "n P"]) -> tuple[float, float]:
    """(the mean product of two different ones at length 1, its standard error)."""
    unit = torch.nn.functional.normalize(gradients.double(), dim=1)
    n, products = len(unit), unit @ unit.T
    rows = products.sum(1) - products.diagonal()
    total = rows.sum()
    without = (total - 2 * rows) / ((n - 1) * (n - 2))  # the estimate with one gradient left out
    error = ((n - 1) / n * (without - without.mean()).square().sum()).sqrt()
    return float(total / (n * (n - 1))), float(error)


def cell(name: str, gradients: Float[Tensor, "n P"]) -> None:
    (value, error), lengths = signal(gradients), gradients.norm(dim=1)
    longest = lengths.max() / lengths.median()
    print(f"| {name} | {value:.3f} ± {error:.3f} | {lengths.median():.4f} | {longest:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--per-cell", type=int, default=30, help="gradients of each range and half of the pairs")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run = RunFolder(arguments.run)
    t = set_up(run, read_recipe(run.recipe))
    total = read_table(run.scores, made_by="score").column("total").to_numpy()
    margins = total[t.batches.pairs.chosen] - total[t.batches.pairs.rejected]
    order, half = np.argsort(-margins, kind="stable"), len(margins) // 2
    print(f"{len(margins)} pairs; the wider half differs by {margins[order[half]]:.2f} or more in total")
    print("| margins | timesteps | signal | median length | longest, times median |\n|---|---|---|---|---|")
    rng = np.random.default_rng(arguments.seed)
    for margin, rows in (("wide", order[:half]), ("narrow", order[half:])):
        gradients: dict[tuple[float, float], Tensor] = {}
        for low, high in RANGES:
            t.batches.settings = t.recipe.train.model_copy(update={"timestep_range": (low, high)})
            draws = [Draw(int(rng.choice(rows)), k) for k in range(arguments.per_cell)]
            gradients[low, high] = torch.stack([pair_gradient(t, draw) for draw in draws])
            cell(f"{margin} | {low} to {high}", gradients[low, high])
        cell(f"{margin} | 0 to 0.5", torch.cat([g for (_, high), g in gradients.items() if high <= 0.5]))
        cell(f"{margin} | 0.5 to 1", torch.cat([g for (low, _), g in gradients.items() if low >= 0.5]))


if __name__ == "__main__":
    main()
