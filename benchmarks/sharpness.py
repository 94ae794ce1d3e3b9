"""Fits what the measured judge's sharpness is made of, and the threshold for smears: `python -m benchmarks.sharpness`. Minutes.

The ratio of fine to coarse energy of the gradient, in the direction that has least of the finest, is the measure; the shares of the two
other energies and the threshold of each question are those of one logistic regression on all pictures of known blur that are
no examination's: `calibration_set`, `calibration_defects`, `heldout_set` and the first blind set, which has become one of them.
Prints shares and thresholds in units of the ratio, and the balanced accuracy on pictures that a fold leaves out. The judge has -0.34 and 0.1,
of a first fit on somewhat other pictures, and thresholds that were then moved together with the discounts for harm; this now finds -0.38 and 0.12.

Smears have a measure and a condition of their own (`damage.unsmeared`). Its threshold is where `clarity_1` of the judge as it is, with the other conditions
unchanged, answers best on these sets and on `calibration_smears`: between -1.8 and -1.5 it hardly matters. Refitted into one measure with what sharpness is
made of, it took smooth photographs and single things for blurred, and grain then paid.
"""

from collections.abc import Iterator

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from benchmarks import blind_pictures, calibration_defects, calibration_set, calibration_smears, heldout_set
from benchmarks.calibration_set import Case
from reward import Clip
from reward.judges import damage
from reward.judges.damage import log_energies
from reward.judges.measured import PICTURE_RULES
from reward.judges.picture import Picture

QUESTIONS = ("clarity_1", "clarity_2", "clarity_3", "clarity_4")
FOLD = 60  # cases: those of a picture follow one another


def cases() -> Iterator[tuple[str, Case]]:
    """Name of a set, case."""
    sets = {
        "calibration": calibration_set,
        "defects": calibration_defects,
        "held out": heldout_set,
        "blind": blind_pictures,
    }
    for name, module in sets.items():
        yield from ((name, case) for case in module.cases() if case.question_id in QUESTIONS)


def smears() -> None:
    """Prints, for thresholds of `unsmeared`, the share of right answers among sharp pictures and among blurred ones."""
    rule = {each.measure: each for each in PICTURE_RULES["clarity_1"]}
    sharpness, pitch = rule["sharpness"], rule["block_pitch"]
    rows: dict[str, list[tuple[bool, bool, float]]] = {}
    last, of_last = None, (False, 0.0)
    for name, case in (*cases(), *(("smears", case) for case in calibration_smears.cases())):
        if case.question_id != "clarity_1":
            continue
        assert not isinstance(case.media, Clip)
        if case.media is not last:  # cases of one picture follow one another
            picture = Picture(case.media)
            holds = sharpness.p_yes(damage.sharpness(picture), damage.harm_beside_blur(picture)) >= 0.5
            last, of_last = (
                case.media,
                (holds and damage.block_pitch(picture) <= pitch.threshold, damage.unsmeared(picture)),
            )
        rows.setdefault(name, []).append((case.truth, *of_last))
    for threshold in (-9.0, -2.0, -1.8, -1.7, -1.65, -1.6, -1.5, -1.3):
        shares = []
        for name, each in rows.items():
            truth, holds, value = (np.array(column) for column in zip(*each, strict=True))
            said = holds & (value >= threshold)
            shares.append(f"{name} {said[truth].mean():.3f} / {(~said[~truth]).mean():.3f}")
        print(f"unsmeared from {threshold:5.2f}: {', '.join(shares)}")


def main() -> None:
    energies, levels, truths, sets = [], [], [], []
    for name, case in cases():
        assert not isinstance(case.media, Clip)
        energies.append(log_energies(Picture(case.media)))
        levels.append([case.question_id == question for question in QUESTIONS])
        truths.append(case.truth)
        sets.append(name)
    x, truth, of = np.hstack([energies, np.array(levels, float)]), np.array(truths), np.array(sets)
    level = np.argmax(levels, axis=1)
    weights = np.zeros(len(truth))
    for name in np.unique(of):  # each set, question and answer counts the same
        for k in range(len(QUESTIONS)):
            for answer in (True, False):
                cell = (of == name) & (level == k) & (truth == answer)
                weights[cell] = 1 / max(cell.sum(), 1)
    weights *= len(weights) / weights.sum()
    model = LogisticRegression(C=30, max_iter=5000, fit_intercept=False)
    folds = np.arange(len(truth)) // FOLD
    unseen = cross_val_predict(model, x, truth, groups=folds, cv=GroupKFold(6), params={"sample_weight": weights})
    found = model.fit(x, truth, sample_weight=weights).coef_[0]
    print("shares:", ", ".join(f"{share:.3f}" for share in found[:3] / found[0]), f"scale: {1 / found[0]:.3f}")
    for k, question in enumerate(QUESTIONS):
        accuracies = ", ".join(
            f"{name} {balanced_accuracy_score(truth[cell], unseen[cell]):.3f}"
            for name in np.unique(of)
            if (cell := (of == name) & (level == k)).any()
        )
        print(f"{question}: threshold {-found[3 + k] / found[0]:.3f}; {accuracies}")


if __name__ == "__main__":
    main()
    smears()
