"""Seeds from their purpose, so that the order of work does not matter."""

from typing import Literal

import numpy as np

Purpose = Literal["candidates", "noise", "validation", "evaluation"]
# Numbers, not names: they are part of every result.
TAGS: dict[Purpose, int] = {"candidates": 1, "noise": 2, "validation": 3, "evaluation": 4}


def derive_seed(purpose: Purpose, *entropy: int) -> int:
    """A seed from only a purpose and numbers such as (seed, prompt, index), so that any order of work gives the same.

    Two purposes never share a seed, whatever the numbers are.
    """
    (word,) = np.random.SeedSequence((TAGS[purpose], *entropy)).generate_state(1, np.uint64)
    return int(word >> np.uint64(1))  # int64 holds 63 bits
