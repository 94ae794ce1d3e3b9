"""Cards of the page: two samples side by side, what the judge scored them, and the answers in which they differ.

The second of the two is the one that ought to be better: tuned after base, chosen after rejected. None is picked by hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mpo.comparison.dominance import tie_threshold
from mpo.comparison.win_rates import MODELS, outcomes
from mpo.pages.media import media_tag
from mpo.recipe import Recipe, candidate_stage
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.scoring import checked_scores, scored_checklist
from reward import Scores

NUM_HELDOUT, NUM_PAIRS = 24, 8  # cards of each kind
VISIBLE = 0.1  # a continuous answer that moved by no more is not shown
Outcome = Literal["won", "tie", "lost", "none"]  # of a card's second sample
VERDICTS: dict[float, tuple[str, Outcome]] = {
    1.0: ("tuned wins", "won"),
    0.5: ("tie", "tie"),
    0.0: ("base wins", "lost"),
}


@dataclass(frozen=True)
class Sample:
    """One side of a card."""

    role: str  # "base", "tuned", "rejected" or "chosen"
    tag: str  # HTML of the picture or clip
    total: float | None  # None: no judge was asked
    dimensions: list[float]  # in the checklist's order; empty if no judge was asked


@dataclass(frozen=True)
class Difference:
    """A question that the judge answered otherwise for the second sample."""

    question: str
    first: str
    second: str
    effect: float  # second's total less first's, as far as this answer goes


@dataclass(frozen=True)
class Card:
    prompt: str
    verdict: str
    outcome: Outcome
    samples: tuple[Sample, Sample]
    differences: list[Difference]


def heldout_cards(
    run: RunFolder, rows: Sequence[Mapping[str, Any]], scores: Scores, prompts: Mapping[int, str]
) -> list[Card]:
    """Base beside tuned at the first seed of evenly spaced prompts. rows: evaluation's, all of base, then all of tuned."""
    half = len(rows) // 2
    first = [i for i in range(half) if i == 0 or rows[i]["prompt_id"] != rows[i - 1]["prompt_id"]]
    tie = tie_threshold(scores.checklist)
    cards = []
    for base in (first[k] for k in _evenly_spaced(len(first), NUM_HELDOUT)):
        tuned = half + base
        prompt = prompts[rows[base]["prompt_id"]]
        (outcome,) = outcomes(scores.total[[tuned]], scores.total[[base]], tie=tie)
        verdict, name = VERDICTS[float(outcome)]
        files = [run.samples / rows[row]["file"] for row in (base, tuned)]
        tags = [media_tag(file, f"{model}: {prompt}") for model, file in zip(MODELS, files, strict=True)]
        cards.append(Card(prompt, verdict, name, *_scored(MODELS, tags, scores, base, tuned)))
    return cards


def pair_cards(run: RunFolder, recipe: Recipe) -> list[Card]:
    """Rejected beside chosen of evenly spaced training pairs. Given pairs were not judged: they have no scores."""
    roles = ("rejected", "chosen")
    made_by = candidate_stage(recipe)
    pairs = read_table(run.pairs, made_by="select")
    pairs = pairs.take(_evenly_spaced(len(pairs), NUM_PAIRS)).to_pylist()
    files = read_table(run.candidates_table, made_by=made_by, columns=["file"]).column("file")
    prompts = read_table(run.prompts, made_by=made_by).column("prompt")
    scores = None if recipe.select.strategy == "given" else _scores_of(run, pairs)
    cards = []
    for k, pair in enumerate(pairs):
        prompt = prompts[pair["prompt_id"]].as_py()
        shown = [run.candidates / files[pair[f"{role}_id"]].as_py() for role in roles]
        tags = [media_tag(file, f"{role}: {prompt}") for role, file in zip(roles, shown, strict=True)]
        if scores is None:
            first, second = (Sample(role, tag, None, []) for role, tag in zip(roles, tags, strict=True))
            cards.append(Card(prompt, "", "none", (first, second), []))
        else:
            margin = f"margin {pair['margin']:.2f}"
            cards.append(Card(prompt, margin, "none", *_scored(roles, tags, scores, 2 * k, 2 * k + 1)))
    return cards


def _scores_of(run: RunFolder, pairs: Sequence[Mapping[str, Any]]) -> Scores:
    """Scores of M pairs' candidates: rejected and chosen of the first pair, then of the next."""
    table = read_table(run.scores, made_by="score", columns=["p_yes", "total"])
    checklist = scored_checklist(table, run.scores)
    rows = [pair[role] for pair in pairs for role in ("rejected_id", "chosen_id")]
    return checked_scores(table.take(rows).to_pylist(), checklist, run.scores)


def _evenly_spaced(count: int, wanted: int) -> list[int]:
    """Indices from the first to the last of `count`, at most `wanted`."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(int)).tolist()


def _scored(
    roles: Sequence[str], tags: Sequence[str], scores: Scores, first: int, second: int
) -> tuple[tuple[Sample, Sample], list[Difference]]:
    """The samples in two rows of scores, and in what they differ."""
    before, after = (
        Sample(role, tag, float(scores.total[row]), scores.dimensions[row].tolist())
        for role, tag, row in zip(roles, tags, (first, second), strict=True)
    )
    return (before, after), _differences(scores, first, second)


def _differences(scores: Scores, first: int, second: int) -> list[Difference]:
    """Questions whose answers differ, those with the greatest effect first."""
    effects = scores.contributions[second] - scores.contributions[first]
    differing = []
    for k, question in enumerate(scores.checklist):
        before, after = float(scores.answers[first, k]), float(scores.answers[second, k])
        if abs(after - before) <= (VISIBLE if question.continuous else 0):
            continue
        words = [question.words(answer, decimals=2) for answer in (before, after)]
        differing.append(Difference(question.text, *words, effect=float(effects[k])))
    return sorted(differing, key=lambda difference: -abs(difference.effect))
