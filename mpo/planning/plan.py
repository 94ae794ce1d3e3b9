"""What a recipe will do and what it will need: counts, disk, GPU memory and time, computed and not measured.

No weights are loaded. Memory and time follow from parameters, activations and multiply-accumulates, counted on the model's
own configuration (mpo/models/costs.py), at the sizes of the recipe: memory at the largest, time over all. They are estimates:
what allocators and kernels add is not in them.
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from mpo.data.prompts import read_prompt_sets
from mpo.models.checks import check_medium, check_model
from mpo.models.costs import RANK, count
from mpo.models.counting.measuring import trained_millions
from mpo.models.counting.parts import build_parts
from mpo.models.families import family_of_class
from mpo.models.loading import config_source
from mpo.models.lora import inject_lora
from mpo.planning.fit import Fitting, fit
from mpo.planning.judges import CountJudge, judge_gb, quantized_gb
from mpo.planning.memory import model_costs
from mpo.planning.steps import Step, steps_of_recipe
from mpo.recipe import Prompts, Recipe
from mpo.run import check_settings
from mpo.runtime.hub import OfflineError

GPUS_GB = (12, 16, 24, 48, 80)  # as they are sold; they hold a few percent more, which fragments of the allocator take


@dataclass(frozen=True)
class Plan:
    """What `plan` finds."""

    steps: list[Step]
    notes: list[str]  # what could not be checked or counted
    fittings: list[Fitting]  # for each size of GPU; empty if unknown

    @property
    def fits(self) -> list[str]:
        """A line for each size of GPU: whether the recipe fits, or what to change."""
        return [fitting.words for fitting in self.fittings]


def plan(
    recipe: Recipe,
    *,
    count_judge: CountJudge | None = None,
    sizes_gb: Sequence[float] = GPUS_GB,
    without: Collection[str] = (),
    num_trainers: int | None = None,
) -> Plan:
    """The stages with their needs. Raises ValueError if the recipe cannot run.

    count_judge: None = only judges of the table are estimated. sizes_gb: memories to fit into. without: fields of
    LESS_MEMORY that are not to be changed for that. num_trainers: processes that will train; None = as many as there are.
    """
    notes: list[str] = []
    with suppress(OfflineError):  # of which check_model makes a note
        check_medium(recipe)
    num_prompts, prompts = _prompts(recipe.prompts, notes)
    check_settings(recipe, prompts, num_trainers=num_trainers)
    try:
        check_model(recipe)
    except OfflineError as error:
        notes.append(f"not checked: the model. {error}")
    judges = _judges_gb(recipe, count_judge, notes)
    known = _costs(recipe, notes)
    steps_of = _steps_of(recipe, num_prompts, known, *judges)
    return Plan(steps_of(recipe), notes, fit(recipe, steps_of, sizes_gb, without) if known else [])


def plan_from_table(recipe: Recipe, sizes_gb: Sequence[float]) -> Plan:
    """The plan of a recipe whose model and judges are in the table of published models, of which nothing is read or checked.

    Prompts count by their limits. Raises KeyError for another model.
    """
    notes: list[str] = []
    known = {**(entry := model_costs()["models"][recipe.model.path]), "trained_millions": lora_millions(entry, recipe)}
    sources = (recipe.prompts.train, recipe.prompts.heldout, recipe.prompts.validation)
    num_prompts = {str(k): (source.limit or 0) if source else 0 for k, source in enumerate(sources)}
    steps_of = _steps_of(recipe, num_prompts, known, *_judges_gb(recipe, None, notes))
    return Plan(steps_of(recipe), notes, fit(recipe, steps_of, sizes_gb))


def _judges_gb(recipe: Recipe, count_judge: CountJudge | None, notes: list[str]) -> tuple[list[float | None], float]:
    """Memory of each judge that chooses, and of the largest of the others."""
    chosen = [judge_gb(judging, count_judge, notes) for judging in recipe.judge]
    others = [judge_gb(judging, count_judge, notes) or 0.0 for judging in recipe.evaluate.judges]
    return chosen, max([0.0, *others])


def _steps_of(
    recipe: Recipe,
    num_prompts: dict[str, int],
    known: dict[str, Any] | None,
    judges_gb: Sequence[float | None],
    others_gb: float,
) -> Callable[[Recipe], list[Step]]:
    """What makes the steps of the recipe, or of the same with changes to fit."""

    def steps_of(changed: Recipe) -> list[Step]:
        return steps_of_recipe(changed, num_prompts, known, quantized_gb(changed, recipe, judges_gb), others_gb)

    return steps_of


def lora_millions(entry: Mapping[str, Any], recipe: Recipe) -> float:
    """Parameters of the recipe's LoRA on the table's targets, by its rank alone."""
    return entry["lora_millions"] * recipe.train.rank / RANK


def _prompts(settings: Prompts, notes: list[str]) -> tuple[dict[str, int], list[str]]:
    """How many prompts each set has, and all prompts that can be read."""
    sources = {name: getattr(settings, name) for name in ("train", "heldout", "validation")}
    try:
        sets = dict(zip(sources, read_prompt_sets(settings), strict=True))
        return {name: len(prompts) for name, prompts in sets.items()}, [p for prompts in sets.values() for p in prompts]
    except OfflineError as error:
        notes.append(f"not checked: the prompts; their limits stand in for their numbers. {error}")
    return {name: (source.limit or 0) if source else 0 for name, source in sources.items()}, []


def _costs(recipe: Recipe, notes: list[str]) -> dict[str, Any] | None:
    """An entry as in model_costs.yaml, with the recipe's own LoRA: counted, or the table's if it has an equal model."""
    table = model_costs()["models"]
    try:
        parts = build_parts(recipe.model)
        same = next((entry for entry in table.values() if entry["digest"] == parts.digest()), None)
        denoiser = copy.deepcopy(parts.denoiser)  # counting puts a LoRA of its own into the other
        with torch.device("meta"):
            inject_lora(denoiser, family_of_class(parts.pipeline_class), recipe.train)
        largest = max(recipe.model.sizes, key=lambda size: size.num_pixels) if recipe.model.sizes else None
        return {**(same or count(parts, largest)), "trained_millions": trained_millions(denoiser)}
    except OfflineError:
        published = config_source(recipe.model)  # of one file, the hub id that diffusers recognizes in it
        entry = table.get(published)
        if entry is None:
            notes.append(f"no estimate of memory and time: the configuration of {published!r} cannot be read")
            return None
        notes.append(f"memory and time are those of {published} in the table of published models")
        return {**entry, "trained_millions": lora_millions(entry, recipe)}
    except (
        RuntimeError,
        NotImplementedError,
        TypeError,
        AttributeError,
    ) as error:  # forwards that the meta device lacks
        notes.append(
            f"no estimate of memory and time: the model cannot be counted ({' '.join(str(error).split())[:200]})"
        )
        return None
