import numpy as np
import pytest

from mpo.comparison.win_rates import read_evaluation
from mpo.pages.cards import Card, heldout_cards, pair_cards
from mpo.recipe import parse_recipe, read_recipe
from mpo.run import run_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from reward import Scores
from tests.helpers.pictures import pickapic
from tests.helpers.recipes import given_fields


def explains(card: Card, scores: Scores) -> None:
    """The answers shown make the difference of the totals, but for continuous ones that moved by up to 0.1."""
    first, second = card.samples
    assert first.total is not None
    assert second.total is not None
    hidden = second.total - first.total - sum(d.effect for d in card.differences)
    continuous = sum(question.weight for question in scores.checklist if question.continuous)
    assert abs(hidden) <= 0.1 * continuous / scores.checklist.divisor + 1e-9
    assert card.differences == sorted(card.differences, key=lambda d: -abs(d.effect))


def test_pairs_are_shown_from_first_to_last_with_their_margins(finished):
    run = RunFolder(finished)
    pairs = read_table(run.pairs, made_by="select").to_pylist()
    cards = pair_cards(run, read_recipe(run.recipe))
    assert len(cards) == min(8, len(pairs))
    for card, pair in ((cards[0], pairs[0]), (cards[-1], pairs[-1])):
        rejected, chosen = card.samples
        assert (rejected.role, chosen.role) == ("rejected", "chosen")
        assert chosen.total is not None
        assert rejected.total is not None
        assert chosen.total - rejected.total == pytest.approx(pair["margin"])
        assert np.subtract(chosen.dimensions, rejected.dimensions) == pytest.approx(pair["dimension_margins"])
        assert card.verdict == f"margin {pair['margin']:.2f}"


def test_the_answers_shown_explain_the_scores(finished):
    run = RunFolder(finished)
    rows, scores, _ = read_evaluation(run)
    prompts = dict.fromkeys((row["prompt_id"] for row in rows), "a prompt")
    cards = [*pair_cards(run, read_recipe(run.recipe)), *heldout_cards(run, rows, scores, prompts)]
    assert any(card.differences for card in cards)
    for card in cards:
        explains(card, scores)


def test_base_stands_beside_tuned_of_the_same_prompt_and_seed(finished):
    run = RunFolder(finished)
    rows, scores, _ = read_evaluation(run)
    cards = heldout_cards(run, rows, scores, {0: "first", 1: "second"})
    assert [card.prompt for card in cards] == ["first", "second"]
    # Two prompts of two seeds: base's rows are 0 to 3, tuned's 4 to 7; the first seed of the second prompt is row 2.
    assert [sample.total for sample in cards[1].samples] == [scores.total[2], scores.total[6]]


def test_given_pairs_are_shown_without_scores(fields, tmp_path):
    recipe = parse_recipe(given_fields(fields, pickapic(tmp_path), "pickapic", "given"), source="given")
    run_recipe(recipe, tmp_path / "run", stages=("import-pairs", "select"))
    cards = pair_cards(RunFolder(tmp_path / "run"), recipe)
    assert len(cards) == 3
    for card in cards:
        assert [(s.role, s.total, s.dimensions) for s in card.samples] == [("rejected", None, []), ("chosen", None, [])]
        assert all(s.tag.startswith("<img") for s in card.samples)
        assert card.differences == []
