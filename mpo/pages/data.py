"""A finished run as the data of its page: plain records for JSON, the same for the file and for the server.

Samples name their files relative to the run folder. What is shown is evenly spaced where there is more than may be shown; nothing is
picked. docs/page.md lists the fields.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpo import __version__
from mpo.comparison.dominance import Pairs, preferred_pairs
from mpo.comparison.win_rates import MODELS, opinions, outcomes, read_evaluation
from mpo.pages.facts import facts_of
from mpo.recipe import METHODS, Recipe, candidate_stage, dump_recipe, read_recipe
from mpo.run_folder.files import read_json, read_lines
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import PAIRS, read_prompts_table, read_selection, read_table, take_rows
from mpo.scoring import checked_scores, scored_checklist
from mpo.training.validation_log import read_validations
from reward import Checklist, Scores

Record = dict[str, Any]
NUM_POINTS = 1000  # of a curve: more cannot be seen
# The loss of an untrained LoRA, for objectives where it does not depend on the model.
START = {"dpo": float(np.log(2)), "ipo": 0.25, "hinge": 1.0, "mapo": None}


@dataclass(frozen=True)
class Limits:
    """How many of each are shown at most."""

    heldout: int = 5000
    pairs: int = 5000
    refused: int = 2000
    prompts: int = 1000  # whose candidates are shown


def page_data(run: RunFolder, limits: Limits | None = None) -> Record:
    """All that the page of a finished run shows. limits: None = as many as a browser scrolls through well.

    Raises MpoError if the run has not been evaluated, or a file is damaged.
    """
    limits = limits or Limits()
    run.require()
    recipe = read_recipe(run.recipe)
    rows, scores, summary = read_evaluation(run)
    return {
        "version": __version__,
        "name": recipe.name,
        "description": recipe.description,
        "kind": scores.checklist.kind,
        "about": _about(run, recipe),
        "recipe": dump_recipe(recipe),
        "facts": facts_of(run),
        "checklist": _checklist(scores.checklist),
        "result": _result(run, recipe, rows, scores, summary, limits),
        "training": _training(run, recipe),
        **_chosen(run, recipe, limits),
    }


def files_of(data: Mapping[str, Any]) -> set[str]:
    """All pictures and clips that the data name, relative to the run folder."""
    shown = [sample["file"] for sample in data["samples"]]
    return {*shown, *(side["file"] for row in data["result"]["heldout"] for side in (row["base"], row["tuned"]))}


def evenly_spaced(count: int, wanted: int) -> list[int]:
    """Indices from the first to the last of `count`, at most `wanted`."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(int)).tolist()


def decimals(divisor: float) -> int:
    """Digits to show of a score, so that scores that are not a tie look different."""
    return 2 + max(0, int(np.ceil(np.log10(divisor))))


def _about(run: RunFolder, recipe: Recipe) -> Record:
    trained = read_json(run.trained)
    return {
        "model": recipe.model.path,
        "rank": recipe.train.rank,
        "method": METHODS[recipe.train.objective],
        "beta": recipe.train.beta,
        "learning_rate": recipe.train.learning_rate,
        "batch_size": recipe.train.batch_size,
        "judges": [judging.name for judging in recipe.judge],
        "num_seeds": recipe.evaluate.num_seeds,
        **trained,
    }


def _checklist(checklist: Checklist) -> Record:
    """Questions in order, each with what an answer of one adds to the total."""
    dimension_of = {q.id: sub.dimension for sub in checklist.subdimensions for q in sub.questions}
    questions = [
        {
            "id": question.id,
            "text": question.text,
            "dimension": dimension_of[question.id],
            "unit": question.weight / checklist.divisor,
            "number": question.is_number,
        }
        for question in checklist
    ]
    return {
        "fingerprint": checklist.fingerprint,
        "dimensions": list(checklist.dimensions),
        "decimals": decimals(checklist.divisor),
        "questions": questions,
    }


class _Judged:
    """Scores of samples, each worked out once for all."""

    def __init__(self, scores: Scores | None):
        self.columns = None if scores is None else (scores.total, scores.dimensions, scores.answers)

    def sample(self, file: str, seed: int | None, row: int) -> Record:
        """A picture or clip with its score. seed: None = not sampled but imported. No judge was asked: its total is None."""
        if self.columns is None:
            return {"file": file, "seed": seed, "total": None, "dimensions": [], "answers": []}
        total, dimensions, answers = self.columns
        return {
            "file": file,
            "seed": seed,
            "total": _rounded(total[row]),
            "dimensions": [_rounded(value) for value in dimensions[row]],
            "answers": [_rounded(value) for value in answers[row]],
        }


