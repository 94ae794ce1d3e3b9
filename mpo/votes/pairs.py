"""What people compare: base's and tuned's sample of a held-out prompt at one seed."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mpo import MpoError
from mpo.comparison.win_rates import read_evaluation
from mpo.recipe import Recipe, read_recipe
from mpo.run_folder.files import sha256
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from reward import Scores

Model = Literal["base", "tuned"]
MODELS: tuple[Model, ...] = ("base", "tuned")
OVERALL = "overall"  # the question that is about no single dimension
DIGITS = 16  # of an id


@dataclass(frozen=True)
class Pair:
    """A held-out prompt at one seed: base's sample and tuned's."""

    prompt_id: int
    prompt: str
    seed: int
    base: Path
    tuned: Path
    base_sha256: str
    tuned_sha256: str

    @cached_property
    def id(self) -> str:
        """16 hex digits. Another prompt, seed, or sample has another id."""
        return short_digest(self.prompt, str(self.seed), self.base_sha256, self.tuned_sha256)

    def file(self, model: Model) -> Path:
        return self.base if model == "base" else self.tuned

    def sha256(self, model: Model) -> str:
        return self.base_sha256 if model == "base" else self.tuned_sha256


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation as far as people's votes need it."""

    recipe: Recipe
    pairs: tuple[Pair, ...]  # prompt by prompt, as evaluation.parquet has them
    rows: list[dict[str, Any]]  # of evaluation.parquet: all of base, then all of tuned
    scores: Scores  # of the rows, by the judge that chose
    summary: dict[str, Any]

    @property
    def questions(self) -> tuple[str, ...]:
        """What people can be asked: which is better overall, or in one dimension of the checklist."""
        return (OVERALL, *(name for name in self.scores.checklist.dimensions if name != OVERALL))

    def checked_question(self, question: str) -> str:
        """Raises MpoError for one that is not among `questions`."""
        if question not in self.questions:
            raise MpoError(f"question {question!r} is unknown; ask {', '.join(self.questions)}")
        return question


def open_evaluation(run: RunFolder) -> Evaluation:
    """Of a finished run. Raises MpoError if the folder is none, has not been evaluated, or lacks a sample."""
    run.require()
    recipe = read_recipe(run.recipe)
    if recipe.rounds > 1:
        last = run.folder / f"round-{recipe.rounds}"
        raise MpoError(f"{str(run.folder)!r} holds {recipe.rounds} rounds, each a run; name one, such as {last}")
    rows, scores, summary = read_evaluation(run)
    prompts = {
        row["prompt_id"]: row["prompt"] for row in read_table(run.heldout_prompts, made_by="evaluate").to_pylist()
    }
    sides: dict[tuple[int, int], dict[str, Path]] = defaultdict(dict)
    for row in rows:
        sides[row["prompt_id"], row["seed"]][row["model"]] = run.samples / row["file"]
    pairs = []
    for (prompt_id, seed), files in sides.items():
        for file in files.values():
            if not file.is_file():
                raise MpoError(f"{file} is missing; `mpo status {run.folder}` shows the command that makes it again")
        base, tuned = files["base"], files["tuned"]
        pairs.append(Pair(prompt_id, prompts[prompt_id], seed, base, tuned, sha256(base), sha256(tuned)))
    return Evaluation(recipe, tuple(pairs), rows, scores, summary)


def short_digest(*words: str) -> str:
    """16 hex digits that stand for these words in this order."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:DIGITS]
