"""How far the measured judge can be trusted: `python -m benchmarks.measured_judge [--kind video] [--fit | --blind [first|second|third]]`.

Prints, for each question, its balanced accuracy on the held-out set (`heldout_set`, which has set thresholds
since it examined; of clips `heldout_clips`), with the numbers of yes and no cases, and on the calibration set, and how often its
probability of yes falls as the degradation grows; for clips also the series of cases that are judged worst. `--fit` prints the threshold of each measure that separates the calibration set best. `--blind`
prints a blind examination instead, the second (`second_blind_pictures`), the first (`blind_pictures`) or the third
(`third_blind_pictures`, which asks about blur and roughness only): each question, what is judged worst, straight smears, whether totals rise under defects, and the time taken.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from time import perf_counter

import numpy as np

from benchmarks import (
    blind_pictures,
    calibration_clips,
    calibration_set,
    heldout_clips,
    heldout_set,
    second_blind_pictures,
    third_blind_pictures,
)
from benchmarks.blind_pictures import Series
from benchmarks.calibration_set import Case
from reward import Clip, VisionReward, load_checklist
from reward.checklist import Kind
from reward.judges import clip_measures
from reward.judges.measured import RULES, Condition, MeasuredJudge
from reward.judges.picture import Picture
from reward.media import Media

CALIBRATION = {"image": calibration_set.cases, "video": calibration_clips.cases}
EXAMINATION = {"image": heldout_set.cases, "video": heldout_clips.cases}
BLIND = {"first": blind_pictures, "second": second_blind_pictures, "third": third_blind_pictures}
Judged = list[tuple[Case, float]]  # each case with the judge's p_yes


def judge(cases: Iterable[Case], kind: Kind) -> dict[str, Judged]:
    """Each case that it can answer beside the judge's p_yes, by question."""
    judge, questions = MeasuredJudge(), {q.id: q for q in load_checklist(kind)}
    cases = (case for case in cases if judge.can_answer(questions[case.question_id], kind))
    judged = defaultdict(list)
    # Consecutive cases of one item are judged at one look.
    for _, group in groupby(cases, key=lambda case: (id(case.media), case.prompt)):
        same = list(group)
        answers = judge.answer([same[0].media], [same[0].prompt], [questions[case.question_id] for case in same])[0]
        for case, p_yes in zip(same, answers, strict=True):
            judged[case.question_id].append((case, float(p_yes)))
    return judged


def accuracy(judged: Judged) -> float:
    """Balanced: the mean of the accuracy on the yes cases and on the no cases."""
    right = {
        truth: np.mean([(p >= 0.5) == truth for case, p in judged if case.truth == truth]) for truth in (True, False)
    }
    return float((right[True] + right[False]) / 2)


def counts(judged: Judged) -> tuple[int, int]:
    """How many cases should be answered yes, and how many no."""
    num_yes = sum(case.truth for case, _ in judged)
    return num_yes, len(judged) - num_yes


def monotone_share(judged: Judged) -> float:
    """Share of series (their cases averaged by amount) along which p_yes never rises by more than 0.05."""
    by_series = defaultdict(lambda: defaultdict(list))
    for case, p_yes in judged:
        by_series[case.series][case.amount].append(p_yes)
    means = [[np.mean(series[amount]) for amount in sorted(series)] for series in by_series.values()]
    return float(np.mean([np.all(np.diff(m) <= 0.05) for m in means]))


def worst_series(examined: dict[str, Judged]) -> list[tuple[float, int, str, str, bool]]:
    """(share right, cases, question, series, truth) of what is right less than nine times in ten, worst first."""
    right = defaultdict(list)
    for question_id, judged in examined.items():
        for case, p_yes in judged:
            right[question_id, case.series, case.truth].append((p_yes >= 0.5) == case.truth)
    rows = [(float(np.mean(each)), len(each), *key) for key, each in right.items()]
    return sorted(row for row in rows if row[0] < 0.9)


def still_sharp(
    sharp: Sequence[Media], lengths: Sequence[float] = (0.03, 0.06, 0.12)
) -> dict[tuple[str, float], list[int]]:
    """(direction, share of the side) -> how many of these pictures get a yes to clarity_1, _2 and _3 after such a straight smear."""
    judge, rng = MeasuredJudge(), np.random.default_rng(0)  # a smear draws nothing
    questions = [q for q in load_checklist("image") if q.id in ("clarity_1", "clarity_2", "clarity_3")]
    found = {}
    for name in blind_pictures.MOTION:
        smear = blind_pictures.DEFECTS[name].apply
        for length in lengths:
            smeared = [blind_pictures.to_image(smear(np.asarray(image) / 255.0, length, rng)) for image in sharp]
            answers = judge.answer(smeared, [""] * len(smeared), questions)
            found[name, length] = (answers >= 0.5).sum(axis=0).tolist()
    return found


def sharp_pictures(examined: dict[str, Judged]) -> list[Media]:
    """The pictures of an examination that have no defect and are perfectly sharp."""
    return [case.media for case, _ in examined["clarity_1"] if case.truth and case.series == "none"]


def print_worst(examined: dict[str, Judged]) -> None:
    print("right less than nine times in ten")
    for share, count, question_id, series, truth in worst_series(examined):
        print(f"{share:6.2f} of {count:4d}  {question_id:26s} {'yes' if truth else 'no':3s}  {series}")


