"""What makes a recipe need less memory, what that saves and costs, and the least of it that makes the recipe fit."""

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from mpo.planning.judges import can_quantize, quantized
from mpo.planning.steps import TRANSFER_GB_S, Step
from mpo.recipe import Recipe

Change = tuple[str, str, Any]  # a section, its field, the value


@dataclass(frozen=True)
class Fitting:
    """Whether a recipe fits a memory of a size."""

    size_gb: float
    changes: tuple[Change, ...]  # that are needed; () = none
    steps: list[Step]  # with the changes
    is_enough: bool  # whether the recipe fits with them
    words: str
    account: tuple[str, ...] = ()  # a line a change: what it saves, and what it costs


@dataclass(frozen=True)
class Saving:
    """A change for less memory."""

    change: Change
    applies: Callable[[Recipe], bool]
    cost: str  # in words; time that can be computed is said beside it
    needs: str = ""  # a library that is not a dependency

    @property
    def field(self) -> str:
        return ".".join(self.change[:2])


def _bits(part: str, how: str, cost: str) -> Saving:
    def applies(recipe: Recipe) -> bool:
        return getattr(recipe.model.quantization, part) not in (how, "4bit") and recipe.model.offload != "blocks"

    return Saving(("model", f"quantization.{part}", how), applies, cost, needs="bitsandbytes")


CHECKPOINTING = ("train", "gradient_checkpointing", True)
UNFILLED = "slower where one at a time does not fill the GPU, by how much is not known"
# What costs least first.
LESS_MEMORY = (
    Saving(("generate", "batch_size", 1), lambda r: r.generate is not None, UNFILLED),
    Saving(("evaluate", "batch_size", 1), lambda r: True, UNFILLED),
    Saving(("validation", "batch_size", 1), lambda r: r.validation is not None, UNFILLED),
    Saving(("model", "vae_tiling", True), lambda r: True, "pictures differ slightly; the autoencoder up to half slower"),
    Saving(
        ("model", "offload", "networks"),
        lambda r: r.model.offload is None,
        "the same result; networks wait in the machine's memory for seconds a batch",
    ),
    Saving(("train", "micro_batch_size", 1), lambda r: True, f"the same gradient; {UNFILLED}"),
    Saving(CHECKPOINTING, lambda r: True, "the same result"),
    Saving(
        ("train", "optimizer", "AdamW8bit"), lambda r: r.train.optimizer == "AdamW",
        "moments rounded to 8 bits", needs="bitsandbytes",
    ),
    Saving(
        ("judge", "options.quantization", "4bit"), lambda r: any(map(can_quantize, r.judge)),
        "answers differ a little; slower, by how much is not known", needs="bitsandbytes",
    ),
    _bits("text_encoders", "8bit", "conditions differ a little"),
    _bits("text_encoders", "4bit", "conditions differ"),
    _bits("denoiser", "8bit", "the gradient keeps its direction; slower, by how much is not known"),
    _bits("denoiser", "4bit", "the gradient turns a little (docs/guides/small-cards.md); slower, by how much is not known"),
    Saving(
        ("model", "offload", "blocks"),
        lambda r: r.model.quantization.denoiser is None,
        f"the same result; each forward brings the weights anew at {TRANSFER_GB_S:g} GB/s",
    ),
    Saving(
        ("prompts", "validation", None), lambda r: r.validation is not None,
        "no validation: the last checkpoint is the result, not the best",
    ),
)  # fmt: skip


