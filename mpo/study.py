"""Several runs side by side: `mpo compare`.

Runs that differ in nothing but seeds are repetitions of one arm. Arms are compared by what evaluation measured: win rates over the
base model by the judge that chose the pairs and by those that did not, and the guards.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mpo import MpoError
from mpo.comparison.repetitions import (
    Difference,
    Mean,
    Row,
    Study,
    mean_of,
    paired_difference,
    unpaired_difference,
)
from mpo.comparison.win_rates import opinions, read_summary
from mpo.recipe import Recipe, flat_fields, read_recipe
from mpo.run_folder.paths import RunFolder, last_round

# What repetitions of an arm may differ in, by its place in a recipe; `*` is any prompt set.
SEEDS = ("seed", "train.seed", "validation.seed", "evaluate.seed", "prompts.*.shuffle_seed")
NAMES = ("name", "description", "tracking")  # what changes nothing


@dataclass(frozen=True)
class Run:
    """A finished run: its recipe flattened, its seeds, and what evaluation measured, by name."""

    folder: Path
    settings: Mapping[str, Any]
    seeds: tuple[Any, ...]
    measures: Mapping[str, float]


@dataclass(frozen=True)
class Arm:
    """Repetitions of one recipe."""

    label: str  # in which settings it differs from the first arm
    runs: tuple[Run, ...]

    def values(self, measure: str) -> np.ndarray:
        """(R,) of its runs, in order of their seeds."""
        return np.array([run.measures[measure] for run in self.runs])


def compare(folders: Sequence[Path]) -> Study:
    """The runs in these folders as a study; the first run's arm is what the others are compared with.

    Repetitions of two arms are paired by their seeds if all seeds of both are the same. Where arms have different judges of one
    name, a note says so. Raises MpoError for a run without an evaluation, the same repetition twice, and runs of which not the
    same was measured.
    """
    if not folders:
        raise MpoError("no run is given; name run directories")
    runs = [read_run(RunFolder(folder)) for folder in folders]
    arms: dict[str, list[Run]] = {}
    for run in runs:
        arms.setdefault(json.dumps(run.settings, sort_keys=True), []).append(run)
    first = runs[0].settings
    found = []
    for of_arm in arms.values():
        of_arm.sort(key=lambda run: repr(run.seeds))
        for one, other in pairwise(of_arm):
            if one.seeds == other.seeds:
                raise MpoError(
                    f"{one.folder} and {other.folder} are the same repetition: same settings, same seeds; leave one out"
                )
        found.append(Arm(_label(first, of_arm[0].settings), tuple(of_arm)))
    measures = list(runs[0].measures)
    for run in runs:
        if list(run.measures) != measures:
            raise MpoError(
                f"{run.folder} measures {', '.join(run.measures)}, but {runs[0].folder} {', '.join(measures)}; evaluate all by the same judges"
            )
    rows = [
        Row(
            measure,
            tuple(mean_of(arm.values(measure)) for arm in found),
            tuple(_difference(found[0], arm, measure) for arm in found[1:]),
        )
        for measure in measures
    ]
    study = Study(tuple(_words(arm) for arm in found), tuple(rows))
    notes = (
        f"{letter} and A differ in {', '.join(judges)}: rates by these judges may be on two scales."
        for letter, arm in zip(study.letters[1:], found[1:], strict=True)
        if (judges := [place for place in _differing(first, arm.runs[0].settings) if _is_a_judge(place)])
    )
    return replace(study, notes=tuple(notes))


def read_run(run: RunFolder) -> Run:
    """A finished run; of one in rounds its recipe, and what its last round's evaluation measured. Raises MpoError without an evaluation."""
    recipe = read_recipe(run.recipe) if run.recipe.is_file() else None
    last = RunFolder(last_round(run.folder, recipe.rounds)) if recipe else run
    if recipe is None or not last.summary.is_file():
        raise MpoError(f"{run.folder} has no evaluation; finish it with `mpo run`, or leave it out")
    summary = read_summary(last)
    settings, seeds = _settings_and_seeds(recipe)
    measures = {"total": summary["total"]["win_rate"]}
    measures |= {name: rates["win_rate"] for name, rates in summary["dimensions"].items()}
    measures |= {f"{each.judge}: {each.name}": each.rates["win_rate"] for each in opinions(summary)}
    measures |= {f"{name}, tuned / base": guard["ratio"] for name, guard in summary["guards"].items()}
    return Run(run.folder, settings, seeds, measures)


def _settings_and_seeds(recipe: Recipe) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Everything of a recipe that is not a seed, by its dotted place, and the seeds."""
    settings, seeds = {}, []
    sections = recipe.model_dump(mode="json").items()
    for place, value in (field for section in sections for field in flat_fields(*section).items()):
        if any(_matches(place, pattern) for pattern in SEEDS):
            seeds.append(value)
        elif place.split(".")[0] not in NAMES:
            settings[place] = value
    return settings, tuple(seeds)


def _matches(place: str, pattern: str) -> bool:
    parts, wanted = place.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(w in ("*", p) for p, w in zip(parts, wanted, strict=True))


def _label(first: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The settings that differ, as the other has them; of the first itself nothing."""
    return ", ".join(f"{place}={other.get(place)}" for place in _differing(first, other)) or "the first"


def _differing(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [place for place in {**first, **other} if first.get(place) != other.get(place)]


def _is_a_judge(place: str) -> bool:
    return place.startswith(("judge.", "evaluate.judges"))


def _difference(first: Arm, second: Arm, measure: str) -> Difference:
    if [run.seeds for run in first.runs] == [run.seeds for run in second.runs]:
        return paired_difference(first.values(measure), second.values(measure))
    return unpaired_difference(first.values(measure), second.values(measure))


def describe(study: Study) -> str:
    """The study as Markdown: arms, then a table of means, then one of differences from the first arm."""
    letters = study.letters
    lines = [f"{letter}: {words}" for letter, words in zip(letters, study.arms, strict=True)]
    lines += ["", f"| mean, 95 % interval | {' | '.join(letters)} |", "|---" * (len(letters) + 1) + "|"]
    for row in study.rows:
        lines.append(f"| {row.measure} | {' | '.join(interval(mean) for mean in row.means)} |")
    if len(study.arms) > 1:
        lines += [
            "",
            "| less A | | difference | 95 % interval | p | effect | verdict | repetitions needed |",
            "|---" * 8 + "|",
        ]
    for row in study.rows:
        for letter, gap in zip(letters[1:], row.differences, strict=True):
            known = f"{gap.low:+.3f} to {gap.high:+.3f}" if np.isfinite(gap.low) else "unknown"
            p, effect = (f"{value:.2g}" if np.isfinite(value) else "–" for value in (gap.p, gap.effect))
            more = str(gap.needed) if gap.needed else "–"
            paired = "paired" if gap.paired else "unpaired"
            lines.append(
                f"| {row.measure} | {letter}, {paired} | {gap.mean:+.3f} | {known} | {p} | {effect} | {gap.verdict} | {more} |"
            )
    return "\n".join([*lines, *([""] if study.notes else []), *study.notes])


def _words(arm: Arm) -> str:
    return f"{arm.label} ({len(arm.runs)} repetition{'s' if len(arm.runs) > 1 else ''})"


def interval(mean: Mean) -> str:
    """A mean in words; with its interval where there is more than one repetition."""
    return f"{mean.mean:.3f} ({mean.low:.3f} to {mean.high:.3f})" if mean.count > 1 else f"{mean.mean:.3f}"
