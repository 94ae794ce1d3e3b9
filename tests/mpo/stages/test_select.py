import json
import shutil

import pytest

import mpo.stages.select
from mpo import MpoError
from mpo.recipe import dump_recipe, parse_recipe
from mpo.run import run_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table


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
        mpo.stages.select.select(run.folder)
        results.append((read_table(run.pairs, made_by="select"), run.selection.read_bytes()))
    assert results[0][0].num_rows > 0
    assert results[1][0].equals(results[0][0])
    assert results[1][1] == results[0][1]
