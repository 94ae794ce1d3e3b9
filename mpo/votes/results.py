"""What people's votes say: which model wins, how far people agree, and how far the judges agree with them.

Of a pair that a rater has voted on twice, the first vote counts; the second only says how far raters agree with themselves. Votes
on samples that the evaluation no longer has are set aside. All intervals are over prompts.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np

from mpo import MpoError
from mpo.comparison.win_rates import interval_over_prompts
from mpo.recipe import Evaluate
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.scoring import checked_scores, scored_checklist
from mpo.votes.agreement import alpha, kappa
from mpo.votes.pairs import OVERALL, Evaluation, open_evaluation
from mpo.votes.store import Vote, of_evaluation, read_votes, standing
from reward import Scores
from reward.agreement import Interval, agreement, share

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Rates:
    """How often tuned wins over base. Each prompt counts the same, and within a prompt each vote."""

    question: str
    rater: str | None  # None = all of them
    num_votes: int
    num_pairs: int
    num_prompts: int
    win_rate: Interval  # a tie is half a win, and so is "both bad"
    tie_rate: float  # "both bad" included
    loss_rate: float
    both_bad_rate: float


@dataclass(frozen=True)
class SelfAgreement:
    """How often a rater gives the same answer (base, tuned, or neither) to a pair that is shown again."""

    question: str
    rater: str
    num_pairs: int
    share: Interval
    kappa: float | None  # Cohen's; None = all answers were the same


@dataclass(frozen=True)
class RaterAgreement:
    """How often two raters give the same answer to a pair that both have voted on."""

    question: str
    raters: tuple[str, str]
    num_pairs: int
    share: Interval
    kappa: float | None


@dataclass(frozen=True)
class AllRaters:
    """How far all raters agree, on pairs that at least two have voted on."""

    question: str
    num_raters: int
    num_pairs: int
    alpha: float | None  # Krippendorff's, nominal; None = all answers were the same


@dataclass(frozen=True)
class JudgeAgreement:
    """How often a judge prefers what most raters prefer, out of the pairs with a majority; as `reward agree` counts it."""

    question: str
    judge: str
    chose: bool  # whether the pairs of training were chosen by it
    num_pairs: int
    num_ties: int  # pairs without a majority
    accuracy: Interval


@dataclass(frozen=True)
class Position:
    """How often the sample on the left was preferred, out of votes with a preference: 1/2 but for chance, if sides do not matter."""

    rater: str | None  # None = all of them
    num_votes: int  # repeats included, and all questions
    left_share: Interval


@dataclass(frozen=True)
class Results:
    """What the votes of a run say."""

    num_votes: int  # that count, repeats included
    num_corrected: int  # replaced by a later vote
    num_set_aside: int  # on samples that the evaluation no longer has
    rates: tuple[Rates, ...]
    self_agreement: tuple[SelfAgreement, ...]
    rater_agreement: tuple[RaterAgreement, ...]
    all_raters: tuple[AllRaters, ...]
    judges: tuple[JudgeAgreement, ...]
    positions: tuple[Position, ...]


def results_of(run: RunFolder) -> Results:
    """The votes of a finished run. Raises MpoError if there are none, and as `open_evaluation` and `read_votes` do."""
    evaluation = open_evaluation(run)
    stored = read_votes(run)
    if not stored:
        raise MpoError(f"{run.votes} holds no vote; vote with `mpo vote {run.folder}`, or import votes")
    current = standing(stored)
    votes = of_evaluation(current, evaluation)
    questions = _grouped(votes, key=lambda vote: vote.question)
    first = {name: [vote for vote in of if not vote.repeat] for name, of in questions.items()}
    settings = evaluation.recipe.evaluate
    return Results(
        num_votes=len(votes),
        num_corrected=len(stored) - len(current),
        num_set_aside=len(current) - len(votes),
        rates=tuple(row for name, of in first.items() for row in _rates(name, of, settings)),
        self_agreement=tuple(row for name, of in questions.items() for row in _self_agreement(name, of, settings)),
        rater_agreement=tuple(row for name, of in first.items() for row in _rater_agreement(name, of, settings)),
        all_raters=tuple(row for name, of in first.items() for row in _all_raters(name, of)),
        judges=tuple(row for name, of in first.items() for row in _judges(run, evaluation, name, of)),
        positions=tuple(_positions(votes, settings)),
    )


def _grouped(votes: Iterable[Vote], key: Callable[[Vote], Key]) -> dict[Key, list[Vote]]:
    """By a key, in the keys' order; "overall" before the dimensions."""
    groups = defaultdict(list)
    for vote in votes:
        groups[key(vote)].append(vote)
    return {name: groups[name] for name in sorted(groups, key=lambda name: (name != OVERALL, name))}


def _rates(question: str, votes: Sequence[Vote], settings: Evaluate) -> Iterable[Rates]:
    by_rater = _grouped(votes, key=lambda vote: vote.rater)
    for rater, of in [(None, votes), *by_rater.items()] if votes else ():
        prompts = list(_grouped(of, key=lambda vote: vote.prompt_id).values())
        outcomes = [[vote.outcome for vote in of_prompt] for of_prompt in prompts]
        yield Rates(
            question=question,
            rater=rater,
            num_votes=len(of),
            num_pairs=len({vote.pair for vote in of}),
            num_prompts=len(prompts),
            win_rate=_mean_over_prompts(np.array([np.mean(each) for each in outcomes]), settings),
            tie_rate=_mean([[value == 0.5 for value in each] for each in outcomes]),
            loss_rate=_mean([[value == 0 for value in each] for each in outcomes]),
            both_bad_rate=_mean([[vote.choice == "both_bad" for vote in each] for each in prompts]),
        )


