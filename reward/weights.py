"""Learning a checklist's weights from people's preferences between pairs.

P(a preferred to b) = sigmoid(w . (answers_a - answers_b)), w >= 0: logistic regression on the difference of a pair's
answers, without intercept (arXiv 2412.21059, section 2.3). A tie counts as half a preference each way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit
from sklearn.model_selection import GroupKFold

from reward.checklist import Checklist
from reward.errors import RewardError

Method = Literal["exact", "projected"]
L2_GRID = tuple(float(10.0**k) for k in np.arange(-6, 0.5, 0.5))
MAX_PASSES = 20_000


@dataclass(frozen=True)
class FittedWeights:
    """Weights of all questions, gates included (0), in the checklist's order."""

    checklist: Checklist  # with these weights
    weights: np.ndarray  # (Q,) >= 0
    low: np.ndarray  # (Q,) 2.5 % of the bootstrap
    high: np.ndarray  # (Q,) 97.5 %
    l2: float
    num_pairs: int
    num_ties: int
    cv_accuracy: float  # of pairs that are no tie, in folds that the fit had not seen
    cv_log_loss: float
    log_loss_by_l2: dict[float, float]  # what the choice of l2 rests on


def fit(
    differences: np.ndarray,
    preferred: np.ndarray,
    *,
    l2: float = 0.0,
    method: Method = "exact",
    scale: np.ndarray | None = None,
) -> np.ndarray:
    """(P, Q) differences of answers, (P,) preferences (1 = first, 0 = second, 1/2 = tie) -> (Q,) weights >= 0.

    Minimises mean cross-entropy + l2 / 2 |w / scale|^2 over w >= 0, which is convex. method: "exact" = scipy's bounded
    L-BFGS; "projected" = passes of gradient descent over all pairs, negative weights set to 0 after each, as the paper
    describes: it ends at the same place, later. scale: (Q,) each weight's unit in the penalty; None = 1.
    """
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
    if method != "projected":
        raise RewardError(f"method={method!r} is unknown; methods: {', '.join(get_args(Method))}")
    step = 1 / (np.linalg.eigvalsh(x.T @ x / len(x))[-1] / 4 + l2 + 1e-12)  # 1 / Lipschitz constant of the gradient
    w = start
    for _ in range(MAX_PASSES):
        previous, w = w, np.maximum(w - step * loss_and_gradient(w)[1], 0)
        if abs(w - previous).max() < 1e-9:
            break
    return w * scale


def fit_weights(
    checklist: Checklist,
    answers_a: np.ndarray,
    answers_b: np.ndarray,
    preferred: np.ndarray,
    *,
    groups: Sequence[str] | None = None,
    l2: float | None = None,
    method: Method = "exact",
    num_folds: int = 5,
    num_bootstrap: int = 200,
    seed: int = 0,
    name: str | None = None,
) -> FittedWeights:
    """Learns weights with the regularisation that predicts best, and says how sure each is.

    answers_a, answers_b: (P, Q) as in `Scores.answers`. preferred: (P,) 1 = a, 0 = b, 1/2 = tie. groups: pairs of one
    group (a prompt) stay together in folds and resamples; None = each pair by itself. l2: None = by cross-validation
    over `L2_GRID`. name: of the checklist with the learnt weights; None = the old name with "-fitted".
    Raises RewardError where shapes, values or the number of groups do not allow a fit.
    """
    differences, preferred = _checked(checklist, answers_a, answers_b, preferred)
    group = np.unique(list(groups) if groups is not None else np.arange(len(preferred)), return_inverse=True)[1]
    if group.max() + 1 < num_folds:
        raise RewardError(f"{group.max() + 1} groups of pairs are too few for {num_folds} folds; give more preferences")
    weighted = np.array([not q.gate for q in checklist])
    x = differences[:, weighted]
    scale = _scale(x, checklist.continuous[weighted])

    grid = L2_GRID if l2 is None else (l2,)
    held_out = {value: _cross_validated(x, preferred, group, value, method, scale, num_folds) for value in grid}
    losses = {value: _log_loss(z, preferred) for value, z in held_out.items()}
    best = min(losses, key=lambda value: (losses[value], -value))
    decided = preferred != 0.5
    correct = np.sign(held_out[best][decided]) == np.sign(preferred[decided] - 0.5)

    weights, low, high = (np.zeros(len(checklist.questions)) for _ in range(3))
    weights[weighted] = fit(x, preferred, l2=best, method=method, scale=scale)
    resampled = _bootstrap(x, preferred, group, best, scale, num_bootstrap, seed)
    low[weighted], high[weighted] = np.quantile(resampled, [0.025, 0.975], axis=0)
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


def _checked(
    checklist: Checklist, a: np.ndarray, b: np.ndarray, preferred: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    a, b, preferred = (np.asarray(each, dtype=np.float64) for each in (a, b, preferred))
    expected = (len(preferred), len(checklist.questions))
    if not len(preferred):
        raise RewardError("there are no preferences to learn from; give some")
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


def _scale(x: np.ndarray, continuous: np.ndarray) -> np.ndarray:
    """A continuous question's differences are smaller than 2: without a unit of its own, the penalty would hit it harder."""
    rms = np.sqrt((x**2).mean(axis=0))
    typical = rms[~continuous & (rms > 0)].mean() if (~continuous & (rms > 0)).any() else 1.0
    return np.where(continuous & (rms > 0), typical / np.where(rms > 0, rms, 1.0), 1.0)


def _log_loss(z: np.ndarray, preferred: np.ndarray) -> float:
    return float(-(preferred * log_expit(z) + (1 - preferred) * log_expit(-z)).mean())


def _cross_validated(x, preferred, group, l2: float, method: Method, scale, num_folds: int) -> np.ndarray:
    """(P,) w . difference of each pair, by a fit that saw nothing of its group."""
    z = np.empty(len(x))
    for seen, unseen in GroupKFold(num_folds).split(x, groups=group):
        z[unseen] = x[unseen] @ fit(x[seen], preferred[seen], l2=l2, method=method, scale=scale)
    return z


def _bootstrap(x, preferred, group, l2: float, scale, num_bootstrap: int, seed: int) -> np.ndarray:
    """(B, Q): fits to resamples of whole groups. Exact whatever the method: all methods have one optimum."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(group == g) for g in range(group.max() + 1)]
    fits = []
    for _ in range(num_bootstrap):
        rows = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        fits.append(fit(x[rows], preferred[rows], l2=l2, scale=scale))
    return np.array(fits)
