"""How a recipe would scale over GPUs, by simulation: pieces dealt out as workers come free, stragglers, lost workers, loading.

    python -m benchmarks.cluster                     # the paper's SDXL run on 8, 64 and 512 GPUs
    python -m benchmarks.cluster --recipe sd15 --gpus 1 8
    python -m benchmarks.cluster --spread-of runs/quickstart    # how much pieces of a run here differ in time

Nothing of it is measured on GPUs. Seconds of a stage on one H100 are those of `mpo run --dry-run`; the judge's follow from its
parameters and tokens. The spread of pieces, loading and failures are the numbers below, each with its source. The ideal is one
GPU's time over the number of GPUs.
"""

import argparse
import heapq
import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpo.planning.memory import model_costs
from mpo.planning.plan import lora_millions, plan_from_table
from mpo.planning.steps import PEAK_TFLOPS, UTILISATION
from mpo.recipe import Recipe, load_recipe

PIECE = 64  # items
# Standard deviations of the logarithm of a piece's time. The first is a guess at equal GPUs that nobody else uses; the second is that
# of batches of a `quickstart` run, as --spread-of measured it on two cores that did other work, too.
SPREADS = (0.05, 0.34)
# Unexpected interruptions of Llama 3's training: 419 in 54 days on 16,384 GPUs (arXiv 2407.21783, section 3.3.4).
HOURS_BETWEEN_FAILURES = 54 * 24 * 16384 / 419  # of one GPU
LOAD_S, RESTART_S = (
    90.0,
    300.0,
)  # to load a pipeline or a judge from a shared disk; until a lost worker is replaced. Guesses
JUDGE_PARAMETERS, JUDGE_TOKENS = 7e9, 1100 + 60 * 20  # a picture and a prompt; then 60 questions packed behind them
NETWORK_GB_S = 25.0  # of an all-reduce between machines: half of a 400 Gbit/s card


@dataclass(frozen=True)
class Stage:
    name: str
    num_items: int
    seconds: float  # on one GPU, over all items


def stages_of(recipe: Recipe) -> list[Stage]:
    """The stages that are dealt out. Raises KeyError for a model that is not in the table of published models."""
    assert recipe.generate is not None
    assert recipe.prompts.train is not None
    num_candidates = (recipe.prompts.train.limit or 0) * recipe.generate.num_candidates
    num_samples = 2 * (recipe.prompts.heldout.limit or 0) * recipe.evaluate.num_seeds
    hours = {step.stage: step.gpu_hours or 0.0 for step in plan_from_table(recipe, [80]).steps}
    judge_s = 2 * JUDGE_PARAMETERS * JUDGE_TOKENS / (PEAK_TFLOPS * 1e12 * UTILISATION)  # a picture
    return [
        Stage("generate", num_candidates, 3600 * hours["generate"]),
        Stage("score", num_candidates, judge_s * num_candidates),
        Stage("encode", num_candidates, 3600 * hours["encode"]),
        Stage("evaluate", num_samples, 3600 * hours["evaluate"] + judge_s * num_samples),
    ]


