import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpo.runtime.lazily import Lazily

ENDS = st.none() | st.integers(-12, 12)


@given(st.integers(0, 10), ENDS, ENDS, st.none() | st.integers(-3, 3).filter(bool))
def test_it_reads_as_a_list_does(count, start, stop, step):
    squares = [k * k for k in range(count)]
    lazy = Lazily(count, lambda k: k * k)
    assert list(lazy) == squares
    assert list(lazy[start:stop:step]) == squares[start:stop:step]
    assert list(lazy[start:][:stop]) == squares[start:][:stop]
    with pytest.raises(IndexError):
        lazy[count]


def test_nothing_is_made_before_it_is_asked_for():
    made = []
    lazy = Lazily(10_000_000, lambda k: made.append(k) or k)
    assert len(lazy[5::2]) == 4_999_998
    assert (lazy[-1], lazy[5::2][1]) == (9_999_999, 7)
    assert made == [9_999_999, 7]
