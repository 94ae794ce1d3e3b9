"""How many preferences do the weights need? The paper's ablation (its table on HPDv2-test), on simulated people.

    python -m benchmarks.weights

Answers are simulated: each picture has a quality, and a better one passes stricter levels more often. People prefer by
the published weights, with noise such that no weights could predict more than about 82 % of their choices.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from reward import Checklist, load_checklist
from reward.score import score_answers
from reward.weights import fit

PAPER = {200: 77.6, 500: 80.3, 1000: 80.6, 2000: 80.9, 4000: 81.3, 8000: 81.3}
SHARPNESS = 1.3  # of people's choices: the published weights' gap times this is their log-odds
NUM_TEST_PAIRS = 4000


def simulated_pairs(checklist: Checklist, num_pairs: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(P, Q) differences of answers and (P,) preferences."""
    answers = []
    for _ in range(2):
        quality = rng.normal(size=(num_pairs, 1))
        of_part = np.repeat(
            rng.normal(size=(num_pairs, len(checklist.subdimensions))),
            [len(sub.questions) for sub in checklist.subdimensions],
            axis=1,
        )
        strictness = np.concatenate([np.linspace(1.0, -1.0, len(sub.questions)) for sub in checklist.subdimensions])
        p_yes = expit(2 * (0.7 * quality + 0.7 * of_part - strictness) + rng.normal(size=of_part.shape))
        answers.append(score_answers(p_yes, checklist).answers)
    differences = answers[0] - answers[1]
    preferred = rng.random(num_pairs) < expit(SHARPNESS * differences @ checklist.weights)
    return differences, preferred.astype(float)


def accuracies(sizes: Sequence[int], *, num_trials: int, l2: float = 0.01) -> list[float]:
    """Mean share of unseen choices that weights learnt from each number of pairs predict."""
    checklist = load_checklist("image")
    means = []
    for size in sizes:
        shares = []
        for trial in range(num_trials):
            rng = np.random.default_rng(trial)
            test_x, test_y = simulated_pairs(checklist, NUM_TEST_PAIRS, rng)
            x, y = simulated_pairs(checklist, size, rng)
            shares.append(((test_x @ fit(x, y, l2=l2) > 0) == test_y).mean())
        means.append(float(np.mean(shares)))
    return means


def main() -> None:
    sizes = list(PAPER)
    print("pairs   simulated   paper (HPDv2-test)")
    for size, share in zip(sizes, accuracies(sizes, num_trials=10), strict=True):
        print(f"{size:5d}   {100 * share:9.1f}   {PAPER[size]:.1f}")
    checklist = load_checklist("image")
    x, y = simulated_pairs(checklist, 40_000, np.random.default_rng(99))
    print(f"the planted weights themselves: {100 * ((x @ checklist.weights > 0) == y).mean():.1f}")


if __name__ == "__main__":
    main()
