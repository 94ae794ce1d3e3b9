"""The results of people's votes in words, and as JSON."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from mpo.votes.results import Results
from reward.agreement import Interval


def describe(results: Results) -> str:
    """The results as Markdown tables."""
    parts = [_totals(results)]
    raters = {row.rater for row in results.rates if row.rater}
    shown = [row for row in results.rates if row.rater or len(raters) > 1]  # of one rater, "all" says the same again
    parts += _table(
        ["question", "rater", "votes", "prompts", "tuned over base, 95 %", "ties", "base wins", "both bad"],
        [
            [r.question, r.rater or "all", r.num_votes, r.num_prompts, _words(r.win_rate)]
            + [f"{rate:.3f}" for rate in (r.tie_rate, r.loss_rate, r.both_bad_rate)]
            for r in shown
        ],
    )
    parts += _table(
        ["question", "rater, shown a pair again", "pairs", "same answer, 95 %", "kappa"],
        [[r.question, r.rater, r.num_pairs, _words(r.share), _number(r.kappa)] for r in results.self_agreement],
    )
    between = [
        [r.question, " and ".join(r.raters), r.num_pairs, _words(r.share), _number(r.kappa)]
        for r in results.rater_agreement
    ]
    between += [
        [r.question, f"all {r.num_raters}", r.num_pairs, "–", f"{_number(r.alpha)} (alpha)"] for r in results.all_raters
    ]
    parts += _table(["question", "raters", "pairs", "same answer, 95 %", "kappa"], between)
    parts += _table(
        ["question", "judge", "pairs", "without a majority", "prefers what most people prefer, 95 %"],
        [
            [r.question, r.judge if r.chose else f"{r.judge}, which did not choose", r.num_pairs, r.num_ties, _words(r.accuracy)]
            for r in results.judges
        ],
    )  # fmt: skip
    parts += _table(
        ["rater", "votes with a preference", "of them for the left, 95 %"],
        [
            [r.rater or "all", r.num_votes, _words(r.left_share)]
            for r in results.positions
            if r.rater or len(raters) > 1
        ],
    )
    return "\n\n".join(parts)


def _totals(results: Results) -> str:
    words = f"{results.num_votes} votes"
    if results.num_corrected:
        words += f"; {results.num_corrected} more were corrected"
    if results.num_set_aside:
        words += f"; {results.num_set_aside} more are set aside: their samples have been made anew since"
    return words


def _table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """One Markdown table; none without rows."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return ["\n".join([f"| {' | '.join(names)} |", "|---" * len(names) + "|", *lines])] if lines else []


def _words(interval: Interval) -> str:
    if math.isnan(interval.value):
        return "–"
    return f"{interval.value:.3f}" if math.isnan(interval.low) else str(interval)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def as_json(results: Results) -> str:
    """The same with full precision; what is not known is null."""
    return json.dumps(_known(asdict(results)), indent=1)


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _known(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
