"""Simulated people whose taste is not the published weights': do weights learnt from their votes serve them better?

    python -m benchmarks.people taste --output taste.yaml                   # what they like, as a checklist
    python -m benchmarks.people vote RUN --output votes.jsonl               # on pairs of the run's candidates
    reward fit votes.jsonl --output fitted.yaml --checklist image --questions answerable
    python -m benchmarks.people scale fitted.yaml --run RUN --output learnt.yaml
    mpo run quickstart --set judge.checklist=learnt.yaml --from RUN --output OTHER
    python -m benchmarks.people judge RUN OTHER                             # by people who have not voted

A person sees what the measured judge answers, and weighs it by a taste of their own: the common one of `taste.yaml` with each weight
changed at random, or, for a share of them, the published weights so changed. Their choices are noisy (Bradley and Terry's model), and
what is nearly equal is a tie. So the answers are right by construction, and only the weights are to be learnt; with real people, a
judge's mistakes come on top. `benchmarks.study` does all of this in every repetition.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mpo import MpoError
from mpo.comparison.dominance import find_pairs, find_strategy
from mpo.comparison.win_rates import read_evaluation
from mpo.recipe import read_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_prompts_table, read_table
from mpo.scoring import scored_checklist
from reward import Checklist, Scores, load_checklist, score_answers
from reward.checklist import save_checklist
from reward.judges.measured import MeasuredJudge

# The common taste: factors on the published weights by dimension, and weights of questions that the published ones hardly count.
# Good colours and light first, then sharpness; what the text says and the layout hardly.
FACTORS = {"alignment": 0.05, "composition": 0.05, "quality": 1.0, "fidelity": 0.2}
WEIGHTS = {
    "color_aesthetic_1": 0.4,
    "color_aesthetic_2": 0.4,
    "lighting_distinction_1": 0.2,
    "lighting_distinction_2": 0.4,
}
VARIATION = 0.5  # of a person's weights around the taste: standard deviation of their logarithm
DISSENT = 0.15  # share of people who go by the published weights
TEMPERATURE = 0.3  # utility; a lead of so much is preferred by 73 in 100
TIE = 0.25  # of the noisy lead, in temperatures: within it, a person calls it a tie
NUM_PEOPLE, VOTES_EACH = 50, 40
HELD_OUT = 10_000  # added to a seed for people who do not vote


class People(MeasuredJudge):
    """People's eyes, to be named beside `measured` in a recipe: the same answers, weighed by `taste.yaml`."""


def taste() -> Checklist:
    """What people have in common."""
    published = load_checklist("image")
    weights = {
        question.id: WEIGHTS.get(question.id, FACTORS.get(sub.dimension, 1.0) * question.weight)
        for sub in published.subdimensions
        for question in sub.questions
    }
    return published.weighted(weights, name="taste")


def draw_people(checklist: Checklist, count: int, seed: int) -> np.ndarray:
    """(people, Q) weights of this checklist's questions, a row a person."""
    rng = np.random.default_rng(seed)
    common, other = (
        np.array([of[id_] for id_ in checklist.question_ids])
        for of in (dict(zip(c.question_ids, c.weights, strict=True)) for c in (taste(), load_checklist("image")))
    )
    dissents = rng.random(count) < DISSENT
    own = np.exp(VARIATION * rng.normal(size=(count, len(common))))
    return np.where(dissents[:, None], other, common) * own


def vote(run: RunFolder, output: Path, *, seed: int) -> None:
    """Votes on random pairs of a run's candidates, as `reward fit` reads them, with paths relative to `output`."""
    scores, prompt_ids, files = _candidates(run)
    people = draw_people(scores.checklist, NUM_PEOPLE, seed)
    rng = np.random.default_rng((seed, 1))
    prompts = read_prompts_table(run.prompts)
    lines = []
    for weights in people:
        for first in rng.integers(len(files), size=VOTES_EACH):
            others = np.flatnonzero((prompt_ids == prompt_ids[first]) & (np.arange(len(files)) != first))
            second = rng.choice(others)
            lead = (scores.answers[first] - scores.answers[second]) @ weights / TEMPERATURE + rng.logistic()
            preferred = "tie" if abs(lead) <= TIE else "a" if lead > 0 else "b"
            a, b = (os.path.relpath(run.candidates / files[k], output.parent) for k in (first, second))
            row = {"prompt": prompts[prompt_ids[first]], "a": a, "b": b, "preferred": preferred}
            lines.append(json.dumps(row))
    output.write_text("\n".join(lines) + "\n", "utf-8")


