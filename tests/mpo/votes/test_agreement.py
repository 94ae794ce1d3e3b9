import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpo.votes.agreement import alpha, kappa

answers = st.sampled_from(["base", "tuned", None])


def test_kappa_by_hand():
    # 50 items: 20 yes by both, 5 and 10 by one, 15 no by both. Observed 0.7; chance 0.5 x 0.6 + 0.5 x 0.4 = 0.5.
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert kappa(first, second) == pytest.approx(0.4)
    assert kappa(["tuned", None], ["tuned", None]) == 1.0


def test_what_chance_alone_would_give_has_no_kappa():
    assert kappa([None, None], [None, None]) is None
    assert alpha([[None, None], ["tuned"]]) is None
    assert alpha([]) is None


def test_alpha_is_that_of_its_author_s_example():
    """Krippendorff (2011), part C: four observers, twelve units, answers missing; 0.743 for nominal data."""
    observers = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")
    units = [[observer[unit] for observer in observers if observer[unit] != "."] for unit in range(12)]
    assert alpha(units) == pytest.approx(0.743, abs=5e-4)


@given(st.lists(st.tuples(answers, answers), min_size=2, max_size=30))
def test_both_are_one_for_equal_answers_and_at_most_one(pairs):
    first, second = zip(*pairs, strict=True)
    for value in (kappa(first, second), alpha(pairs)):
        assert value is None or value <= 1
    if len(set(first)) > 1:
        assert kappa(first, first) == alpha([(a, a) for a in first]) == 1