def _mean(values: Sequence[Sequence[float]]) -> float:
    """Over prompts, of the mean of each prompt's."""
    return float(np.mean([np.mean(of_prompt) for of_prompt in values]))


def _mean_over_prompts(per_prompt: np.ndarray, settings: Evaluate) -> Interval:
    """Of values (P,); a single prompt says nothing about how far prompts differ."""
    low, high = interval_over_prompts(per_prompt, num_bootstrap=settings.num_bootstrap, seed=settings.seed)
    known = len(per_prompt) > 1
    return Interval(float(per_prompt.mean()), low if known else float("nan"), high if known else float("nan"))


def _share(right: Sequence[bool], prompts: Sequence[int], settings: Evaluate) -> Interval:
    """How many are right; prompts: whose each is."""
    rng = np.random.default_rng(settings.seed)
    found = share(np.array(right, bool), np.array(prompts, int), settings.num_bootstrap, rng)
    return found if len(set(prompts)) > 1 else Interval(found.value, float("nan"), float("nan"))


def _self_agreement(question: str, votes: Sequence[Vote], settings: Evaluate) -> Iterable[SelfAgreement]:
    for rater, of in _grouped(votes, key=lambda vote: vote.rater).items():
        first = {vote.pair: vote for vote in of if not vote.repeat}
        both = [(first[vote.pair], vote) for vote in of if vote.repeat and vote.pair in first]
        if both:
            same, beyond_chance = _agreed(both, settings)
            yield SelfAgreement(question, rater, len(both), same, beyond_chance)


def _rater_agreement(question: str, votes: Sequence[Vote], settings: Evaluate) -> Iterable[RaterAgreement]:
    by_rater = _grouped(votes, key=lambda vote: vote.rater)
    for one, other in combinations(by_rater, 2):
        theirs = {vote.pair: vote for vote in by_rater[other]}
        both = [(vote, theirs[vote.pair]) for vote in by_rater[one] if vote.pair in theirs]
        if both:
            same, beyond_chance = _agreed(both, settings)
            yield RaterAgreement(question, (one, other), len(both), same, beyond_chance)


def _agreed(both: Sequence[tuple[Vote, Vote]], settings: Evaluate) -> tuple[Interval, float | None]:
    first, second = ([vote.winner for vote in side] for side in zip(*both, strict=True))
    same = [a == b for a, b in zip(first, second, strict=True)]
    return _share(same, [vote.prompt_id for vote, _ in both], settings), kappa(first, second)


def _all_raters(question: str, votes: Sequence[Vote]) -> Iterable[AllRaters]:
    units = [of for of in _grouped(votes, key=lambda vote: vote.pair).values() if len(of) > 1]
    raters = {vote.rater for of in units for vote in of}
    if len(raters) > 2:  # of two, Cohen's kappa says it
        yield AllRaters(question, len(raters), len(units), alpha([[vote.winner for vote in of] for of in units]))


def _judges(run: RunFolder, evaluation: Evaluation, question: str, votes: Sequence[Vote]) -> Iterable[JudgeAgreement]:
    """By its total on the question "overall", else by its score of the dimension, if it has that."""
    settings = evaluation.recipe.evaluate
    names = " and ".join(judging.name for judging in evaluation.recipe.judge)
    judges = [(names, True, evaluation.rows, evaluation.scores)]
    for place, judged in enumerate(evaluation.summary["judges"], 1):
        file = run.judge_tables / f"{place}.parquet"
        table = read_table(file, made_by="evaluate")
        rows = table.to_pylist()
        judges.append((judged["name"], False, rows, checked_scores(rows, scored_checklist(table, file), file)))
    majority = _majority(votes)
    prompts = {vote.pair: vote.prompt_id for vote in votes}
    if len({prompts[pair] for pair in majority}) < 2:  # no interval
        return
    groups = [str(prompts[pair]) for pair in majority]
    for name, chose, rows, scores in judges:
        if question != OVERALL and question not in scores.checklist.dimensions:
            continue
        margins = _margins(evaluation, rows, scores, question)
        found = agreement(
            name, np.array([margins[pair] for pair in majority]), np.array(list(majority.values())), groups,
            num_bootstrap=settings.num_bootstrap, seed=settings.seed,
        )  # fmt: skip
        yield JudgeAgreement(question, name, chose, found.num_pairs, found.num_ties, found.accuracy)


def _majority(votes: Sequence[Vote]) -> dict[str, float]:
    """Pair -> 1 where more raters prefer tuned than base, 0 where fewer, else 1/2."""
    by_pair = _grouped(votes, key=lambda vote: vote.pair)
    return {pair: float(np.sign(sum(2 * vote.outcome - 1 for vote in of)) / 2 + 0.5) for pair, of in by_pair.items()}


def _margins(evaluation: Evaluation, rows: Sequence[Mapping], scores: Scores, question: str) -> dict[str, float]:
    """Pair -> tuned's score less base's."""
    values = scores.total if question == OVERALL else scores.dimension(question)
    by_sample = {(row["prompt_id"], row["seed"], row["model"]): value for row, value in zip(rows, values, strict=True)}
    return {
        pair.id: by_sample[pair.prompt_id, pair.seed, "tuned"] - by_sample[pair.prompt_id, pair.seed, "base"]
        for pair in evaluation.pairs
    }


def _positions(votes: Sequence[Vote], settings: Evaluate) -> Iterable[Position]:
    for rater, of in [(None, votes), *_grouped(votes, key=lambda vote: vote.rater).items()]:
        decided = [vote for vote in of if vote.choice in ("left", "right")]
        if decided:
            left = [vote.choice == "left" for vote in decided]
            yield Position(rater, len(decided), _share(left, [vote.prompt_id for vote in decided], settings))
