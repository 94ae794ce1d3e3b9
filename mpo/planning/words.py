"""A plan as text, and whether the disk has room for it."""

import shutil
from collections.abc import Collection
from pathlib import Path

from mpo import MpoError
from mpo.planning.fit import with_changes
from mpo.planning.judges import CountJudge
from mpo.planning.plan import Plan, plan
from mpo.planning.steps import PEAK_TFLOPS, UTILISATION, Step
from mpo.recipe import Recipe, parse_recipe


def figure(value: float) -> str:
    """Two significant digits, in full."""
    return f"{float(f'{value:.2g}'):g}"


def required_disk(steps: list[Step], folder: Path) -> tuple[float, float]:
    """GB that the run will take, and GB that are free on the disk of `folder`."""
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    return sum(step.disk_gb or 0 for step in steps), shutil.disk_usage(existing).free / 1e9


def fitted(
    recipe: Recipe, size_gb: float, *, count_judge: CountJudge | None = None, without: Collection[str] = ()
) -> tuple[Recipe, str]:
    """The recipe with what makes it fit a memory, and in words what each change saves and costs.

    without: fields that are not to be changed. Raises MpoError if it does not fit, or its needs are not known.
    """
    found = plan(recipe, count_judge=count_judge, sizes_gb=[size_gb], without=without)
    if not found.fittings:
        why = "; ".join(note for note in found.notes if "no estimate" in note)
        raise MpoError(f"--fit={size_gb:g}GB: what the recipe needs is not known ({why}); leave out --fit")
    (fitting,) = found.fittings
    if not fitting.is_enough:
        raise MpoError(f"--fit={fitting.words}")
    changed = parse_recipe(with_changes(recipe, fitting.changes).model_dump(mode="json"), source="--fit")
    lines = [f"{'fit':<9} {fitting.words}", *(f"{'':<9} {line}" for line in fitting.account)]
    return changed, "\n".join(lines)


def lack_of_disk(found: Plan, recipe: Recipe, folder: Path) -> str:
    """What is wrong with the disk of `folder`; "" = it has room for the run."""
    needed, free = required_disk(found.steps, folder)
    needed *= recipe.rounds
    if needed <= free:
        return ""
    return f"--output={str(folder)!r}: the run needs about {figure(needed)} GB and {figure(free)} GB are free; give --output on another disk, or fewer prompts, such as --set prompts.train.limit=500"


def in_words(found: Plan, recipe: Recipe, folder: Path, *, memory_of: str = "GPU of") -> str:
    """A plan as text, with sums. memory_of: whose memory its fittings are about."""
    steps, lines = found.steps, []
    for step in steps:
        lines.append(f"{step.stage:<9} {step.words}")
        figures = [
            f"disk {figure(step.disk_gb)} GB" if step.disk_gb is not None else "",
            f"GPU memory {'above' if step.stage == 'score' else 'about'} {step.memory_gb:.0f} GB{step.peak_words}"
            if step.memory_gb is not None
            else "",
            f"about {figure(step.gpu_hours)} H100-hours" if step.gpu_hours is not None else "",
        ]
        if any(figures):
            lines.append(f"{'':<9} {', '.join(figure for figure in figures if figure)}")
    needed, free = required_disk(steps, folder)
    needed *= recipe.rounds
    hours = [step.gpu_hours for step in steps if step.gpu_hours is not None]
    lines.append(f"disk      about {figure(needed)} GB needed in {folder}, {free:.0f} GB free")
    if hours:
        lines.append(
            f"sum       about {figure(sum(hours))} H100-hours without the judge; memory and time computed, not measured, at {UTILISATION:.0%} of {PEAK_TFLOPS:.0f} TFLOP/s"
        )
    if recipe.rounds > 1:
        lines.append(f"rounds    {recipe.rounds}, each of which takes what is above")
    lines += [f"{memory_of:<9} {line}" for line in found.fits]
    lines += [f"note      {note}" for note in found.notes]
    return "\n".join(lines)


def claims(recipe: Recipe) -> list[str]:
    """The lines in which a shipped recipe's head states its needs."""
    found = plan(recipe)
    steps = found.steps
    peak = {step.stage: step.memory_gb for step in steps if step.memory_gb is not None}
    hours = {step.stage: step.gpu_hours for step in steps if step.gpu_hours is not None}
    sampling = max(peak.get("generate", 0), peak.get("evaluate", 0))
    when = next(step.peak_words for step in steps if step.stage == "train")
    longest = ", ".join(
        f"{stage} {figure(value)}" for stage, value in hours.items() if value > 0.01 * sum(hours.values())
    )
    return [
        f"Computed, not measured: about {peak['train']:.0f} GB of GPU memory in training{when}, {sampling:.0f} GB in sampling,",
        f"{figure(sum(hours.values()))} H100-hours without the judge ({longest}), {figure(sum(s.disk_gb or 0 for s in steps))} GB of disk.",
        *(f"A GPU of {line}." for line in found.fits),
    ]
