"""Learning a checklist's weights from people's preferences between pairs.

P(a preferred to b) = sigmoid(w . (answers_a - answers_b)), w >= 0: logistic regression on the difference of a pair's
answers, without intercept (arXiv 2412.21059, section 2.3). A tie counts as half a preference each way.

Shapes: P pairs, Q questions, R <= Q directions in which the pairs differ at all, G groups. An axis with an underscore
(_Q) comes from the caller: the function checks it and says what is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int
from scipy import stats
from scipy.optimize import minimize
from scipy.special import expit, log_expit
from sklearn.model_selection import GroupKFold

from reward.checklist import Checklist
from reward.errors import RewardError

Method = Literal["exact", "projected"]
L2_GRID = tuple(float(10.0**k) for k in np.arange(-6, 0.5, 0.5))
MAX_PASSES = 20_000
MAX_NEWTON_STEPS = 100
NUM_FOLDS = 5  # of the cross-validation


@dataclass(frozen=True)
class FittedWeights:
    """Weights of all questions, gates included (0), in the checklist's order."""

    checklist: Checklist  # with these weights
    weights: Float[np.ndarray, " Q"]  # >= 0
    low: Float[np.ndarray, " Q"]  # lower ends of the 95 % intervals, >= 0
    high: Float[np.ndarray, " Q"]  # upper ends; infinite if the pairs say nothing about a question
    l2: float
    num_pairs: int
    num_ties: int
    cv_accuracy: float  # of pairs that are not ties, in folds that the fit had not seen
    cv_log_loss: float
    log_loss_by_l2: dict[float, float]  # what l2 was chosen by


def fit(
    differences: Float[np.ndarray, "P Q"],
    preferred: Float[np.ndarray, " P"],
    *,
    l2: float = 0.0,
    method: Method | str = "exact",
    scale: Float[np.ndarray, " Q"] | None = None,
) -> Float[np.ndarray, " Q"]:
    """Differences of answers and preferences (1 = first, 0 = second, 1/2 = tie) -> weights >= 0.

    Minimises mean cross-entropy + l2 / 2 |w / scale|^2 over w >= 0, which is convex. method: "exact" = scipy's bounded
    L-BFGS; "projected" = passes of gradient descent over all pairs, negative weights set to 0 after each, as the paper
    describes: it goes to the same weights, and stops there or after 20,000 passes. scale: each weight's unit in the penalty; None = 1.
    """
    _check_method(method)
    scale = np.ones(differences.shape[1]) if scale is None else scale
    x = differences * scale

    def loss_and_gradient(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = x @ w
        loss = -(preferred * log_expit(z) + (1 - preferred) * log_expit(-z)).mean() + l2 / 2 * w @ w
        return float(loss), x.T @ (expit(z) - preferred) / len(x) + l2 * w

    start = np.zeros(x.shape[1])
    if method == "exact":
        options = {"maxiter": 5000, "ftol": 1e-14, "gtol": 1e-9}
        found = minimize(
            loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start), options=options
        )
        return found.x * scale
    step = 1 / (np.linalg.eigvalsh(x.T @ x / len(x))[-1] / 4 + l2 + 1e-12)  # 1 / Lipschitz constant of the gradient
    w = start
    for _ in range(MAX_PASSES):
        previous, w = w, np.maximum(w - step * loss_and_gradient(w)[1], 0)
        if abs(w - previous).max() < 1e-9:
            break
    return w * scale


def check_fit(num_groups: int, method: Method | str = "exact", num_folds: int = NUM_FOLDS) -> None:
    """Raises RewardError for what `fit_weights` could not do, before anything is judged: an unknown method, fewer groups than folds."""
    _check_method(method)
    if num_groups < num_folds:
        raise RewardError(
            f"{num_groups} group{'s' * (num_groups != 1)} of pairs (those about one prompt) are too few for {num_folds} folds; give preferences about at least {num_folds} prompts"
        )


def _check_method(method: Method | str) -> None:
    if method not in get_args(Method):
        raise RewardError(f"method={method!r} is unknown; methods: {', '.join(get_args(Method))}")


