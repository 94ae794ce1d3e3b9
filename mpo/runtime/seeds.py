"""Seeds from what a number is for, so that the order of work does not matter."""

import numpy as np


def derive_seed(*entropy: int) -> int:
    """A seed from such numbers as (seed, prompt, index) alone, so that any order of work gives the same draws."""
    (word,) = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return int(word >> np.uint64(1))  # int64 holds 63 bits