def _rounded(value: float) -> float | int:
    value = round(float(value), 4)
    return int(value) if value.is_integer() else value


def _result(
    run: RunFolder,
    recipe: Recipe,
    rows: Sequence[Mapping[str, Any]],
    scores: Scores,
    summary: Record,
    limits: Limits,
) -> Record:
    """rows: evaluation's, all of base, then all of tuned."""
    half, tie = len(rows) // 2, summary["tie_threshold"]
    prompts = read_prompts_table(run.heldout_prompts)
    folder = run.samples.relative_to(run.folder).as_posix()
    verdicts = outcomes(scores.total[half:], scores.total[:half], tie=tie)
    by_dimension = outcomes(scores.dimensions[half:], scores.dimensions[:half], tie=tie)
    heldout, judged = [], _Judged(scores)
    for base in evenly_spaced(half, limits.heldout):
        sides = {
            model: judged.sample(f"{folder}/{rows[row]['file']}", rows[row]["seed"], row)
            for model, row in zip(MODELS, (base, half + base), strict=True)
        }
        verdict = {"outcome": _rounded(verdicts[base]), "outcomes": [_rounded(each) for each in by_dimension[base]]}
        heldout.append({"prompt": prompts[rows[base]["prompt_id"]], **sides, **verdict})
    others = [{"judge": row.judge, "name": row.name, "verdict": row.verdict, **row.rates} for row in opinions(summary)]
    return {
        "tie": tie,
        "rates": [{"name": name, **entry} for name, entry in [("total", summary["total"]), *summary["dimensions"].items()]],
        "others": others,
        "guards": [{"name": name, **entry} for name, entry in summary["guards"].items()],
        "changes": _changes(scores, half),
        "num_samples": half,
        "heldout": heldout,
    }  # fmt: skip


def _changes(scores: Scores, half: int) -> list[Record]:
    """How the answers changed over all samples, those first that changed the mean total most."""
    before, after = scores.answers[:half], scores.answers[half:]
    found = []
    for k, question in enumerate(scores.checklist):
        ends = [float(a[:, k].mean()) if question.is_number else float((a[:, k] > 0).mean()) for a in (before, after)]
        effect = float((after[:, k] - before[:, k]).mean()) * question.weight / scores.checklist.divisor
        up, down = (int((d > 0).sum()) for d in (after[:, k] - before[:, k], before[:, k] - after[:, k]))
        if up or down:
            found.append({"question": k, "base": ends[0], "tuned": ends[1], "up": up, "down": down, "effect": effect})
    return sorted(found, key=lambda change: -abs(change["effect"]))


def _chosen(run: RunFolder, recipe: Recipe, limits: Limits) -> Record:
    """The pairs, those that dominance refuses, and whole prompts' candidates; samples are named by their place in `samples`."""
    made_by = candidate_stage(recipe)
    prompt_ids = read_table(run.candidates_table, made_by=made_by, columns=["prompt_id"])["prompt_id"].to_numpy()
    prompts = read_table(run.prompts, made_by="run")["prompt"]
    num_pairs = len(read_table(run.pairs, made_by="select", columns=["pair_id"]))
    rows = evenly_spaced(num_pairs, limits.pairs)
    shown = take_rows(run.pairs, rows, made_by="select", columns=PAIRS.names).to_pylist()
    distinct = np.unique(prompt_ids)
    of_prompts = distinct[evenly_spaced(len(distinct), limits.prompts)]
    is_scored = recipe.select.strategy != "given"
    refused = _refused(run, recipe, prompt_ids, of_prompts, limits.refused) if is_scored else []
    wanted = sorted(
        {row[f"{role}_id"] for row in [*shown, *refused] for role in ("chosen", "rejected")}
        | set(np.flatnonzero(np.isin(prompt_ids, of_prompts)).tolist())
    )  # fmt: skip
    place = {candidate: k for k, candidate in enumerate(wanted)}
    scores = _scores(run, wanted) if is_scored else None
    total = None if scores is None else scores.total
    folder = run.candidates.relative_to(run.folder).as_posix()
    files = take_rows(run.candidates_table, wanted, made_by=made_by, columns=["seed", "file"]).to_pylist()
    judged = _Judged(scores)
    samples = [judged.sample(f"{folder}/{row['file']}", row["seed"], k) for k, row in enumerate(files)]
    return {
        "selection": read_selection(run),
        "num_pairs": num_pairs,
        "prompts": {int(prompt): prompts[int(prompt)].as_py() for prompt in _unique(prompt_ids[wanted])},
        "samples": samples,
        "pairs": [_pair(row, place) for row in shown],
        "refused": [_pair(row, place) for row in refused],
        "candidates": [
            {"prompt": int(prompt), "samples": _in_order([place[int(k)] for k in np.flatnonzero(prompt_ids == prompt)], total)}
            for prompt in of_prompts
        ],
    }  # fmt: skip


