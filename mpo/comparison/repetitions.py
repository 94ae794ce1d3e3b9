"""Two ways of training over independent repetitions: how far apart, how sure, and how many repetitions would settle it.

R repetitions of an arm, each one number, such as its run's win rate.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

LEVEL = 0.95  # of intervals
POWER = 0.8  # of the test that `needed` is about
SAME = 1e-9  # a deviation below it is rounding
MOST = 100_000  # repetitions: beyond it, they are called equal


@dataclass(frozen=True)
class Mean:
    """A mean over repetitions with its interval by Student's t; infinitely wide for one repetition."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Difference:
    """The second arm less the first."""

    mean: float
    low: float  # the 95 % interval by Student's t
    high: float
    p: float  # two-sided
    effect: float  # mean over its standard deviation (Cohen's d; of paired differences d_z); NaN where that is 0
    needed: (
        int | None
    )  # repetitions for a test at 5 % to find a true difference of this size 4 times in 5; None = over MOST
    paired: bool  # whether repetitions share their seeds
    count: int  # repetitions, or pairs of them

    @property
    def verdict(self) -> str:
        """What the interval says."""
        if not math.isfinite(self.low) or self.low <= 0 <= self.high:
            return "not settled"
        return "higher" if self.mean > 0 else "lower"


@dataclass(frozen=True)
class Row:
    """A measure of all arms, and each arm but the first less the first."""

    measure: str
    means: tuple[Mean, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Study:
    """Arms side by side."""

    arms: tuple[str, ...]  # in which settings each differs from the first
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()  # what must be known to read the rows

    @property
    def letters(self) -> list[str]:
        """The arms' short names."""
        return [chr(ord("A") + place) if place < 26 else f"A{place}" for place in range(len(self.arms))]


def mean_of(values: Float[np.ndarray, " R"]) -> Mean:
    """R >= 1 values."""
    count, mean = len(values), float(np.mean(values))
    half = math.inf if count < 2 else float(stats.t.ppf((1 + LEVEL) / 2, count - 1) * stats.sem(values))
    return Mean(mean, mean - half, mean + half, count)


def paired_difference(first: Float[np.ndarray, " R"], second: Float[np.ndarray, " R"]) -> Difference:
    """Of repetitions with the same seeds: Student's t on the differences."""
    gaps, count = second - first, len(first)
    deviation = float(np.std(gaps, ddof=1)) if count > 1 else 0.0
    effect = float(gaps.mean()) / deviation if deviation > SAME else math.nan
    return _tested(gaps.mean(), deviation / math.sqrt(count), count - 1, effect, needed(effect), True, count)


def unpaired_difference(first: Float[np.ndarray, " R"], second: Float[np.ndarray, " S"]) -> Difference:
    """Of repetitions with different seeds: Welch's t."""
    count = min(len(first), len(second))
    shares = [float(np.var(arm, ddof=1)) / len(arm) if len(arm) > 1 else 0.0 for arm in (first, second)]
    error = math.sqrt(sum(shares))
    if count < 2 or error <= SAME:
        return _tested(second.mean() - first.mean(), 0.0, 0, math.nan, None, False, count)
    freedom = sum(shares) ** 2 / sum(s**2 / (len(arm) - 1) for s, arm in zip(shares, (first, second), strict=True))
    effect = float(second.mean() - first.mean()) / math.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2)
    each = needed(effect, arms=2)
    return _tested(second.mean() - first.mean(), error, freedom, effect, each, False, count)


def _tested(
    mean: float, error: float, freedom: float, effect: float, each: int | None, paired: bool, count: int
) -> Difference:
    """error: standard error of the mean; with (almost) none, as of one repetition, nothing is known about how sure it is."""
    if error <= SAME:
        return Difference(float(mean), -math.inf, math.inf, math.nan, math.nan, None, paired, count)
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom))
    return Difference(float(mean), float(mean) - half, float(mean) + half, p, effect, each, paired, count)


def needed(effect: float, *, arms: int = 1) -> int | None:
    """Repetitions for a t test at 5 % to find an effect with probability POWER; None if more than MOST.

    effect: d_z of a paired test (arms=1), or d of one of two independent arms (arms=2), which each need as many.
    """
    if not math.isfinite(effect) or effect == 0 or _power(effect, MOST, arms) < POWER:
        return None
    low, high = 2, MOST
    while low < high:  # the least that suffices
        middle = (low + high) // 2
        low, high = (low, middle) if _power(effect, middle, arms) >= POWER else (middle + 1, high)
    return high


def _power(effect: float, count: int, arms: int) -> float:
    """That a two-sided t test at 5 % over `count` repetitions an arm finds the effect: by the noncentral t distribution."""
    freedom = arms * (count - 1)
    critical = stats.t.ppf((1 + LEVEL) / 2, freedom)
    return float(stats.nct.sf(critical, freedom, abs(effect) * math.sqrt(count / arms)))
