"""Stage select: which pairs of candidates to train on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mpo import MpoError
from mpo.comparison.dominance import Pairs, num_worse, preferred_pairs, tie_threshold
from mpo.recipe import Recipe, Select, candidate_stage, read_recipe
from mpo.run_folder.files import write_json
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import PAIRS, lists_of, numbers_of, read_table, write_batches
from mpo.scoring import scored_checklist
from reward import Checklist, Scores, score_answers

BLOCK = 2**13  # candidates at a time


@dataclass(frozen=True)
class Block:
    """The scores of all candidates of some prompts."""

    start: int  # row of its first candidate
    prompt_ids: np.ndarray  # (n,)
    scores: Scores

    def find(self, settings: Select, strategy: str, per_prompt: int | None) -> Pairs:
        """Pairs by a strategy, as rows of the block."""
        scores = self.scores
        groups = scores.by(settings.granularity) if strategy == "dominance" else scores.dimensions
        return preferred_pairs(
            scores.checklist,
            strategy,
            self.prompt_ids,
            groups,
            scores.total,
            margin=settings.margin,
            per_prompt=per_prompt,
        )


def read_blocks(run: RunFolder, checklist: Checklist, prompt_ids: np.ndarray) -> Iterator[Block]:
    """scores.parquet in blocks of whole prompts, so that memory does not grow with it. prompt_ids (N,) of all."""
    start, rest = 0, np.empty((0, len(checklist.questions)))
    with pq.ParquetFile(run.scores) as file:
        for batch in file.iter_batches(batch_size=BLOCK, columns=["p_yes"]):
            rest = np.concatenate([rest, numbers_of(pa.chunked_array([batch.column(0)]))])
            end = start + len(rest)
            if end < len(prompt_ids):  # the last prompt may continue in the next batch
                end = int(np.searchsorted(prompt_ids[start:end], prompt_ids[end - 1])) + start
            size = end - start
            if size:
                yield Block(start, prompt_ids[start:end], score_answers(rest[:size], checklist))
            start, rest = end, rest[size:]


def select(folder: str | Path) -> None:
    """scores.parquet (or preferences.parquet) -> pairs.parquet, selection.json.

    Raises MpoError if the recipe leaves no pair.
    """
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    settings = recipe.select
    if settings.strategy == "given":
        _take_given(run, recipe)
        return
    checklist = scored_checklist(read_table(run.scores, made_by="score", columns=["candidate_id"]), run.scores)
    prompt_ids = (
        read_table(run.candidates_table, made_by=candidate_stage(recipe), columns=["prompt_id"]).column(0).to_numpy()
    )
    tie = tie_threshold(checklist)
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
            worse[strategy] += num_worse(pairs, block.scores.dimensions, tie=tie)
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
            f"select: of {len(prompt_ids)} candidates ({compared} pairs compared) no pair's margin exceeds select.margin={settings.margin} "
            f"under select.strategy={settings.strategy!r}; lower select.margin or raise generate.num_candidates"
        )
    if settings.num_pairs is not None:
        if len(first) < settings.num_pairs:
            raise MpoError(
                f"select.num_pairs={settings.num_pairs}: only {len(first)} pairs have a margin above select.margin={settings.margin}; "
                "lower select.num_pairs or select.margin, or raise select.pairs_per_prompt or generate.num_candidates"
            )
        drawn = _subset(len(first), settings.num_pairs, recipe.seed)
        first, second = first[drawn], second[drawn]
    statistics = {
        "strategy": settings.strategy,
        "granularity": settings.granularity,
        "margin": settings.margin,
        "tie_threshold": tie,
        "num_candidates": len(prompt_ids),
        "num_compared": compared,
        "num_kept": len(first),
        "num_prompts": len(np.unique(prompt_ids[first])),
        "kept_share_worse_in_some_dimension": num_worse(Pairs(first, second, np.empty(0)), dimensions, tie=tie)
        / len(first),
        "strategies": {
            name: {"num_pairs": counts[name], "share_worse_in_some_dimension": worse[name] / max(counts[name], 1)}
            for name in strategies
        },
    }
    write_json(run.selection, statistics)
    metadata = {"checklist": checklist.fingerprint, "dimensions": ",".join(checklist.dimensions)}
    _write_pairs(run, prompt_ids, first, second, total, dimensions, metadata)


def _subset(count: int, wanted: int, seed: int) -> np.ndarray:
    """Rows of a random subset, in order."""
    if wanted >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, size=wanted, replace=False))


def _take_given(run: RunFolder, recipe: Recipe) -> None:
    """The pairs as their source has them; nothing is scored, so there are no margins."""
    table = read_table(run.preferences, made_by="import-pairs")
    prompt_ids = read_table(run.candidates_table, made_by="import-pairs").column("prompt_id").to_numpy()
    chosen, rejected = table.column("chosen_id").to_numpy(), table.column("rejected_id").to_numpy()
    wanted = recipe.select.num_pairs
    if wanted is not None and wanted > len(chosen):
        raise MpoError(
            f"select.num_pairs={wanted}: there are only {len(chosen)} pairs; lower it, or raise preferences.limit"
        )
    if wanted is not None:
        drawn = _subset(len(chosen), wanted, recipe.seed)
        chosen, rejected = chosen[drawn], rejected[drawn]
    statistics = {
        "strategy": "given",
        "granularity": None,
        "margin": None,
        "tie_threshold": None,
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
    run: RunFolder,
    prompt_ids: np.ndarray,
    chosen: np.ndarray,
    rejected: np.ndarray,
    total: np.ndarray | None,
    dimensions: np.ndarray | None,
    metadata: dict[str, str],
) -> None:
    """Rows of M pairs, in pieces. total (N,), dimensions (N, D): None = nothing was scored, so there are no margins."""

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
                columns["dimension_margins"] = lists_of(dimensions[first] - dimensions[second])
            yield columns

    write_batches(run.pairs, pieces(), PAIRS, metadata)