def scale(fitted: Checklist, run: RunFolder) -> Checklist:
    """The learnt weights in a unit such that as many of a run's pairs dominate by its margin as under its own weights.

    A fit's unit is that of people's noise, so that a recipe's margin would mean something else. At margin 0 any unit does. Raises
    MpoError if none dominates by its own weights, or too few by the learnt ones.
    """
    scores, prompt_ids, _ = _candidates(run)
    margin = read_recipe(run.recipe).select.margin
    if not margin:
        return fitted

    def margins(checklist: Checklist, least: float) -> np.ndarray:
        asked = [scores.checklist.question_ids.index(id_) for id_ in checklist.question_ids]
        scored = Scores(checklist, scores.p_yes[:, asked], scores.answers[:, asked])
        strategy = find_strategy("dominance", checklist)
        pairs = find_pairs(strategy, prompt_ids, scored.dimensions, scored.total, min_margin=least, per_prompt=None)
        return np.sort(pairs.margin)[::-1]

    wanted = len(margins(scores.checklist, margin))
    scaled = fitted
    for _ in range(5):  # what counts as a tie is scaled, too, so that the number of pairs changes a little
        found = margins(scaled, 0.0)
        if not 0 < wanted < len(found):
            raise MpoError(f"{run.folder}: {len(found)} pairs dominate by the learnt weights, {wanted} by its own")
        factor = 2 * margin / (found[wanted - 1] + found[wanted])
        scaled = scaled.weighted(scaled.weights * factor, name="learnt")
    return scaled


def majority_win_rate(run: RunFolder, against: RunFolder | None = None, *, seed: int) -> float:
    """By people who have not voted, without noise: the share of a run's tuned pictures that most of them prefer.

    against: to those of another run at the same prompts and seeds; None = to the base model's. A tie counts as half. Raises
    MpoError if the two were not asked the same questions about samples of the same prompts and seeds.
    """
    tuned, base = _tuned_and_base(run)
    other = base if against is None else _tuned_and_base(against)[0]
    if against is not None and (
        _shown(run) != _shown(against) or tuned.checklist.question_ids != other.checklist.question_ids
    ):
        raise MpoError(
            f"{run.folder} and {against.folder} were not asked the same questions about the same prompts and seeds; compare runs of one study"
        )
    people = draw_people(tuned.checklist, NUM_PEOPLE, seed + HELD_OUT)
    leads = (tuned.answers - other.answers) @ people.T / TEMPERATURE
    votes = np.where(np.abs(leads) <= TIE, 0.0, np.sign(leads)).sum(axis=1)
    return float((np.sign(votes) / 2 + 0.5).mean())


def _shown(run: RunFolder) -> list[tuple[str, int]]:
    """The prompt and seed of each comparison."""
    prompts = read_prompts_table(run.heldout_prompts)
    return [(prompts[row["prompt_id"]], row["seed"]) for row in read_evaluation(run)[0] if row["model"] == "tuned"]


def _tuned_and_base(run: RunFolder) -> tuple[Scores, Scores]:
    rows, scores, _ = read_evaluation(run)
    tuned = np.array([row["model"] == "tuned" for row in rows])
    first, second = (Scores(scores.checklist, scores.p_yes[of], scores.answers[of]) for of in (tuned, ~tuned))
    return first, second


def _candidates(run: RunFolder) -> tuple[Scores, np.ndarray, list[str]]:
    """Their scores, prompt ids and files."""
    table = read_table(run.scores, made_by="score")
    checklist = scored_checklist(table, run.scores)
    candidates = read_table(run.candidates_table, made_by="generate")
    scores = score_answers(np.array(table["p_yes"].to_pylist()), checklist)
    return scores, candidates["prompt_id"].to_numpy(), candidates["file"].to_pylist()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("taste", "vote", "scale", "judge"):
        command = commands.add_parser(name)
        if name == "scale":
            command.add_argument("fitted", type=Path)
            command.add_argument("--run", type=Path, required=True)
        elif name != "taste":
            command.add_argument("runs", type=Path, nargs="+" if name == "judge" else 1, metavar="RUN")
            command.add_argument("--seed", type=int, default=0, help="of the people")
        if name != "judge":
            command.add_argument("--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    if given.command == "taste":
        save_checklist(taste(), given.output)
    elif given.command == "vote":
        vote(RunFolder(given.runs[0]), given.output, seed=given.seed)
    elif given.command == "scale":
        save_checklist(scale(load_checklist(given.fitted), RunFolder(given.run)), given.output)
    else:
        first, *others = map(RunFolder, given.runs)
        print(f"{first.folder} over base: {majority_win_rate(first, seed=given.seed):.3f}")
        for run in others:
            rates = [majority_win_rate(run, against, seed=given.seed) for against in (None, first)]
            print(f"{run.folder} over base: {rates[0]:.3f}, over {first.folder}: {rates[1]:.3f}")


if __name__ == "__main__":
    main()
