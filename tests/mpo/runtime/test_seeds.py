from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from mpo.runtime.seeds import TAGS, Purpose, derive_seed

number = st.integers(0, 2**32 - 1)
purpose = st.sampled_from(get_args(Purpose))


@given(purpose, number, number, number)
def test_a_seed_fits_the_tables_and_is_of_these_numbers_in_this_order(what, a, b, c):
    assert 0 <= derive_seed(what, a, b, c) < 2**63  # int64, as candidates.parquet holds it
    assert derive_seed(what, a, b, c) == derive_seed(what, a, b, c)
    assert derive_seed(what, a, b, c) != derive_seed(what, a, b, (c + 1) % 2**32)
    assert (derive_seed(what, a, b) == derive_seed(what, b, a)) == (a == b)


@given(number, number)
def test_two_purposes_never_share_a_seed(a, b):
    assert set(TAGS) == set(get_args(Purpose))
    assert len({derive_seed(what, a, b) for what in TAGS}) == len(TAGS)
