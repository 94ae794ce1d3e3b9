"""How far people agree with themselves and with each other, beyond chance.

Answers are any labels; here whose sample won, or neither's.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from sklearn.metrics import cohen_kappa_score


def kappa(first: Sequence[Any], second: Sequence[Any]) -> float | None:
    """Cohen's kappa of two raters' answers about the same items; None where both always give the same one, as chance alone would."""
    labels = {answer: number for number, answer in enumerate(sorted({*first, *second}, key=str))}
    if len(labels) < 2:
        return None
    return float(cohen_kappa_score([labels[a] for a in first], [labels[b] for b in second]))


def alpha(units: Sequence[Sequence[Any]]) -> float | None:
    """Krippendorff's alpha for nominal answers: each unit's answers, of any number of raters; None if it is not defined.

    1 - D_observed / D_expected from coincidences (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", part C).
    Units with one answer say nothing and are left out.
    """
    units = [unit for unit in units if len(unit) > 1]
    totals = Counter(answer for unit in units for answer in unit)
    count = sum(totals.values())
    expected = sum(totals[a] * totals[b] for a, b in combinations(totals, 2))
    if not expected:
        return None
    observed = 0.0
    for unit in units:
        inside: Mapping[Any, int] = Counter(unit)
        observed += sum(inside[a] * inside[b] for a, b in combinations(inside, 2)) / (len(unit) - 1)
    return 1 - (count - 1) * observed / expected
