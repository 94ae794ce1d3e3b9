"""Do the 95 % intervals of learnt weights hold the true weight 95 times in 100? On simulated people.

    python -m benchmarks.weights_coverage

Each prompt has a few pictures, and people compare every two of them. What they like about a picture beyond its answers
goes along into each of its pairs (Gumbel noise on a picture makes the choice between two exactly logistic), so pairs of a
prompt are not independent. Answers are correlated too: a better picture passes more questions, and a part's levels go
together. The true weights are the published ones, about half of which are 0.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit

from reward import Checklist, load_checklist
from reward.score import score_answers
from reward.weights import weight_intervals

SHARPNESS = {"image": 1.3, "video": 0.5}  # published weights times this: no weights predict more than 82 % of choices
SMALL = 0.1  # true weights below are small: a yes adds less than 0.2 to the log-odds


@dataclass(frozen=True)
class Coverage:
    """Shares of intervals that hold the true weight, and how wide intervals are."""

    of_all: float
    of_zero: float
    of_small: float
    of_large: float
    least: float  # of any single weight
    median_width: float
    num_trials: int

    def __str__(self) -> str:
        shares = (self.of_all, self.of_zero, self.of_small, self.of_large, self.least, self.median_width)
        return "  ".join(f"{share:6.3f}" for share in shares)


def simulated_prompts(
    checklist: Checklist, weights: np.ndarray, num_pairs: int, per_prompt: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "P Q"], Float[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """Differences of answers, choices (1 or 0) and each pair's prompt: per_prompt pictures each, all their pairs."""
    first, second = np.triu_indices(per_prompt, k=1)
    num_prompts = -(-num_pairs // len(first))
    levels = [len(sub.questions) for sub in checklist.subdimensions]

    def of_pictures(num_qualities: int) -> np.ndarray:
        of_prompt = 0.5 * rng.normal(size=(num_prompts, num_qualities))  # some prompts are easier
        own = rng.normal(size=(num_prompts * per_prompt, num_qualities))
        return np.repeat(of_prompt, per_prompt, axis=0) + own

    parts = np.repeat(of_pictures(len(levels)), levels, axis=1)
    strictness = np.concatenate([np.linspace(1.0, -1.0, count) for count in levels])
    p_yes = expit(2 * (0.7 * of_pictures(1) + 0.7 * parts - strictness) + rng.normal(size=parts.shape))
    answers = score_answers(p_yes, checklist).answers
    liking = answers @ weights + rng.gumbel(size=len(answers))
    prompt = np.repeat(np.arange(num_prompts), len(first))[:num_pairs]
    pair = np.tile(np.stack([first, second]), num_prompts)[:, :num_pairs] + prompt * per_prompt
    a, b = np.where(rng.random(num_pairs) < 0.5, pair, pair[::-1])
    return answers[a] - answers[b], (liking[a] > liking[b]).astype(float), prompt


def coverage(kind: str, num_pairs: int, per_prompt: int, *, num_trials: int, seed: int = 0) -> Coverage:
    """Over simulated data sets; trial i has the seed (seed, i)."""
    checklist = load_checklist(kind)
    scored = np.array([not question.gate for question in checklist])
    weights = checklist.weights * SHARPNESS[kind]
    truth = weights[scored]
    inside, widths = [], []
    for trial in range(num_trials):
        rng = np.random.default_rng((seed, trial))
        differences, preferred, prompt = simulated_prompts(checklist, weights, num_pairs, per_prompt, rng)
        low, high = weight_intervals(differences[:, scored], preferred, prompt)
        inside.append((low <= truth) & (truth <= high))
        widths.append(high - low)
    share = np.mean(inside, axis=0)
    return Coverage(
        of_all=share.mean(),
        of_zero=share[truth == 0].mean(),
        of_small=share[(truth > 0) & (truth < SMALL)].mean(),
        of_large=share[truth >= SMALL].mean(),
        least=share.min(),
        median_width=float(np.median(widths)),
        num_trials=num_trials,
    )


def main() -> None:
    print("checklist  pairs  pictures a prompt     all    zero   small   large  least   width")
    for kind in ("image", "video"):
        for num_pairs in (300, 1000, 3000):
            for per_prompt in (2, 3, 4):
                found = coverage(kind, num_pairs, per_prompt, num_trials=200)
                print(f"{kind:9s}  {num_pairs:5d}  {per_prompt:17d}  {found}", flush=True)


if __name__ == "__main__":
    main()