def totals(series: Iterable[Series]) -> dict[str, np.ndarray]:
    """Defect -> totals without alignment (pictures, strengths 0 to 5), as shares of the total's range."""
    reward = VisionReward("measured", "image", questions="answerable").without_alignment()
    span = 2 * reward.checklist.weights.sum()
    found = defaultdict(list)
    for each in series:
        found[each.defect].append(reward.score(list(each.images), "").total / span)
    return {defect: np.stack(rows) for defect, rows in found.items()}


def largest_rise(totals: np.ndarray) -> np.ndarray:
    """(..., strengths) -> (...): by how much a total exceeds what it was at any lesser strength; 0 if it never does."""
    return (totals - np.minimum.accumulate(totals, axis=-1)).max(axis=-1)


def milliseconds(side: int, repeats: int = 30) -> float:
    """The median time of all answers but alignment about one picture of that side, in milliseconds."""
    image = blind_pictures.to_image(blind_pictures.photograph("officer", side))
    judge = MeasuredJudge()
    questions = [q for q in load_checklist("image") if q.id in RULES["image"]]
    taken = []
    for _ in range(repeats):
        start = perf_counter()
        judge.answer([image], [""], questions)
        taken.append(perf_counter() - start)
    return float(np.median(taken) * 1000)


def examine_blind(name: str) -> None:
    pictures = BLIND[name]
    examined = judge(pictures.cases(), "image")
    print(f"{'question':26s} {'yes':>5s} {'no':>5s} {'accuracy':>9s} {'of yes':>7s} {'of no':>7s}")
    for question_id, judged in examined.items():
        num_yes, num_no = counts(judged)
        sides = [np.mean([(p >= 0.5) == truth for case, p in judged if case.truth == truth]) for truth in (True, False)]
        print(f"{question_id:26s} {num_yes:5d} {num_no:5d} {accuracy(judged):9.3f} {sides[0]:7.3f} {sides[1]:7.3f}")
    print(f"{'mean':26s} {'':11s} {np.mean([accuracy(j) for j in examined.values()]):9.3f}\n")

    print_worst(examined)
    print()
    sharp = sharp_pictures(examined)
    print(f"still called sharp after a straight smear, of {len(sharp)} sharp pictures (clarity_1, _2, _3)")
    for (direction, length), num_sharp in still_sharp(sharp).items():
        print(f"{direction:18s} {length:5.0%}  " + " ".join(f"{count:4d}" for count in num_sharp))
    print()

    found = totals(pictures.series())
    print(
        f"{'defect':18s} {'series':>6s} {'rise > 0.02':>11s} {'largest':>8s} {'of mean':>8s}  mean total at strengths 0 to 5"
    )
    for defect, each in found.items():
        rises, mean = largest_rise(each), each.mean(axis=0)
        print(
            f"{defect:18s} {len(each):6d} {(rises > 0.02).sum():11d} {rises.max():8.3f} {largest_rise(mean):8.3f}  {np.array2string(mean, precision=2)}"
        )
    rises = np.concatenate([largest_rise(each) for each in found.values()])
    print(f"{'all':18s} {len(rises):6d} {(rises > 0.02).sum():11d} {rises.max():8.3f}\n")
    print("milliseconds a picture: " + ", ".join(f"{milliseconds(side):.1f} at {side}" for side in (64, 128, 256, 512)))


def value_of(condition: Condition, media: Media) -> float:
    if isinstance(media, Clip):
        return clip_measures.measure(clip_measures.working_clip(media), condition.measure)
    return clip_measures.take(Picture(media), condition.measure)


def fit(cases: Iterable[Case], kind: Kind) -> None:
    """Prints, for each condition of each question, the range of thresholds that separates the cases best by it alone.

    The conditions of a question with several watch for different defects: none of them separates all series.
    """
    values = defaultdict(list)
    for case in cases:
        for condition in RULES[kind].get(case.question_id, ()):
            value = value_of(condition, case.media)
            values[case.question_id, condition].append((value if condition.at == "least" else -value, case.truth))
    for (question_id, condition), pairs in values.items():
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
        sign = 1 if condition.at == "least" else -1
        low, high = sorted((sign * best.min(), sign * best.max()))
        print(
            f"{question_id:26s} {condition.measure:20s} now {condition.threshold:8.4f}  best {low:8.4f} to {high:8.4f}  accuracy {share_right.max():.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=("image", "video"), default="image")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--blind", nargs="?", choices=(*BLIND,), const="second")
    options = parser.parse_args()
    kind: Kind = options.kind
    if options.blind:
        examine_blind(options.blind)
        return
    if options.fit:
        fit(CALIBRATION[kind](), kind)
        return
    calibrated, examined = judge(CALIBRATION[kind](), kind), judge(EXAMINATION[kind](), kind)
    print(f"{'question':26s} {'yes':>5s} {'no':>5s} {'accuracy':>9s} {'monotone':>9s} {'calibration':>12s}")
    for question_id, judged in examined.items():
        known = f"{accuracy(calibrated[question_id]):12.3f}" if question_id in calibrated else f"{'none':>12s}"
        num_yes, num_no = counts(judged)
        print(
            f"{question_id:26s} {num_yes:5d} {num_no:5d} {accuracy(judged):9.3f} {monotone_share(judged):9.2f} {known}"
        )
    print(f"{'mean':26s} {'':11s} {np.mean([accuracy(j) for j in examined.values()]):9.3f}")
    if kind == "video":
        print()
        print_worst(examined)


if __name__ == "__main__":
    main()
