"""Stage select: which pairs of candidates to train on.

x dominates y iff R_k(x) >= R_k(y) for every group k of the grain, and total(x) - total(y) > margin
(arXiv 2412.21059, section 3). Plain total-score pairs (`total`) and single dimensions (`dimension:NAME`) stand
behind the same interface. Pairs are formed among candidates of one prompt only.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mpo import MpoError
from mpo.recipe import Recipe, Select, maker, read_recipe
from mpo.score import scored_checklist
from mpo.store import Run, read_table, write_batches, write_json
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

BLOCK = 2**13  # candidates at a time

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

    prompt_ids (N,) grouped (equal ones adjacent); groups (N, K); total (N,). In the order of prompts, of falling lead
    within one; equal leads keep the candidates' order.
    """
    starts = np.flatnonzero(np.r_[True, prompt_ids[1:] != prompt_ids[:-1]]) if len(prompt_ids) else np.empty(0, int)
    sizes = np.diff(np.r_[starts, len(prompt_ids)])
    chosen, rejected, leads = [], [], []
    for size in np.unique(sizes):  # prompts with equally many candidates are compared together
        rows = starts[sizes == size][:, None] + np.arange(size)  # (P, n)
        matrix = lead(groups[rows], total[rows]).reshape(len(rows), -1)
        kept = matrix > margin
        if per_prompt is not None:
            order = np.argsort(np.where(kept, -matrix, np.inf), axis=1, kind="stable")[:, :per_prompt]
            widest = np.zeros_like(kept)
            np.put_along_axis(widest, order, True, axis=1)
            kept &= widest
        prompt, place = np.nonzero(kept)
        first, second = np.divmod(place, size)
        chosen.append(rows[prompt, first])
        rejected.append(rows[prompt, second])
        leads.append(matrix[prompt, place])
    if not chosen:
        return Pairs(np.empty(0, int), np.empty(0, int), np.empty(0))
    pairs = Pairs(np.concatenate(chosen), np.concatenate(rejected), np.concatenate(leads))
    return pairs.take(np.lexsort((pairs.rejected, pairs.chosen, -pairs.lead, prompt_ids[pairs.chosen])))


def num_worse(pairs: Pairs, dimensions: np.ndarray) -> int:
    """How many pairs' chosen is worse than its rejected in some dimension; dimensions (N, D)."""
    return int((dimensions[pairs.chosen] < dimensions[pairs.rejected]).any(axis=1).sum())


@dataclass(frozen=True)
class Block:
    """The scores of some whole prompts' candidates."""

    start: int  # row of its first candidate
    prompt_ids: np.ndarray  # (n,)
    scores: Scores

    def find(self, settings: Select, strategy: str, per_prompt: int | None) -> Pairs:
        """Pairs by a strategy, as rows of the block."""
        scores = self.scores
        groups = scores.by(settings.grain) if strategy == "dominance" else scores.dimensions
        lead = lead_of(strategy, scores.checklist)
        return find_pairs(lead, self.prompt_ids, groups, scores.total, margin=settings.margin, per_prompt=per_prompt)


