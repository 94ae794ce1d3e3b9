"""How far the measured judge can be trusted: `python -m benchmarks.measured_judge [--fit]`.

Prints, for each question, its accuracy on the examination set (and on the calibration set), and how often its
probability of yes falls as the degradation grows. `--fit` prints the threshold that separates the calibration
set best for each question with a single measure.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from benchmarks import calibration_set, heldout_set
from benchmarks.calibration_set import Case
from reward import load_checklist
from reward.judges import measures
from reward.judges.measured import RULES, MeasuredJudge


def judge(cases: Iterable[Case]) -> dict[str, list[tuple[Case, float]]]:
    """Each case beside the judge's p_yes, by question."""
    judge, questions = MeasuredJudge(), {q.id: q for q in load_checklist("image")}
    judged = defaultdict(list)
    for case in cases:
        p_yes = judge.answer([case.media], [case.prompt], [questions[case.question_id]])[0, 0]
        judged[case.question_id].append((case, float(p_yes)))
    return judged


def accuracy(judged: list[tuple[Case, float]]) -> float:
    """Balanced: the mean of the accuracy on the yes cases and on the no cases."""
    right = {
        truth: np.mean([(p >= 0.5) == truth for case, p in judged if case.truth == truth]) for truth in (True, False)
    }
    return float((right[True] + right[False]) / 2)


def monotone_share(judged: list[tuple[Case, float]]) -> float:
    """Share of series (their cases averaged by amount) along which p_yes never rises by more than 0.05."""
    by_series = defaultdict(lambda: defaultdict(list))
    for case, p_yes in judged:
        by_series[case.series][case.amount].append(p_yes)
    means = [[np.mean(series[amount]) for amount in sorted(series)] for series in by_series.values()]
    return float(np.mean([np.all(np.diff(m) <= 0.05) for m in means]))


def fit(cases: Iterable[Case]) -> None:
    values = defaultdict(list)
    for case in cases:
        rule = RULES.get(case.question_id, ())
        if len(rule) == 1:
            value = getattr(measures, rule[0].measure)(measures.working_pixels(case.media))
            values[case.question_id].append((value if rule[0].at == "least" else -value, case.truth))
    for question_id, pairs in values.items():
        x, truth = np.array([v for v, _ in pairs]), np.array([t for _, t in pairs])
        grid = np.unique(x[np.isfinite(x)])
        middles = (grid[1:] + grid[:-1]) / 2
        share_right = (
            np.array(
                [((x >= t) & truth).sum() / truth.sum() + ((x < t) & ~truth).sum() / (~truth).sum() for t in middles]
            )
            / 2
        )
        best = middles[share_right >= share_right.max() - 1e-9]
        sign = 1 if RULES[question_id][0].at == "least" else -1
        print(
            f"{question_id:24s} now {RULES[question_id][0].threshold:7.3f}  best {sign * best.min():7.3f} to {sign * best.max():7.3f}  accuracy {share_right.max():.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", action="store_true")
    if parser.parse_args().fit:
        fit(calibration_set.cases())
        return
    calibrated, examined = judge(calibration_set.cases()), judge(heldout_set.cases())
    print(f"{'question':24s} {'cases':>6s} {'accuracy':>9s} {'monotone':>9s} {'calibration':>12s}")
    for question_id, judged in examined.items():
        known = f"{accuracy(calibrated[question_id]):12.3f}" if question_id in calibrated else f"{'none':>12s}"
        print(f"{question_id:24s} {len(judged):6d} {accuracy(judged):9.3f} {monotone_share(judged):9.2f} {known}")
    print(f"{'mean':24s} {'':6s} {np.mean([accuracy(j) for j in examined.values()]):9.3f}")


if __name__ == "__main__":
    main()