def _spread(spread: float, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Factors around 1, log-normal."""
    return np.exp(rng.normal(-(spread**2) / 2, spread, shape))


def deal_out(stage: Stage, num_gpus: int, spread: float, rng: np.random.Generator) -> tuple[float, int]:
    """Seconds until all pieces are done, and how many workers were lost. Each piece goes to the worker that is free first."""
    num_pieces = math.ceil(stage.num_items / PIECE)
    mean_s = stage.seconds / max(num_pieces, 1)
    times = mean_s * _spread(spread, (num_pieces,), rng)
    num_workers = min(num_gpus, num_pieces)
    # (free at, fails at) of each worker
    workers = [(LOAD_S, rng.exponential(3600 * HOURS_BETWEEN_FAILURES)) for _ in range(num_workers)]
    heapq.heapify(workers)
    waiting, end_s, lost = list(times[::-1]), 0.0, 0
    while waiting:
        piece_s = waiting.pop()
        free_s, fails_s = heapq.heappop(workers)
        if free_s + piece_s > fails_s:  # the piece is another's now
            lost += 1
            waiting.append(piece_s)
            back_s = max(fails_s, free_s) + RESTART_S + LOAD_S
            heapq.heappush(workers, (back_s, back_s + rng.exponential(3600 * HOURS_BETWEEN_FAILURES)))
            continue
        heapq.heappush(workers, (free_s + piece_s, fails_s))
        end_s = max(end_s, free_s + piece_s)
    return end_s, lost


def train(recipe: Recipe, seconds: float, num_gpus: int, spread: float, rng: np.random.Generator) -> tuple[float, int]:
    """Seconds of data-parallel training, and interruptions. A step has at most as many workers as pairs, waits for the slowest,
    and adds up the LoRA's gradients; each failure costs the steps since the last checkpoint and a restart of all.
    """
    settings = recipe.train
    workers = max(n for n in range(1, min(num_gpus, settings.batch_size) + 1) if settings.batch_size % n == 0)
    slowest = float(_spread(spread, (200, workers), rng).max(axis=1).mean()) if workers > 1 else 1.0
    gradient_gb = 4e-3 * lora_millions(model_costs()["models"][recipe.model.path], recipe)
    reduce_s = 0.0 if workers == 1 else 2 * gradient_gb / NETWORK_GB_S + 1e-4 * math.log2(workers)
    step_s = seconds / settings.num_steps / workers * slowest + reduce_s
    plain_s = settings.num_steps * step_s
    lost = int(rng.poisson(plain_s / 3600 * workers / HOURS_BETWEEN_FAILURES))
    return LOAD_S + plain_s + lost * (RESTART_S + LOAD_S + step_s * settings.checkpoint_interval_steps / 2), lost


def spread_of(run: Path) -> float:
    """Standard deviation of the logarithm of the seconds between a run's candidates, a batch at a time."""
    recipe = load_recipe(str(run / "recipe.yaml"))
    assert recipe.generate is not None
    files = sorted((run / "candidates").rglob("*.png"))
    written = np.array([file.stat().st_mtime for file in files])[:: recipe.generate.batch_size]
    gaps = np.diff(np.sort(written))
    return float(np.log(gaps[gaps > 0]).std())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="sdxl")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 512])
    parser.add_argument("--spread", type=float, nargs="+", default=SPREADS)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--spread-of", type=Path, metavar="RUN")
    arguments = parser.parse_args()
    if arguments.spread_of:
        print(f"{spread_of(arguments.spread_of):.3f}")
        return
    recipe = load_recipe(arguments.recipe)
    steps = {step.stage: step for step in plan_from_table(recipe, [80]).steps}
    stages = stages_of(recipe)
    train_s = 3600 * (steps["train"].gpu_hours or 0.0)
    one_gpu_s = sum(stage.seconds for stage in stages) + train_s
    names = [stage.name for stage in stages[:3]] + ["train", stages[3].name]
    print(f"one GPU: {one_gpu_s / 3600:.0f} hours")
    print(
        f"| GPUs | spread | ideal, hours | simulated, hours | of the ideal | {' | '.join(names)} | lost workers |\n|{'---|' * (6 + len(names))}"
    )
    for num_gpus, spread in itertools.product(arguments.gpus, arguments.spread):
        rng = np.random.default_rng(0)
        sums, lost = dict.fromkeys(names, 0.0), 0
        for _ in range(arguments.repetitions):
            for stage in stages:
                seconds, failed = deal_out(stage, num_gpus, spread, rng)
                sums[stage.name] += seconds / arguments.repetitions
                lost += failed
            seconds, failed = train(recipe, train_s, num_gpus, spread, rng)
            sums["train"] += seconds / arguments.repetitions
            lost += failed
        ideal_h, found_h = one_gpu_s / 3600 / num_gpus, sum(sums.values()) / 3600
        shown = " | ".join(f"{seconds / 3600:.2f}" for seconds in sums.values())
        print(
            f"| {num_gpus} | {spread:g} | {ideal_h:.2f} | {found_h:.2f} | {ideal_h / found_h:.2f} | {shown} | {lost / arguments.repetitions:.1f} |"
        )


if __name__ == "__main__":
    main()