def read_blocks(run: Run, checklist: Checklist, prompt_ids: np.ndarray) -> Iterator[Block]:
    """scores.parquet in blocks of whole prompts, so that memory does not grow with it. prompt_ids (N,) of all."""
    start, rest = 0, np.empty((0, len(checklist.questions)))
    with pq.ParquetFile(run.scores) as file:
        for batch in file.iter_batches(batch_size=BLOCK, columns=["p_yes"]):
            p_yes = batch.column(0).flatten().to_numpy().reshape(batch.num_rows, -1)
            rest = np.concatenate([rest, p_yes])
            end = start + len(rest)
            if end < len(prompt_ids):  # the last prompt may go on in the next batch
                end = int(np.searchsorted(prompt_ids[start:end], prompt_ids[end - 1])) + start
            size = end - start
            if size:
                yield Block(start, prompt_ids[start:end], score_answers(rest[:size], checklist))
            start, rest = end, rest[size:]


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
        _take_given(run, recipe)
        return
    checklist = scored_checklist(recipe, read_table(run.scores, made_by="score", columns=["candidate_id"]), run.scores)
    prompt_ids = read_table(run.candidates_table, made_by=maker(recipe), columns=["prompt_id"]).column(0).to_numpy()
    strategies = ("dominance", "total", *(f"dimension:{name}" for name in checklist.dimensions))
    counts, worse = dict.fromkeys(strategies, 0), dict.fromkeys(strategies, 0)
    dimensions, total = np.empty((len(prompt_ids), len(checklist.dimensions))), np.empty(len(prompt_ids))
    chosen, rejected = [], []
    for block in read_blocks(run, checklist, prompt_ids):
        rows = slice(block.start, block.start + len(block.prompt_ids))
        dimensions[rows], total[rows] = block.scores.dimensions, block.scores.total
        for strategy in strategies:
            pairs = block.find(settings, strategy, None)
            counts[strategy] += len(pairs)
            worse[strategy] += num_worse(pairs, block.scores.dimensions)
            if strategy == settings.strategy:
                kept = (
                    pairs
                    if settings.pairs_per_prompt is None
                    else block.find(settings, strategy, settings.pairs_per_prompt)
                )
                chosen.append(kept.chosen + block.start)
                rejected.append(kept.rejected + block.start)
    first, second = np.concatenate(chosen), np.concatenate(rejected)
    compared = int(sum(n * (n - 1) // 2 for n in np.unique(prompt_ids, return_counts=True)[1]))
    if not len(first):
        raise MpoError(
            f"select: of {len(prompt_ids)} candidates ({compared} pairs compared) no pair leads by more than select.margin={settings.margin} "
            f"under select.strategy={settings.strategy!r}; lower select.margin or raise generate.num_candidates"
        )
    if settings.num_pairs is not None:
        if len(first) < settings.num_pairs:
            raise MpoError(
                f"select.num_pairs={settings.num_pairs}: only {len(first)} pairs lead by more than select.margin={settings.margin}; "
                "lower select.num_pairs or select.margin, or raise select.pairs_per_prompt or generate.num_candidates"
            )
        drawn = _draw(len(first), settings.num_pairs, recipe.seed)
        first, second = first[drawn], second[drawn]
    statistics = {
        "strategy": settings.strategy,
        "grain": settings.grain,
        "margin": settings.margin,
        "num_candidates": len(prompt_ids),
        "num_compared": compared,
        "num_kept": len(first),
        "num_prompts": len(np.unique(prompt_ids[first])),
        "kept_share_worse_in_some_dimension": num_worse(Pairs(first, second, np.empty(0)), dimensions) / len(first),
        "strategies": {
            name: {"num_pairs": counts[name], "share_worse_in_some_dimension": worse[name] / max(counts[name], 1)}
            for name in strategies
        },
    }
    write_json(run.selection, statistics)
    metadata = {"checklist": checklist.fingerprint, "dimensions": ",".join(checklist.dimensions)}
    _write_pairs(run, prompt_ids, first, second, total, dimensions, metadata)


def _draw(count: int, wanted: int, seed: int) -> np.ndarray:
    """Rows of a random subset, in order."""
    if wanted >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, size=wanted, replace=False))


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
    if wanted is not None:
        drawn = _draw(len(chosen), wanted, recipe.seed)
        chosen, rejected = chosen[drawn], rejected[drawn]
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
    _write_pairs(run, prompt_ids, chosen, rejected, None, None, {})


def _write_pairs(
    run: Run,
    prompt_ids: np.ndarray,
    chosen: np.ndarray,
    rejected: np.ndarray,
    total: np.ndarray | None,
    dimensions: np.ndarray | None,
    metadata: dict[str, str],
) -> None:
    """Rows of M pairs, in pieces. total (N,), dimensions (N, D): None = nothing was scored, so margins are absent."""

    def pieces() -> Iterator[dict[str, pa.Array]]:
        for start in range(0, len(chosen), BLOCK):
            first, second = chosen[start : start + BLOCK], rejected[start : start + BLOCK]
            columns = {
                "pair_id": pa.array(np.arange(start, start + len(first))),
                "prompt_id": pa.array(prompt_ids[first]),
                "chosen_id": pa.array(first),
                "rejected_id": pa.array(second),
                "margin": pa.nulls(len(first), pa.float64()),
                "dimension_margins": pa.nulls(len(first), pa.list_(pa.float64())),
            }
            if total is not None and dimensions is not None:
                columns["margin"] = pa.array(total[first] - total[second])
                difference = dimensions[first] - dimensions[second]
                offsets = pa.array(np.arange(len(first) + 1, dtype=np.int32) * difference.shape[1])
                columns["dimension_margins"] = pa.ListArray.from_arrays(offsets, pa.array(difference.ravel()))
            yield columns

    write_batches(run.pairs, pieces(), PAIRS, metadata)


def read_selection(run: Run) -> dict:
    return json.loads(run.selection.read_text("utf-8"))