def fit(
    recipe: Recipe, steps_of: Callable[[Recipe], list[Step]], sizes_gb: Sequence[float], without: Collection[str] = ()
) -> list[Fitting]:
    """For each size, of the changes that make all stages fit, only those that are needed.

    without: fields that are not to be changed for that, such as "model.vae_tiling".
    """

    @cache  # sizes share most sets of changes
    def planned(changes: tuple[Change, ...]) -> list[Step]:
        return steps_of(with_changes(recipe, changes))

    def peak(changes: tuple[Change, ...]) -> Step:
        return max(planned(changes), key=lambda step: step.memory_gb or 0.0)

    possible = tuple(saving.change for saving in LESS_MEMORY if saving.field not in without and saving.applies(recipe))
    blocks = ("model", "offload", "blocks")
    bits = tuple(change for change in possible if change[1].startswith("quantization.denoiser"))
    # Fewer bits or blocks that come and go: not both.
    ways = [tuple(c for c in possible if c != blocks)]
    if blocks in possible:
        ways.append(tuple(c for c in possible if c not in bits))
    found = []
    for size in sizes_gb:
        enough = [way for way in ways if (peak(way).memory_gb or 0.0) <= size]
        if not enough:
            least = min(ways, key=lambda way: peak(way).memory_gb or 0.0)
            most = peak(least)
            settings = _settings(recipe, (c for c in least if with_changes(recipe, [c]) != recipe))
            words = f"{size:g} GB: too small, {most.stage} takes {most.memory_gb:.0f} GB even with {settings}; give smaller model.sizes, or spread the weights over GPUs (recipes/accelerate)"
            found.append(Fitting(size, least, planned(least), False, words))
            continue
        needed = enough[0]
        for change in reversed(enough[0]):  # what costs most goes first
            fewer = tuple(other for other in needed if other != change)
            if blocks in needed and change == CHECKPOINTING and not recipe.train.gradient_checkpointing:
                continue  # the recipe would be refused
            if (peak(fewer).memory_gb or 0.0) <= size:
                needed = fewer
        words = f"{size:g} GB: {f'fits with {_settings(recipe, needed)}' if needed else 'fits'}"
        found.append(Fitting(size, needed, planned(needed), True, words, _account(recipe, needed, planned)))
    return found


def _account(
    recipe: Recipe, changes: tuple[Change, ...], planned: Callable[[tuple[Change, ...]], list[Step]]
) -> tuple[str, ...]:
    """Each change after those before it: what it saves in the stage where it saves most, and what it costs."""
    lines = []
    costs = {saving.change: saving.cost for saving in LESS_MEMORY}
    for k, change in enumerate(changes):
        before, after = planned(changes[:k]), planned(changes[: k + 1])
        pairs = [(a, b) for a in before for b in after if a.stage == b.stage and a.memory_gb and b.memory_gb]
        saves_by_stage = [((a.memory_gb or 0.0) - (b.memory_gb or 0.0), a.stage) for a, b in pairs]
        saved, stage = max(saves_by_stage, key=lambda each: each[0])
        slower = [
            f"{a.stage} {b.gpu_hours / a.gpu_hours:.2g} times as long"
            for a, b in pairs
            if a.gpu_hours and b.gpu_hours and b.gpu_hours > 1.005 * a.gpu_hours
        ]
        saves = f"saves {saved:.1f} GB in {stage}" if saved > 0.05 else "saves with what follows"
        lines.append(f"{_settings(recipe, [change])}: {saves}; {'; '.join([costs[change], *slower])}")
    return tuple(lines)


def _settings(recipe: Recipe, changes: Iterable[Change]) -> str:
    """As `--set` takes them."""
    judges = [f"judge.{place}" for place, judging in enumerate(recipe.judge) if can_quantize(judging)]
    places = {"judge": judges if len(recipe.judge) > 1 else ["judge"]}
    last = {(section, name): value for section, name, value in changes}  # of two for one field the later counts
    named = [
        f"{place}.{name}={json.dumps(value) if isinstance(value, bool | None) else value}"
        for (section, name), value in last.items()
        for place in places.get(section, [section])
        if not (section == "validation" and ("prompts", "validation") in last)
    ]
    return ", ".join(named).replace("prompts.validation=null", "prompts.validation=null, validation=null")


def with_changes(recipe: Recipe, changes: Sequence[Change]) -> Recipe:
    """The recipe with changes, in their order."""
    for section, name, value in changes:
        old = getattr(recipe, section)
        if old is None:  # a change before this one has removed it
            continue
        if section == "judge":
            recipe = recipe.model_copy(update={"judge": tuple(quantized(each, value) for each in old)})
            continue
        outer, _, inner = name.partition(".")
        new = getattr(old, outer).model_copy(update={inner: value}) if inner else value
        recipe = recipe.model_copy(update={section: old.model_copy(update={outer: new})})
        if section == "prompts":  # both or neither
            recipe = recipe.model_copy(update={name: value})
    return recipe
