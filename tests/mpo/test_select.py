import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpo import MpoError
from mpo.comparison.dominance import by_dimension, by_dominance, by_total, find_pairs, find_strategy, num_worse
from mpo.recipe import Select, dump_recipe, parse_recipe
from mpo.run import run_recipe, run_stage
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from reward import load_checklist

N, K = 12, 3
# Few distinct values, so that ties are common.
group_scores = arrays(np.float64, (N, K), elements=st.integers(-2, 2).map(float))
prompt_ids = st.lists(st.integers(0, 3), min_size=N, max_size=N).map(lambda ids: np.sort(np.array(ids)))
margins = st.sampled_from([0.0, 0.5, 1.0, 2.5])


def brute_force(ids, groups, margin):
    total = groups.sum(axis=1)
    return {
        (i, j)
        for i in range(N)
        for j in range(N)
        if ids[i] == ids[j] and all(groups[i] >= groups[j]) and total[i] - total[j] > margin
    }


@given(prompt_ids, group_scores, margins)
def test_dominance_equals_its_definition(ids, groups, margin):
    pairs = find_pairs(by_dominance, ids, groups, groups.sum(axis=1), min_margin=margin, per_prompt=None)
    assert set(zip(pairs.chosen, pairs.rejected, strict=True)) == brute_force(ids, groups, margin)


@given(prompt_ids, group_scores, margins)
def test_dominating_pairs_are_a_part_of_total_pairs_and_confound_nothing(ids, groups, margin):
    total = groups.sum(axis=1)
    dominating = find_pairs(by_dominance, ids, groups, total, min_margin=margin, per_prompt=None)
    plain = find_pairs(by_total, ids, groups, total, min_margin=margin, per_prompt=None)
    assert set(zip(dominating.chosen, dominating.rejected, strict=True)) <= set(
        zip(plain.chosen, plain.rejected, strict=True)
    )
    assert num_worse(dominating, groups) == 0
    assert num_worse(plain, groups) == len(plain) - len(dominating)


@given(prompt_ids, group_scores)
def test_dominance_is_a_strict_partial_order(ids, groups):
    pairs = find_pairs(by_dominance, ids, groups, groups.sum(axis=1), min_margin=0.0, per_prompt=None)
    above = set(zip(pairs.chosen.tolist(), pairs.rejected.tolist(), strict=True))
    assert all((j, i) not in above for i, j in above)
    assert all((i, k) in above for i, j in above for jj, k in above if j == jj)


@given(prompt_ids, group_scores, st.integers(1, 4))
def test_the_widest_of_each_prompt_are_kept(ids, groups, per_prompt):
    total = groups.sum(axis=1)
    every = find_pairs(by_total, ids, groups, total, min_margin=0.0, per_prompt=None)
    kept = find_pairs(by_total, ids, groups, total, min_margin=0.0, per_prompt=per_prompt)
    for prompt in np.unique(ids):
        leads = np.sort(every.margin[ids[every.chosen] == prompt])[::-1]
        np.testing.assert_array_equal(np.sort(kept.margin[ids[kept.chosen] == prompt])[::-1], leads[:per_prompt])


@given(group_scores, st.permutations(range(N)))
def test_the_order_of_candidates_does_not_matter(groups, order):
    ids, order = np.zeros(N, int), np.array(order)
    a = find_pairs(by_dominance, ids, groups, groups.sum(axis=1), min_margin=0.0, per_prompt=None)
    b = find_pairs(by_dominance, ids, groups[order], groups[order].sum(axis=1), min_margin=0.0, per_prompt=None)
    assert set(zip(a.chosen, a.rejected, strict=True)) == set(zip(order[b.chosen], order[b.rejected], strict=True))


def test_strategies_by_name():
    checklist = load_checklist("image")
    groups, total = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([1.0, 2.0])
    assert find_strategy("total", checklist)(groups, total)[1, 0] == 1.0
    assert by_dimension(0)(groups, total)[0, 1] == 1.0
    assert find_strategy("dominance", checklist)(groups, total)[1, 0] == -np.inf
    with pytest.raises(MpoError, match="alignment, composition"):
        find_strategy("dimension:beauty", checklist)


@settings(deadline=None)
@given(st.integers(0, 5))
def test_no_candidates_no_pairs(size):
    pairs = find_pairs(
        by_dominance, np.arange(size), np.zeros((size, K)), np.zeros(size), min_margin=0.0, per_prompt=None
    )
    assert len(pairs) == 0


def test_a_run_without_a_pair_stops_and_says_what_to_change(fields, tmp_path):
    fields["select"]["margin"] = 100.0
    with pytest.raises(
        MpoError, match=r"of 12 candidates \(18 pairs compared\).*select.margin=100.0.*lower select.margin"
    ):
        run_recipe(parse_recipe(fields, source="small"), tmp_path / "run")
    assert not (tmp_path / "run" / "pairs.parquet").exists()


def test_too_few_pairs_for_num_pairs_is_an_error(fields, tmp_path):
    fields["select"]["num_pairs"] = 1000
    with pytest.raises(MpoError, match=r"select\.num_pairs=1000: only"):
        run_recipe(parse_recipe(fields, source="small"), tmp_path / "run")


def test_statistics_are_written(finished):
    selection = json.loads((finished / "selection.json").read_text())
    assert selection["num_candidates"] == 12
    assert selection["num_kept"] == selection["strategies"]["total"]["num_pairs"]
    assert selection["strategies"]["dominance"]["share_worse_in_some_dimension"] == 0
    total = selection["strategies"]["total"]
    assert total["share_worse_in_some_dimension"] == pytest.approx(
        1 - selection["strategies"]["dominance"]["num_pairs"] / total["num_pairs"]
    )


@pytest.mark.parametrize("block", [1, 3, 4, 5, 100])
@pytest.mark.parametrize(
    "select",
    [
        {"strategy": "dominance", "granularity": "subdimension", "margin": 0.1},
        {"strategy": "total", "margin": 0.2, "pairs_per_prompt": 3},
        {"strategy": "dimension:alignment", "margin": 0.0, "num_pairs": 2},
    ],
    ids=lambda s: s["strategy"],
)
def test_blocks_of_any_size_give_the_same_pairs(block, select, finished, fields, tmp_path, monkeypatch):
    """As many as the candidates of a prompt (four), fewer, more: prompts are never cut."""
    fields["select"] = select
    results = []
    for size in (2**16, block):
        monkeypatch.setattr("mpo.stages.select.BLOCK", size)
        run = RunFolder(tmp_path / str(size))
        run.folder.mkdir()
        for file in ("candidates.parquet", "scores.parquet", "prompts.parquet"):
            shutil.copy(finished / file, run.folder)
        run.recipe.write_text(dump_recipe(parse_recipe(fields, source="small")), "utf-8")
        run_stage(run.folder, "select")
        results.append((read_table(run.pairs, made_by="select"), run.selection.read_bytes()))
    assert results[0][0].num_rows > 0
    assert results[1][0].equals(results[0][0])
    assert results[1][1] == results[0][1]


def test_margin_must_not_be_negative():
    with pytest.raises(ValueError, match="margin"):
        Select(margin=-0.1)
