"""What a new recipe costs here, in the words of `mpo run --dry-run`, and fitted into the memory that there is."""

import importlib.util
import time
from pathlib import Path

import torch

from mpo.first_steps.new_recipe import NewRecipe
from mpo.plan import PEAK_TFLOPS, UTILISATION, Plan, figure, in_words, lack_of_disk, plan
from mpo.runtime.machine import memory_gib, num_cores
from reward.judges.loading import count_parameters

# Changes for less memory that need bitsandbytes, and with it a GPU.
OF_A_GPU = ("train.optimizer", "judge.options.quantization")


def price(new: NewRecipe, memory_gb: float | None, folder: Path) -> tuple[NewRecipe, str]:
    """The recipe with what makes it fit, and its plan in words. Raises ValueError if it cannot run.

    memory_gb: of the GPU; None = there is none, and the machine's memory counts. folder: where the run would be.
    """
    on_cpu = memory_gb is None
    size_gb = memory_gib() * 2**30 / 1e9 if memory_gb is None else memory_gb
    found = plan(
        new.recipe, count_judge=count_parameters, sizes_gb=[round(size_gb, 1)], without=OF_A_GPU if on_cpu else ()
    )
    if found.fittings:
        (fitting,) = found.fittings
        new = new.changed(fitting.changes, f"`mpo init`: to fit {'this machine' if on_cpu else f'{memory_gb:g} GB'}")
        found = Plan(fitting.steps, found.notes, found.fittings)
    recipe = new.recipe
    lines = [in_words(found, recipe, folder, memory_of="memory of" if on_cpu else "GPU of")]
    if found.fittings and found.fittings[0].changes and found.fittings[0].is_enough:
        lines.append("note      the file has what is named after `fits with`, each with a comment")
    hours = sum(step.gpu_hours or 0.0 for step in found.steps)
    if on_cpu and hours:
        lines.append(_cpu_words(hours))
    needs_bitsandbytes = recipe.train.optimizer == "AdamW8bit" or any(
        j.options.get("quantization") for j in recipe.judge
    )
    if needs_bitsandbytes and importlib.util.find_spec("bitsandbytes") is None:
        lines.append("note      bitsandbytes is not installed here; where the recipe runs: pip install 'mpo[gpu]'")
    if too_little := lack_of_disk(found, recipe, folder):
        lines.append(f"note      {too_little}")
    return new, "\n".join(lines)


def _cpu_words(h100_hours: float) -> str:
    rate = cpu_tflops()
    hours = h100_hours * PEAK_TFLOPS / rate
    named = next(
        (
            f"{figure(hours / size)} {unit}"
            for unit, size in (("years", 8766), ("days", 24), ("hours", 1))
            if hours >= size
        ),
        f"{figure(hours * 60)} minutes",
    )
    return f"CPU       about {named} on this machine's CPU, whose matrix products reach {rate:.2g} TFLOP/s, at {UTILISATION:.0%} of that; the judge's time is not in it"


def cpu_tflops() -> float:
    """What this machine's cores reach in products of matrices in float32: the best of one core within 0.2 seconds, times their number.

    One core, and products of half a millisecond, so that other work on the machine counts little.
    """
    side, threads = 256, torch.get_num_threads()
    a, best, end = torch.ones(side, side), float("inf"), time.perf_counter() + 0.2
    torch.set_num_threads(1)
    try:
        while time.perf_counter() < end:
            start = time.perf_counter()
            torch.mm(a, a)
            best = min(best, time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return num_cores() * 2 * side**3 / best / 1e12
