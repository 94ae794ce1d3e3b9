"""Which fast way of asking questions a model allows: each is compared once with asking them one by one."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from reward.errors import JudgeError, first_line
from reward.judges.loading import TOLERANCE

logger = logging.getLogger(__name__)


class MisfitError(Exception):
    """A mode that does not work with this model or these items, and why."""


class ModeChoice:
    """The modes of one judge, the fastest first and "sequential" last, and what is known about each.

    "sequential" is the reference: a whole pass for each question. Another mode is trusted once its log-odds of two
    questions about one item lie within TOLERANCE of the reference. Which mode answers a batch depends on the
    model and that batch alone, not on what came before, so that a stopped run continues with the same answers.
    """

    def __init__(
        self, requested: str, known: Sequence[str], *, name: str, dtype: torch.dtype, refused: Mapping[str, str]
    ):
        """requested: one of the known ones, or "auto". name, dtype: the model's. refused: see the attribute."""
        self.requested, self.name, self.tolerance = requested, name, TOLERANCE[dtype]
        self.candidates = list(known) if requested == "auto" else [requested]
        self.trusted = {"sequential"}
        self.refused = dict(refused)  # mode -> why it is never used
        self.used: str | None = None  # for the last answer; None = nothing was asked yet
        self._expected = set(refused)  # what the model's configuration shows needs no warning
        self._said: set[str] = set()  # modes whose use has been explained

    def ask(self, sample: Callable[[str], Float[Tensor, " Q"]], whole: Callable[[str], Tensor]) -> Tensor:
        """`whole(mode)` of the first mode that fits. sample(mode): log-odds of a few questions about one of the items.

        Raises JudgeError if the requested mode does not fit.
        """
        reference = cache(lambda: sample("sequential"))
        misfits: dict[str, str] = {}
        for mode in self.candidates:
            try:
                if mode not in self.trusted and mode not in self.refused:
                    self._compare(mode, sample, reference)
                if mode not in self.refused:
                    answer = whole(mode)
                    self._note(mode, self.refused | misfits)
                    return answer
            except MisfitError as error:
                misfits[mode] = str(error)
        why = (self.refused | misfits)[self.requested]
        raise JudgeError(f"mode={self.requested!r} does not fit {self.name}: {why}; use mode='auto'")

    def _compare(
        self, mode: str, sample: Callable[[str], Float[Tensor, " Q"]], reference: Callable[[], Float[Tensor, " Q"]]
    ) -> None:
        try:
            found = sample(mode)
        except (MisfitError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a model's code may come from anywhere and fail in any way
            reference()  # raises if the item or the model is at fault, not the mode
            self.refused[mode] = f"it fails ({type(error).__name__}: {first_line(error)})"
            return
        gap = float((found - reference()).abs().max())
        if gap <= self.tolerance:
            self.trusted.add(mode)
        else:  # NaN included
            self.refused[mode] = (
                f"its log-odds of yes are {gap:.3g} away from those of questions asked one by one"
                f" (rounding alone explains {self.tolerance:g})"
            )

    def _note(self, mode: str, others: Mapping[str, str]) -> None:
        """Remembers the mode, and logs once per mode why "auto" does not use a faster one."""
        self.used = mode
        if self.requested != "auto" or not others or mode in self._said:
            return
        self._said.add(mode)
        modes_by_reason: dict[str, list[str]] = {}
        for other, why in others.items():
            modes_by_reason.setdefault(why, []).append(repr(other))
        reasons = "; ".join(f"not in mode {' or '.join(modes)}: {why}" for why, modes in modes_by_reason.items())
        level = logging.WARNING if mode == "sequential" or set(self.refused) - self._expected else logging.INFO
        slow = " (one by one, a whole pass each, which is slow)" if mode == "sequential" else ""
        logger.log(level, "%s: questions are asked in mode %r%s; %s", self.name, mode, slow, reasons)
