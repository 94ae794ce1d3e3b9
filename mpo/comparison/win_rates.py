"""Which of two models wins: outcomes, win rates and their intervals."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mpo import MpoError
from mpo.comparison.dominance import tie_threshold
from mpo.recipe import Recipe
from mpo.run_folder.files import read_json
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.scoring import checked_scores, scored_checklist
from reward import Scores

MODELS = ("base", "tuned")
# What the judge that chose the pairs sees, what another one sees -> what the other says of it.
VERDICTS = {
    ("gain", "gain"): "confirms",
    ("gain", "neither"): "does not confirm",
    ("gain", "loss"): "contradicts",
    ("neither", "gain"): "sees a gain where that judge does not",
    ("neither", "neither"): "agrees",
    ("neither", "loss"): "sees a loss where that judge does not",
    ("loss", "gain"): "contradicts",
    ("loss", "neither"): "sees no loss where that judge does",
    ("loss", "loss"): "agrees",
}


def outcomes(tuned: np.ndarray, base: np.ndarray, *, tie: float) -> np.ndarray:
    """Scores -> 1 where tuned wins, 1/2 at a tie (they differ by at most `tie`), 0 where base wins; same shape."""
    difference = tuned - base
    return np.where(np.abs(difference) <= tie, 0.5, (difference > 0).astype(np.float64))


def summarise(outcome: np.ndarray, *, num_bootstrap: int, seed: int) -> dict[str, Any]:
    """Outcomes (prompts, seeds) -> rates, and a 95 % percentile interval of the win rate by bootstrap over prompts.

    win_rate counts a tie as half a win. Prompts are resampled, not pictures: pictures of one prompt are not independent.
    """
    per_prompt = outcome.mean(axis=1)
    return {
        "win_rate": float(per_prompt.mean()),
        "tie_rate": float((outcome == 0.5).mean()),
        "loss_rate": float((outcome == 0).mean()),
        "ci95": interval_over_prompts(per_prompt, num_bootstrap=num_bootstrap, seed=seed),
        "num_prompts": len(per_prompt),
    }


def interval_over_prompts(per_prompt: np.ndarray, *, num_bootstrap: int, seed: int) -> list[float]:
    """Rates of P prompts (P,) -> the ends of the 95 % percentile interval of their mean; of one prompt 0 and 1, as nothing is known."""
    if len(per_prompt) < 2:
        return [0.0, 1.0]
    rng = np.random.default_rng(seed)
    resampled = per_prompt[rng.integers(len(per_prompt), size=(num_bootstrap, len(per_prompt)))].mean(axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return [float(low), float(high)]


def summary_of(scores: Scores, recipe: Recipe) -> dict[str, Any]:
    """Scores of base's pictures followed by tuned's, each prompt by prompt -> {"total": {...}, "dimensions": {NAME: {...}}}."""
    tie = tie_threshold(scores.checklist)

    def summary(values: np.ndarray) -> dict[str, Any]:
        base, tuned = values.reshape(2, -1, recipe.evaluate.num_seeds)
        rates = summarise(
            outcomes(tuned, base, tie=tie), num_bootstrap=recipe.evaluate.num_bootstrap, seed=recipe.evaluate.seed
        )
        return {**rates, "base_mean": float(base.mean()), "tuned_mean": float(tuned.mean())}

    return {
        "tie_threshold": tie,
        "total": summary(scores.total),
        "dimensions": {name: summary(scores.dimensions[:, k]) for k, name in enumerate(scores.checklist.dimensions)},
    }


def verdict_on(own: dict[str, Any], other: dict[str, Any]) -> str:
    """What the totals of a judge that had no part in choosing say about the gain by the judge that had; summaries' entries.

    A gain is an interval above one half, a loss one below.
    """
    return VERDICTS[_sees(own), _sees(other)]


def _sees(rates: dict[str, Any]) -> Literal["gain", "loss", "neither"]:
    low, high = rates["ci95"]
    return "gain" if low > 0.5 else "loss" if high < 0.5 else "neither"


@dataclass(frozen=True)
class Opinion:
    """A row of what a judge says that had no part in choosing."""

    judge: str
    name: str  # "total" or a dimension
    rates: dict[str, Any]  # as `summarise` gives them
    verdict: str  # of the total on the gain by the judge that chose; "" for a dimension


def opinions(summary: dict[str, Any]) -> list[Opinion]:
    """The rows of all such judges; a judge with one dimension has its total alone."""
    found = []
    for judged in summary["judges"]:
        verdict = verdict_on(summary["total"], judged["total"])
        found.append(Opinion(judged["name"], "total", judged["total"], verdict))
        if len(judged["dimensions"]) > 1:
            found += [Opinion(judged["name"], name, rates, "") for name, rates in judged["dimensions"].items()]
    return found


def read_evaluation(run: RunFolder) -> tuple[list[dict[str, Any]], Scores, dict[str, Any]]:
    """evaluation.parquet's rows, their Scores, and summary.json. Raises MpoError if evaluate has not run, or its files are damaged."""
    if not run.evaluation_table.is_file() or not run.summary.is_file():
        raise MpoError(f"{run.evaluation_table} is missing; run `mpo evaluate {run.folder}` first")
    table = read_table(run.evaluation_table, made_by="evaluate")
    checklist = scored_checklist(table, run.evaluation_table)
    rows = table.to_pylist()
    return rows, checked_scores(rows, checklist, run.evaluation_table), read_summary(run)


def read_summary(run: RunFolder) -> dict[str, Any]:
    """summary.json; of a run that earlier versions evaluated, without other judges and guards."""
    return {"judges": [], "guards": {}, **read_json(run.summary)}