def fit_weights(
    checklist: Checklist,
    answers_a: Float[np.ndarray, "_P _Q"],
    answers_b: Float[np.ndarray, "_P _Q"],
    preferred: Float[np.ndarray, " P"],
    *,
    groups: Sequence[str] | None = None,
    l2: float | None = None,
    method: Method | str = "exact",
    num_folds: int = NUM_FOLDS,
    name: str | None = None,
) -> FittedWeights:
    """Learns weights with the regularisation that predicts best, and how certain each is (see `weight_intervals`).

    answers_a, answers_b: as in `Scores.answers`. preferred: 1 = a, 0 = b, 1/2 = tie. groups: pairs of one group (a
    prompt) are not independent and stay together in folds and intervals; None = each pair by itself. l2: None = by
    cross-validation over `L2_GRID`. name: of the checklist with the learnt weights; None = the old name with "-fitted".
    Raises RewardError if shapes, values or the number of groups do not allow a fit.
    """
    differences, preferred = _checked(checklist, answers_a, answers_b, preferred)
    group = np.unique(list(groups) if groups is not None else np.arange(len(preferred)), return_inverse=True)[1]
    check_fit(int(group.max()) + 1, method, num_folds)
    weighted = np.array([not q.gate for q in checklist])
    x = differences[:, weighted]
    scale = _scale(x, np.array([q.is_number for q in checklist if not q.gate]))

    grid = L2_GRID if l2 is None else (l2,)
    held_out = {value: _cross_validated(x, preferred, group, value, method, scale, num_folds) for value in grid}
    losses = {value: _log_loss(z, preferred) for value, z in held_out.items()}
    best = min(losses, key=lambda value: (losses[value], -value))
    decided = preferred != 0.5
    correct = np.sign(held_out[best][decided]) == np.sign(preferred[decided] - 0.5)

    weights, low, high = (np.zeros(len(checklist.questions)) for _ in range(3))
    weights[weighted] = fit(x, preferred, l2=best, method=method, scale=scale)
    low[weighted], high[weighted] = weight_intervals(x, preferred, group)
    low, high = np.minimum(low, weights), np.maximum(high, weights)  # the penalty may have pulled a weight outside
    fitted = checklist.weighted(weights, name=name or f"{checklist.name}-fitted")
    return FittedWeights(
        checklist=fitted,
        weights=weights,
        low=low,
        high=high,
        l2=best,
        num_pairs=len(preferred),
        num_ties=int((~decided).sum()),
        cv_accuracy=float(correct.mean()) if decided.any() else float("nan"),
        cv_log_loss=losses[best],
        log_loss_by_l2=losses,
    )


def weight_intervals(
    differences: Float[np.ndarray, "P Q"], preferred: Float[np.ndarray, " P"], group: Int[np.ndarray, " P"]
) -> tuple[Float[np.ndarray, " Q"], Float[np.ndarray, " Q"]]:
    """Lower and upper ends of each weight's 95 % interval, cut off at 0.

    They lie around Firth's estimate, which needs no penalty and has little bias, so the intervals are not narrowed
    by shrinkage or by weights that stick at 0. Standard errors are those of the jackknife that leaves out a group at a
    time, with Student's t of G - 1 degrees of freedom: the choice that held up best in MacKinnon,
    Nielsen and Webb, "Cluster-robust inference: A guide to empirical practice", J. Econometrics 232 (2023).
    Infinite upper end: the pairs say nothing about the question (all its differences are 0) or cannot tell it from
    others. group: 0, 1, …, at least two of them.
    """
    num_groups = int(group.max()) + 1
    if num_groups < 2:
        raise RewardError(
            f"{num_groups} group of pairs; intervals need at least two, so give preferences on more prompts"
        )
    unit = _unit(differences)
    alike = differences / unit
    strength, axes = np.linalg.eigh(alike.T @ alike / len(alike))
    told = strength > 1e-9 * max(strength[-1], 1e-9)
    x = alike @ axes[:, told]  # (P, R), of full rank
    estimate, p, covariance = _firth(x, preferred)
    # Leaving out a group moves the estimate by this much, to first order; the middle matrix is its leverage.
    root = np.sqrt(p * (1 - p))
    scaled, residual = x * root[:, None], (preferred - p) / root
    moves = np.empty((num_groups, x.shape[1]))
    for g, rows in enumerate(_rows_of(group)):
        own = scaled[rows]
        # Just below 1: the leverage of a group that alone determines a direction, whose interval gets huge.
        leverage = (1 - 1e-9) * own @ covariance @ own.T
        moves[g] = covariance @ own.T @ np.linalg.solve(np.eye(len(own)) - leverage, residual[rows])
    moves = moves @ axes[:, told].T  # (G, Q)
    error = np.sqrt((moves**2).sum(axis=0) * (num_groups - 1) / num_groups)
    middle, reach = axes[:, told] @ estimate, stats.t.ppf(0.975, num_groups - 1) * error
    untold = (axes[:, ~told] ** 2).sum(axis=1) > 1e-6
    low, high = np.maximum(middle - reach, 0) / unit, np.maximum(middle + reach, 0) / unit
    return np.where(untold, 0.0, low), np.where(untold, np.inf, high)


