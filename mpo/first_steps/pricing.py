"""What a new recipe costs here, in the words of `mpo run --dry-run`, and fitted into the memory that there is."""

import importlib.util
import time
from pathlib import Path

import torch

from mpo import MpoError
from mpo.first_steps.answers import parse_memory
from mpo.first_steps.new_recipe import NewRecipe
from mpo.planning.fit import LESS_MEMORY
from mpo.planning.plan import Plan, plan
from mpo.planning.steps import PEAK_TFLOPS, UTILISATION
from mpo.planning.words import figure, fitted, in_words, lack_of_disk
from mpo.recipe import Recipe
from mpo.runtime.machine import gpu_sizes, memory_gib, num_cores
from reward.judges.loading import count_parameters

# Changes that are of no use without a GPU, beside whose memory there is that of the machine.
OF_A_GPU = ("model.offload", *(saving.field for saving in LESS_MEMORY if saving.needs))


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
    if found.fittings and not found.fittings[0].is_enough:
        lines.append("note      the file has all that is named after `even with`, and yet needs more memory than that")
    hours = sum(step.gpu_hours or 0.0 for step in found.steps)
    if on_cpu and hours:
        lines.append(_cpu_words(hours))
    bits = recipe.model.quantization
    needs_bitsandbytes = (
        recipe.train.optimizer == "AdamW8bit"
        or any(j.options.get("quantization") for j in recipe.judge)
        or bits.denoiser
        or bits.text_encoders
    )
    if needs_bitsandbytes and importlib.util.find_spec("bitsandbytes") is None:
        lines.append("note      bitsandbytes is not installed here; where the recipe runs: pip install 'mpo[gpu]'")
    if too_little := lack_of_disk(found, recipe, folder):
        lines.append(f"note      {too_little}")
    return new, "\n".join(lines)


def fitted_here(recipe: Recipe, fit: str) -> tuple[Recipe, str]:
    """`--fit`: a recipe changed to fit a size, or "auto", this machine's smallest GPU, and what was changed in words.

    On a machine with GPUs only what is installed is used. Raises MpoError if there is no GPU, or nothing makes it fit.
    """
    sizes = [size for _, size in gpu_sizes()]
    if fit == "auto" and not sizes:
        raise MpoError("--fit=auto: there is no GPU here; give the size of the one that the run is for, such as 24GB")
    size_gb = min(sizes) if fit == "auto" else parse_memory(fit, "--fit", "auto")
    if size_gb is None:
        raise MpoError(f"--fit={fit!r} is no size; give one such as 24GB, or auto")
    absent = {saving.needs for saving in LESS_MEMORY if saving.needs and importlib.util.find_spec(saving.needs) is None}
    without = [saving.field for saving in LESS_MEMORY if saving.needs in absent]
    changed, words = fitted(recipe, size_gb, count_judge=count_parameters, without=without)
    if absent:
        words += f"\nnote      not considered: what needs {', '.join(sorted(absent))}; pip install 'mpo[gpu]'"
    return changed, words


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
