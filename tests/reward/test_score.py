"""From answers to scores, by hand and by their algebra."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reward import load_checklist, score_answers
from reward.checklist import Checklist, Question, SubDimension

CHECKLIST = load_checklist("image")
Q = len(CHECKLIST.questions)
p_yes_rows = arrays(np.float64, (3, Q), elements=st.floats(0, 1))


def test_by_hand():
    checklist = CHECKLIST.only({"alignment", "has_body", "body_1", "richness_4"})
    scores = score_answers(np.array([[0.5, 0.9, 0.2, 0.7], [0.5, 0.1, 0.2, 0.7]]), checklist)
    # Order: alignment, has_body, richness_4, body_1.
    np.testing.assert_array_equal(scores.answers, [[0.5, 1, -1, 1], [0.5, -1, -1, 0]])
    alignment, richness, body = 2.3542882631150923, 0.5828223926159606, 0.0824178853123111
    np.testing.assert_allclose(scores.total, [0.5 * alignment - richness + body, 0.5 * alignment - richness])
    assert checklist.dimensions == ("alignment", "composition", "fidelity")
    np.testing.assert_allclose(scores.dimensions, [[0.5 * alignment, -richness, body], [0.5 * alignment, -richness, 0]])


@given(p_yes_rows)
def test_every_grain_adds_up_to_the_total(p_yes):
    scores = score_answers(p_yes, CHECKLIST)
    for granularity in ("dimension", "subdimension", "question"):
        np.testing.assert_allclose(scores.by(granularity).sum(axis=1), scores.total, atol=1e-12)


@given(p_yes_rows, st.integers(0, Q - 1))
def test_a_yes_never_lowers_the_score(p_yes, column):
    question = CHECKLIST.questions[column]
    if question.gate:
        return
    higher = p_yes.copy()
    higher[:, column] = 1.0
    assert (score_answers(higher, CHECKLIST).total >= score_answers(p_yes, CHECKLIST).total - 1e-12).all()


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1])
def test_what_is_no_probability_is_refused(bad):
    p_yes = np.full((2, Q), 0.5)
    p_yes[1, 3] = bad
    with pytest.raises(ValueError, match=r"p_yes\[1, 3\]"):
        score_answers(p_yes, CHECKLIST)
    with pytest.raises(ValueError, match="shape"):
        score_answers(p_yes[:, 1:], CHECKLIST)


@given(st.integers(1, 40), st.integers(0, 1000))
def test_equal_answers_score_equal_wherever_they_stand(count, seed):
    """Dominance compares dimensions with >=: one last digit would part what is equal."""
    rng = np.random.default_rng(seed)
    p_yes = rng.random((count + 3, Q))
    p_yes[[0, (count + 3) // 2, -1]] = p_yes[0]
    scores = score_answers(p_yes, CHECKLIST)
    for values in (
        scores.total,
        *(scores.by(granularity) for granularity in ("dimension", "subdimension", "question")),
    ):
        np.testing.assert_array_equal(values[0], values[(count + 3) // 2])
        np.testing.assert_array_equal(values[0], values[-1])
    np.testing.assert_array_equal(scores.total[0], score_answers(p_yes[:1], CHECKLIST).total[0])


def test_a_scorers_number_counts_as_it_is_and_answers_keep_their_range():
    checklist = Checklist(
        name="both",
        version=1,
        kind="image",
        subdimensions=(
            SubDimension(name="sharp", dimension="sharp", questions=(Question(id="sharp", text="Sharp?", weight=2.0),)),
            SubDimension(
                name="pick", dimension="pick", questions=(Question(id="pick", text="Pick", weight=0.5, value=True),)
            ),
        ),
    )
    scores = score_answers(np.array([[0.9, 21.5], [0.2, -3.0]]), checklist)
    assert scores.answers.tolist() == [[1.0, 21.5], [-1.0, -3.0]]
    assert scores.dimensions.tolist() == [[2.0, 10.75], [-2.0, -1.5]]
    with pytest.raises(ValueError, match=r"p_yes\[0, 1\]=inf is not finite"):
        score_answers(np.array([[0.9, np.inf]]), checklist)
    with pytest.raises(ValueError, match=r"p_yes\[0, 0\]=21.5 is not a probability"):
        score_answers(np.array([[21.5, 21.5]]), checklist)