def _unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _in_order(places: list[int], total: np.ndarray | None) -> list[int]:
    """The best first."""
    return places if total is None else sorted(places, key=lambda k: -total[k])


def _pair(row: Mapping[str, Any], place: Mapping[int, int]) -> Record:
    margins = row["dimension_margins"]
    return {
        "prompt": int(row["prompt_id"]),
        "rejected": place[row["rejected_id"]],
        "chosen": place[row["chosen_id"]],
        "margin": None if row["margin"] is None else _rounded(row["margin"]),
        "margins": None if margins is None else [_rounded(value) for value in margins],
    }


def _scores(run: RunFolder, rows: Sequence[int]) -> Scores:
    """rows: in rising order."""
    table = take_rows(run.scores, rows, made_by="score", columns=["p_yes", "total"])
    return checked_scores(table.to_pylist(), scored_checklist(table, run.scores), run.scores)


def _refused(
    run: RunFolder, recipe: Recipe, prompt_ids: np.ndarray, of_prompts: np.ndarray, wanted: int
) -> list[Record]:
    """Pairs that the total alone would choose at the recipe's margin, of which some dimension is worse by more than a tie."""
    rows = np.flatnonzero(np.isin(prompt_ids, of_prompts))
    scores = _scores(run, rows.tolist())
    dimensions, total = scores.dimensions, scores.total

    def found(strategy: str) -> Pairs:
        return preferred_pairs(
            scores.checklist, strategy, prompt_ids[rows], dimensions, total, margin=recipe.select.margin
        )

    by_total, dominating = found("total"), found("dominance")
    dominates = set(zip(dominating.chosen.tolist(), dominating.rejected.tolist(), strict=True))
    pairs = [
        {
            "prompt_id": prompt_ids[rows[chosen]],
            "chosen_id": int(rows[chosen]),
            "rejected_id": int(rows[rejected]),
            "margin": float(margin),
            "dimension_margins": (dimensions[chosen] - dimensions[rejected]).tolist(),
        }
        for chosen, rejected, margin in zip(by_total.chosen, by_total.rejected, by_total.margin, strict=True)
        if (int(chosen), int(rejected)) not in dominates
    ]
    return [pairs[k] for k in evenly_spaced(len(pairs), wanted)]


def _training(run: RunFolder, recipe: Recipe) -> Record:
    """Curves by step. Steps after the last one of the result are not used."""
    last = read_json(run.trained)["last_step"]
    metrics, timing = (
        [line for line in read_lines(path) if line["step"] <= last] for path in (run.training_log, run.timing_log)
    )
    validated = [v for v in read_validations(run) if v.step <= last] if recipe.validation else []
    return {
        "start_loss": None if recipe.train.sft_weight else START[recipe.train.objective],
        "metrics": _curves(metrics),
        "timing": _curves(timing),
        "validation": [{"step": v.step, "total": v.total, **v.dimensions} for v in validated],
    }


def _curves(lines: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Columns, thinned to means of as many steps as it takes."""
    if not lines:
        return {}
    window = -(-len(lines) // NUM_POINTS)
    return {name: _thinned([line[name] for line in lines], window) for name in lines[0]}


def _thinned(values: Sequence[float], window: int) -> list[float]:
    return [float(f"{np.mean(values[k : k + window]):.6g}") for k in range(0, len(values), window)]
