"""In which order a rater sees which pairs, on which sides, and which of them twice.

All of it is drawn by digests of (seed, rater, question, pair), so that nothing but what was voted needs to be stored, and the same
is drawn on every machine: where a rater stopped, the rest of the order is what it was.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from mpo.votes.pairs import Model, Pair, short_digest

REPEATED = 10  # one pair in so many is shown twice
DISTANCE = 20  # so many other pairs are first shown in between, fewer if there are not enough


@dataclass(frozen=True)
class Showing:
    """A pair as a rater sees it, for the first or the second time."""

    pair: Pair
    repeat: bool
    left: Model

    @cached_property
    def id(self) -> str:
        return showing_id(self.pair, repeat=self.repeat)

    @property
    def right(self) -> Model:
        return "tuned" if self.left == "base" else "base"


def showing_id(pair: Pair, *, repeat: bool) -> str:
    """16 hex digits that do not show whether it is a repeat."""
    return short_digest(pair.id, "repeat" if repeat else "first")


@dataclass(frozen=True)
class _Dice:
    """Numbers that follow from what is drawn and for whom, whatever else is drawn before."""

    seed: int
    rater: str
    question: str

    def chance(self, purpose: str, pair: Pair) -> float:
        """In [0, 1)."""
        words = "\0".join((purpose, str(self.seed), self.rater, self.question, pair.id))
        return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") / 2**64

    def show(self, pair: Pair, *, repeat: bool) -> Showing:
        return Showing(pair, repeat, "base" if self.chance(f"side, {repeat}", pair) < 0.5 else "tuned")


def order_of(pairs: Sequence[Pair], rater: str, question: str, seed: int) -> tuple[Showing, ...]:
    """Each pair once in an order of this rater's own, and about one in ten again later, on sides drawn anew.

    A repeat comes after DISTANCE to 3 x DISTANCE other pairs, or as far behind as few pairs allow; no repeat follows
    another, nor the pair that it repeats. One pair alone is not repeated.
    """
    dice = _Dice(seed, rater, question)
    shuffled = sorted(pairs, key=lambda pair: (dice.chance("order", pair), pair.id))
    count = len(shuffled)
    num_repeats = max(1, round(count / REPEATED)) if count > 1 else 0
    distance = min(DISTANCE, count - num_repeats)
    # A repeat in slot s is shown after s pairs. Each slot takes one; the last pairs have the fewest slots and choose first.
    repeatable = sorted(range(count - distance), key=lambda place: dice.chance("repeat", shuffled[place]))
    slots: dict[int, Pair] = {}
    for place in sorted(repeatable[:num_repeats], reverse=True):
        first, last = place + 1 + distance, min(count, place + 1 + 3 * distance)
        free = [slot for slot in range(first, last + 1) if slot not in slots]
        slots[free[int(dice.chance("slot", shuffled[place]) * len(free))]] = shuffled[place]
    order = []
    for place, pair in enumerate(shuffled, 1):
        order.append(dice.show(pair, repeat=False))
        if place in slots:
            order.append(dice.show(slots[place], repeat=True))
    return tuple(order)


def remaining(order: Sequence[Showing], done: Collection[str]) -> list[Showing]:
    """What is left of an order. done: ids of showings."""
    return [showing for showing in order if showing.id not in done]
