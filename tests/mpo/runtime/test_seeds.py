from hypothesis import given
from hypothesis import strategies as st

from mpo.runtime.seeds import derive_seed

number = st.integers(0, 2**32 - 1)


@given(number, number, number)
def test_a_seed_fits_the_tables_and_is_of_these_numbers_in_this_order(a, b, c):
    assert 0 <= derive_seed(a, b, c) < 2**63  # int64, as candidates.parquet holds it
    assert derive_seed(a, b, c) == derive_seed(a, b, c)
    assert derive_seed(a, b, c) != derive_seed(a, b, (c + 1) % 2**32)
    assert (derive_seed(a, b) == derive_seed(b, a)) == (a == b)
