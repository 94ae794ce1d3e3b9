"""Stage select: which pairs of candidates to train on.

x dominates y iff R_k(x) >= R_k(y) for every group k of the grain, and total(x) - total(y) > margin
(arXiv 2412.21059, section 3). Plain total-score pairs (`total`) and single dimensions (`dimension:NAME`) stand
behind the same interface. Pairs are formed among candidates of one prompt only.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from mpo import MpoError
from mpo.recipe import Recipe, Select, read_recipe
from mpo.score import scored_checklist
from mpo.store import Run, read_table, write_json, write_table
from reward import Checklist, Scores, score_answers

PAIRS = pa.schema(
    [
        ("pair_id", pa.int64()),
        ("prompt_id", pa.int64()),
        ("chosen_id", pa.int64()),
        ("rejected_id", pa.int64()),
        ("margin", pa.float64()),
        ("dimension_margins", pa.list_(pa.float64())),
    ]
)

# A lead (..., i, j) says by how much candidate i is preferred to j; -inf where it is not. From group scores
# (..., N, K) and totals (..., N).
Lead = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _difference(values: np.ndarray) -> np.ndarray:
    """(..., N) -> (..., N, N): [i, j] = value of i less value of j."""
    return values[..., :, None] - values[..., None, :]


def dominance_lead(groups: np.ndarray, total: np.ndarray) -> np.ndarray:
    """The lead in total where no group is worse."""
    no_worse = np.ones((*total.shape, total.shape[-1]), bool)
    for k in range(groups.shape[-1]):  # one group at a time: memory stays at (..., N, N)
        no_worse &= groups[..., :, None, k] >= groups[..., None, :, k]
    return np.where(no_worse, _difference(total), -np.inf)


def total_lead(groups: np.ndarray, total: np.ndarray) -> np.ndarray:
    """The lead in total, whatever the groups do."""
    return _difference(total)


def dimension_lead(index: int) -> Lead:
    """The lead in one group, whatever the others do."""
    return lambda groups, total: _difference(groups[..., index])


def lead_of(strategy: str, checklist: Checklist) -> Lead:
    """The strategy of a recipe's `select.strategy`. Raises MpoError for a dimension that the checklist lacks."""
    if strategy == "dominance":
        return dominance_lead
    if strategy == "total":
        return total_lead
    name = strategy.removeprefix("dimension:")
    if name not in checklist.dimensions:
        raise MpoError(
            f"select.strategy={strategy!r}: no such dimension among the questions asked; dimensions: {', '.join(checklist.dimensions)}"
        )
    return dimension_lead(checklist.dimensions.index(name))


@dataclass(frozen=True)
class Pairs:
    """M pairs: rows of the candidates' arrays, and by how much the chosen leads."""

    chosen: np.ndarray  # (M,) int
    rejected: np.ndarray  # (M,) int
    lead: np.ndarray  # (M,) float, > margin

    def __len__(self) -> int:
        return len(self.chosen)

    def take(self, index: np.ndarray) -> "Pairs":
        return Pairs(self.chosen[index], self.rejected[index], self.lead[index])


def find_pairs(
    lead: Lead, prompt_ids: np.ndarray, groups: np.ndarray, total: np.ndarray, *, margin: float, per_prompt: int | None
) -> Pairs:
    """All pairs (i, j) of one prompt whose lead exceeds the margin; of each prompt the widest `per_prompt`.

    prompt_ids (N,) grouped (equal ones adjacent); groups (N, K); total (N,). Equal leads keep the candidates' order.
    """
    starts = np.flatnonzero(np.r_[True, prompt_ids[1:] != prompt_ids[:-1]]) if len(prompt_ids) else np.empty(0, int)
    sizes = np.diff(np.r_[starts, len(prompt_ids)])
    chosen, rejected, leads = [], [], []
    for size in np.unique(sizes):  # prompts with equally many candidates are compared together
        rows = starts[sizes == size][:, None] + np.arange(size)  # (P, n)
        matrix = lead(groups[rows], total[rows]).reshape(len(rows), -1)
        matrix[matrix <= margin] = -np.inf
        order = np.argsort(-matrix, axis=1, kind="stable")[:, :per_prompt]
        widest = np.take_along_axis(matrix, order, axis=1)
        prompt, rank = np.nonzero(np.isfinite(widest))
        first, second = np.divmod(order[prompt, rank], size)
        chosen.append(rows[prompt, first])
        rejected.append(rows[prompt, second])
        leads.append(widest[prompt, rank])
    if not chosen:
        return Pairs(np.empty(0, int), np.empty(0, int), np.empty(0))
    pairs = Pairs(np.concatenate(chosen), np.concatenate(rejected), np.concatenate(leads))
    return pairs.take(np.lexsort((pairs.rejected, pairs.chosen, -pairs.lead, prompt_ids[pairs.chosen])))


def confounded_share(pairs: Pairs, dimensions: np.ndarray) -> float:
    """The share of pairs whose chosen is worse than its rejected in some dimension; dimensions (N, D)."""
    if not len(pairs):
        return 0.0
    return float((dimensions[pairs.chosen] < dimensions[pairs.rejected]).any(axis=1).mean())


def choose(settings: Select, scores: Scores, prompt_ids: np.ndarray, *, seed: int) -> Pairs:
    """The pairs that a recipe's settings keep."""
    groups = scores.by(settings.grain) if settings.strategy == "dominance" else scores.dimensions
    lead = lead_of(settings.strategy, scores.checklist)
    pairs = find_pairs(
        lead, prompt_ids, groups, scores.total, margin=settings.margin, per_prompt=settings.pairs_per_prompt
    )
    if settings.num_pairs is not None and len(pairs) > settings.num_pairs:
        kept = np.random.default_rng(seed).choice(len(pairs), size=settings.num_pairs, replace=False)
        pairs = pairs.take(np.sort(kept))
    return pairs


