from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpo.votes.ballots import REPEATED, order_of, remaining
from mpo.votes.pairs import Pair

names = st.text("abcXYZ019_-", min_size=1, max_size=8)


def pairs_of(count: int) -> list[Pair]:
    return [
        Pair(k, f"prompt {k}", k, Path(f"base/{k}.png"), Path(f"tuned/{k}.png"), f"b{k}", f"t{k}") for k in range(count)
    ]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 40) | st.integers(90, 110), names, names, st.integers(0, 2**60))
def test_each_pair_comes_once_and_one_in_ten_again_later_and_apart(count, rater, question, seed):
    pairs = pairs_of(count)
    order = order_of(pairs, rater, question, seed)
    first = [showing.pair.id for showing in order if not showing.repeat]
    repeats = [showing.pair.id for showing in order if showing.repeat]
    assert sorted(first) == sorted(pair.id for pair in pairs)
    assert len(repeats) == len(set(repeats)) == (0 if count < 2 else max(1, round(count / REPEATED)))
    for place, showing in enumerate(order):
        if showing.repeat:
            assert not order[place - 1].repeat
            seen = [each.pair.id for each in order[:place]]
            apart = len(seen) - seen.index(showing.pair.id)  # 1 = the one before
            assert apart >= (20 if count > 30 else 2)
    assert len({showing.id for showing in order}) == len(order)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 60), names, st.data())
def test_the_rest_is_what_it_was_wherever_a_rater_stops(count, rater, data):
    order = order_of(pairs_of(count), rater, "overall", 1)
    stop = data.draw(st.integers(0, len(order)))
    again = order_of(pairs_of(count)[::-1], rater, "overall", 1)  # whatever the table's order
    assert remaining(again, {showing.id for showing in order[:stop]}) == list(order[stop:])


@pytest.mark.parametrize("other", [("bob", "overall", 1), ("ann", "quality", 1), ("ann", "overall", 2)])
def test_another_rater_question_or_seed_has_another_order_and_other_sides(other):
    pairs = pairs_of(100)
    order, changed = order_of(pairs, "ann", "overall", 1), order_of(pairs, *other)
    assert [each.pair.id for each in order] != [each.pair.id for each in changed]
    sides, others = ({each.pair.id: each.left for each in of if not each.repeat} for of in (order, changed))
    same = sum(sides[pair.id] == others[pair.id] for pair in pairs)
    assert 30 < same < 70  # of 100 coins: 4 standard deviations


def test_sides_are_drawn_evenly_and_anew_for_a_repeat():
    order = order_of(pairs_of(1000), "ann", "overall", 0)
    lefts = sum(showing.left == "tuned" for showing in order)
    assert abs(lefts - len(order) / 2) < 4 * (len(order) ** 0.5) / 2
    first = {showing.pair.id: showing.left for showing in order if not showing.repeat}
    swapped = sum(first[showing.pair.id] != showing.left for showing in order if showing.repeat)
    assert 30 < swapped < 70  # of 100 repeats


def test_repeats_are_spread_over_the_order():
    order = order_of(pairs_of(400), "ann", "overall", 0)
    halves = [sum(showing.repeat for showing in half) for half in (order[:220], order[220:])]
    assert min(halves) >= 8  # of 40


def test_an_id_does_not_show_what_is_a_repeat():
    order = order_of(pairs_of(20), "ann", "overall", 0)
    assert all(len(showing.id) == 16 and set(showing.id) <= set("0123456789abcdef") for showing in order)


def test_a_pair_whose_sample_has_changed_is_another():
    one, other = pairs_of(2)
    again = Pair(one.prompt_id, one.prompt, one.seed, one.base, one.tuned, one.base_sha256, "other")
    assert len({one.id, other.id, again.id}) == 3
