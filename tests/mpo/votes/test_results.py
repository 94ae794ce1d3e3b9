import json
import math

import pytest

from mpo import MpoError
from mpo.votes.describe import as_json, describe
from mpo.votes.results import results_of
from mpo.votes.store import Choice
from reward.agreement import Interval
from tests.helpers.votes import evaluated_run, vote_for


@pytest.fixture
def two(tmp_path):
    """Two prompts at two seeds: pairs 0 and 1, and 2 and 3."""
    return evaluated_run(
        tmp_path / "run", 2, 2, others={"other": lambda model, prompt, seed: (0.0, float(model == "base"))}
    )


def vote_by_hand(run) -> None:
    vote_for(run, "ann", 0, "right")  # tuned, which is on the right
    vote_for(run, "ann", 1, "left", left="tuned")  # tuned
    vote_for(run, "ann", 2, "both_bad")
    vote_for(run, "ann", 3, "left")  # base
    vote_for(run, "ann", 0, "left", left="tuned", repeat=True)  # tuned again
    vote_for(run, "ann", 3, "right", repeat=True)  # tuned this time
    vote_for(run, "bob", 0, "left")  # base
    vote_for(run, "bob", 3, "left")  # base


def test_win_rates_by_hand(two):
    vote_by_hand(two)
    everybody, ann, bob = results_of(two).rates
    assert (everybody.rater, ann.rater, bob.rater) == (None, "ann", "bob")
    # Ann's first votes: (1 + 1) / 2 for the first prompt, (1/2 + 0) / 2 for the second.
    assert ann.win_rate.value == pytest.approx((1 + 0.25) / 2)
    assert (ann.tie_rate, ann.loss_rate, ann.both_bad_rate) == (0.25, 0.25, 0.25)
    assert (ann.num_votes, ann.num_pairs, ann.num_prompts) == (4, 4, 2)
    # Of two prompts, one resample in four has only the first, one only the second.
    assert (ann.win_rate.low, ann.win_rate.high) == (0.25, 1.0)
    # Everybody's: (1 + 1 + 0) / 3, and (1/2 + 0 + 0) / 3.
    assert everybody.win_rate.value == pytest.approx((2 / 3 + 1 / 6) / 2)
    assert everybody.num_votes == 6
    assert bob.win_rate.value == 0.0


def test_agreement_by_hand(two):
    vote_by_hand(two)
    results = results_of(two)
    (own,) = results.self_agreement
    # Tuned, base at first; tuned, tuned the second time: half are equal, as chance gives (1/2 x 1 + 1/2 x 0).
    assert (own.rater, own.num_pairs, own.share.value, own.kappa) == ("ann", 2, 0.5, 0.0)
    (both,) = results.rater_agreement
    # Ann: tuned, base; Bob: base, base.
    assert (both.raters, both.num_pairs, both.share.value, both.kappa) == (("ann", "bob"), 2, 0.5, 0.0)
    assert results.all_raters == ()
    vote_for(two, "eve", 0, "right")
    vote_for(two, "eve", 3, "left")
    (everybody,) = results_of(two).all_raters
    # Pair 0: tuned, base, tuned; pair 3: base three times. Coincidences (c - 1) x observed / expected = 5 x (2 / 2) / (2 x 4).
    assert (everybody.num_raters, everybody.num_pairs) == (3, 2)
    assert everybody.alpha == pytest.approx(1 - 5 * 1 / 8)


def test_judges_against_the_majority_by_hand(two):
    """The judge that chose prefers tuned everywhere, the other one base."""
    vote_by_hand(two)
    vote_for(two, "ann", 1, "right", question="quality")  # tuned
    vote_for(two, "ann", 3, "right", question="quality")  # tuned
    vote_for(two, "ann", 3, "right", question="beauty")  # which neither judge has
    chose, other, *by_quality = results_of(two).judges
    # Majorities: pair 0 is split; 1 tuned; 2 a tie; 3 base.
    assert (chose.judge, chose.chose, chose.num_pairs, chose.num_ties) == ("measured", True, 4, 2)
    assert (other.judge, other.chose) == ("other", False)
    assert (chose.accuracy.value, other.accuracy.value) == (0.5, 0.5)
    assert [(row.question, row.judge, row.accuracy.value) for row in by_quality] == [
        ("quality", "measured", 1.0),
        ("quality", "other", 0.0),
    ]


def test_position_by_hand(two):
    vote_by_hand(two)
    everybody, ann, bob = results_of(two).positions
    # Ann, repeats included: right, left, left, left, right; both bad is no preference. Bob: left, left.
    assert (ann.num_votes, ann.left_share.value) == (5, pytest.approx(3 / 5))
    assert (bob.num_votes, bob.left_share.value) == (2, 1.0)
    assert (everybody.num_votes, everybody.left_share.value) == (7, pytest.approx(5 / 7))


def test_corrected_votes_and_those_on_other_samples_are_counted_apart(two):
    first = vote_for(two, "ann", 0, "right")
    vote_for(two, "ann", 0, "left", replaces=first.id)
    vote_for(two, "ann", 2, "right")
    (two.samples / "tuned" / "000001-00.png").write_bytes((two.samples / "base" / "000001-00.png").read_bytes())
    results = results_of(two)
    assert (results.num_votes, results.num_corrected, results.num_set_aside) == (1, 1, 1)
    assert results.rates[0].win_rate.value == 0.0
    assert "1 more were corrected; 1 more are set aside" in describe(results)


def test_swapped_models_mirror_the_rates(two, tmp_path):
    other = evaluated_run(tmp_path / "other", 2, 2)
    choices: list[Choice] = ["left", "right", "tie", "right"]
    for place, choice in enumerate(choices):
        vote_for(two, "ann", place, choice)
        vote_for(other, "ann", place, choice, left="tuned")
    one, mirrored = (results_of(run).rates[0] for run in (two, other))
    assert mirrored.win_rate.value == pytest.approx(1 - one.win_rate.value)
    assert mirrored.loss_rate == pytest.approx(1 - one.loss_rate - one.tie_rate)


def test_one_prompt_has_no_interval(tmp_path):
    run = evaluated_run(tmp_path / "run", 1, 2)
    vote_for(run, "ann", 0, "right")
    results = results_of(run)
    assert results.rates[0].win_rate.value == 1.0
    assert math.isnan(results.rates[0].win_rate.low)
    assert results.judges == ()
    told = json.loads(as_json(results))
    assert told["rates"][0]["win_rate"] == {"value": 1.0, "low": None, "high": None}
    assert "| 1.000 |" in describe(results)


def test_the_words_have_what_json_has(two):
    vote_by_hand(two)
    results = results_of(two)
    words, told = describe(results), json.loads(as_json(results))
    for row in told["rates"]:
        assert str(Interval(**row["win_rate"])) in words
    assert told["judges"][1] == {
        "question": "overall", "judge": "other", "chose": False, "num_pairs": 4, "num_ties": 2, "accuracy": told["judges"][1]["accuracy"],
    }  # fmt: skip
    assert "other, which did not choose" in words


def test_a_run_without_votes_says_how_to_get_some(two):
    with pytest.raises(MpoError, match="holds no vote; vote with `mpo vote"):
        results_of(two)