def _firth(
    x: Float[np.ndarray, "P R"], preferred: Float[np.ndarray, " P"]
) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, " P"], Float[np.ndarray, "R R"]]:
    """Firth's estimate (Biometrika 80, 1993), its probabilities, and the inverse of the information. It is finite
    even if the pairs can be separated perfectly, unlike maximum likelihood. x must have full rank, and columns of
    about the same size, which the length of a step is in.
    """
    w = np.zeros(x.shape[1])
    for _ in range(MAX_NEWTON_STEPS):
        p, covariance = _fisher(x, w)
        leverage = p * (1 - p) * ((x @ covariance) * x).sum(axis=1)
        step = covariance @ (x.T @ (preferred - p + leverage * (0.5 - p)))
        w = w + step / max(1.0, abs(step).max(initial=0.0))  # at most 1 at a time: far steps overshoot
        if abs(step).max(initial=0.0) < 1e-8:
            break
    return w, *_fisher(x, w)


def _fisher(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P,) probabilities, and the (R, R) inverse of the information."""
    p = expit(x @ w)
    return p, np.linalg.inv(x.T @ (x * (p * (1 - p))[:, None]))


def _rows_of(group: np.ndarray) -> list[np.ndarray]:
    """The rows of group 0, 1, …"""
    return np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])


def _checked(
    checklist: Checklist, a: np.ndarray, b: np.ndarray, preferred: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    a, b, preferred = (np.asarray(each, dtype=np.float64) for each in (a, b, preferred))
    expected = (len(preferred), len(checklist.questions))
    if not len(preferred):
        raise RewardError("there are no preferences to learn from; give at least one")
    if a.shape != expected or b.shape != expected:
        raise RewardError(
            f"answers have shapes {a.shape} and {b.shape}; {len(preferred)} preferences on checklist {checklist.name!r} need {expected}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        row = int(np.flatnonzero(~(np.isfinite(a) & np.isfinite(b)).all(axis=1))[0])
        raise RewardError(f"pair {row} has an answer that is not finite; leave out pairs that were not scored")
    if not np.isin(preferred, (0.0, 0.5, 1.0)).all():
        row = int(np.flatnonzero(~np.isin(preferred, (0.0, 0.5, 1.0)))[0])
        raise RewardError(f"preferred[{row}]={preferred[row]}; use 1 (first), 0 (second) or 0.5 (tie)")
    return a - b, preferred


def _unit(x: np.ndarray) -> np.ndarray:
    """(Q,) the root mean square of each question's differences; 1 where there are none."""
    rms = np.sqrt((x**2).mean(axis=0))
    return np.where(rms > 0, rms, 1.0)


def _scale(x: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Answers that are a number differ by less than 2, or by any amount: without its own unit, the penalty would hit such a question harder, or not at all."""
    yes_no = ~number & (x != 0).any(axis=0)
    unit = _unit(x)
    typical = unit[yes_no].mean() if yes_no.any() else 1.0
    return np.where(number, typical / unit, 1.0)


def _log_loss(z: np.ndarray, preferred: np.ndarray) -> float:
    return float(-(preferred * log_expit(z) + (1 - preferred) * log_expit(-z)).mean())


def _cross_validated(x, preferred, group, l2: float, method: Method | str, scale, num_folds: int) -> np.ndarray:
    """(P,) w . difference of each pair, by a fit that did not see its group."""
    z = np.empty(len(x))
    for seen, unseen in GroupKFold(num_folds).split(x, groups=group):
        z[unseen] = x[unseen] @ fit(x[seen], preferred[seen], l2=l2, method=method, scale=scale)
    return z