def read_scores(run: Run) -> tuple[Scores, np.ndarray]:
    """scores.parquet as Scores of N rows, and the candidates' prompt ids (N,)."""
    table = read_table(run.scores, made_by="score")
    checklist = scored_checklist(read_recipe(run.recipe), table, run.scores)
    p_yes = np.array(table.column("p_yes").to_pylist()).reshape(table.num_rows, -1)
    prompt_ids = read_table(run.candidates_table, made_by="generate").column("prompt_id").to_numpy()
    return score_answers(p_yes, checklist), prompt_ids


def select(folder: str | Path) -> None:
    """scores.parquet (or preferences.parquet) -> pairs.parquet, selection.json.

    Raises MpoError where the recipe leaves no pair.
    """
    run = Run(folder)
    if run.pairs.exists() and run.selection.exists():
        return
    recipe = read_recipe(run.recipe)
    settings = recipe.select
    if settings.strategy == "given":
        return _take_given(run, recipe)
    scores, prompt_ids = read_scores(run)
    pairs = choose(settings, scores, prompt_ids, seed=recipe.seed)
    compared = int(sum(n * (n - 1) // 2 for n in np.unique(prompt_ids, return_counts=True)[1]))
    if not len(pairs):
        raise MpoError(
            f"select: of {len(prompt_ids)} candidates ({compared} pairs compared) no pair leads by more than select.margin={settings.margin} "
            f"under select.strategy={settings.strategy!r}; lower select.margin or raise generate.num_candidates"
        )
    if settings.num_pairs is not None and len(pairs) < settings.num_pairs:
        raise MpoError(
            f"select.num_pairs={settings.num_pairs}: only {len(pairs)} pairs lead by more than select.margin={settings.margin}; "
            "lower select.num_pairs or select.margin, or raise select.pairs_per_prompt or generate.num_candidates"
        )
    write_json(run.selection, _statistics(settings, scores, prompt_ids, pairs, num_compared=compared))
    margins = scores.total[pairs.chosen] - scores.total[pairs.rejected]
    dimension_margins = scores.dimensions[pairs.chosen] - scores.dimensions[pairs.rejected]
    metadata = {"checklist": scores.checklist.fingerprint, "dimensions": ",".join(scores.checklist.dimensions)}
    _write_pairs(run, prompt_ids, pairs.chosen, pairs.rejected, margins.tolist(), dimension_margins.tolist(), metadata)


def _take_given(run: Run, recipe: Recipe) -> None:
    """The pairs as their source has them; nothing is scored, so margins are absent."""
    table = read_table(run.preferences, made_by="gather")
    prompt_ids = read_table(run.candidates_table, made_by="gather").column("prompt_id").to_numpy()
    chosen, rejected = table.column("chosen_id").to_numpy(), table.column("rejected_id").to_numpy()
    wanted = recipe.select.num_pairs
    if wanted is not None and wanted > len(chosen):
        raise MpoError(
            f"select.num_pairs={wanted}: there are only {len(chosen)} pairs; lower it, or raise preferences.limit"
        )
    if wanted is not None and wanted < len(chosen):
        kept = np.sort(np.random.default_rng(recipe.seed).choice(len(chosen), size=wanted, replace=False))
        chosen, rejected = chosen[kept], rejected[kept]
    statistics = {
        "strategy": "given",
        "grain": None,
        "margin": None,
        "num_candidates": len(prompt_ids),
        "num_compared": len(table),
        "num_kept": len(chosen),
        "num_prompts": len(np.unique(prompt_ids[chosen])),
        "kept_share_worse_in_some_dimension": None,
        "strategies": {},
    }
    write_json(run.selection, statistics)
    _write_pairs(run, prompt_ids, chosen, rejected, [None] * len(chosen), [None] * len(chosen), {})


def _write_pairs(
    run: Run, prompt_ids: np.ndarray, chosen: np.ndarray, rejected: np.ndarray, margins: list, dimension_margins: list,
    metadata: dict[str, str],
) -> None:  # fmt: skip
    columns = {
        "pair_id": list(range(len(chosen))),
        "prompt_id": prompt_ids[chosen].tolist(),
        "chosen_id": chosen.tolist(),
        "rejected_id": rejected.tolist(),
        "margin": margins,
        "dimension_margins": dimension_margins,
    }
    write_table(run.pairs, columns, PAIRS, metadata)


def _statistics(settings: Select, scores: Scores, prompt_ids: np.ndarray, kept: Pairs, *, num_compared: int) -> dict:
    """What each strategy would keep at this margin, and how often its pairs buy one dimension with another."""
    strategies = {}
    for strategy in ("dominance", "total", *(f"dimension:{name}" for name in scores.checklist.dimensions)):
        groups = scores.by(settings.grain) if strategy == "dominance" else scores.dimensions
        pairs = find_pairs(
            lead_of(strategy, scores.checklist),
            prompt_ids,
            groups,
            scores.total,
            margin=settings.margin,
            per_prompt=None,
        )
        strategies[strategy] = {
            "num_pairs": len(pairs),
            "share_worse_in_some_dimension": confounded_share(pairs, scores.dimensions),
        }
    return {
        "strategy": settings.strategy,
        "grain": settings.grain,
        "margin": settings.margin,
        "num_candidates": len(prompt_ids),
        "num_compared": num_compared,
        "num_kept": len(kept),
        "num_prompts": len(np.unique(prompt_ids[kept.chosen])),
        "kept_share_worse_in_some_dimension": confounded_share(kept, scores.dimensions),
        "strategies": strategies,
    }


def read_selection(run: Run) -> dict:
    return json.loads(run.selection.read_text("utf-8"))
