import numpy as np
import pytest

from mpo import MpoError
from mpo.recipe import read_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.scoring import load_reward, score_files, scored_checklist


def test_answers_that_are_kept_are_not_asked_for_again(finished, tmp_path):
    """By then the pictures are gone; another judge's answers are refused."""
    recipe = read_recipe(finished / "recipe.yaml")
    files, prompts = [tmp_path / f"{k}.png" for k in range(3)], ["a red circle on a white background"] * 3
    for file, candidate in zip(files, sorted((finished / "candidates").iterdir()), strict=False):
        file.write_bytes(candidate.read_bytes())
    first = score_files(load_reward(recipe), files, prompts, parts=tmp_path / "parts", description="score")
    for file in files:
        file.unlink()
    again = score_files(load_reward(recipe), files, prompts, parts=tmp_path / "parts", description="score")
    np.testing.assert_array_equal(again.p_yes, first.p_yes)
    fewer = recipe.model_copy(update={"judge": recipe.judge.model_copy(update={"questions": ("alignment",)})})
    with pytest.raises(MpoError, match=r"was scored by another judge or checklist; delete .*parts and run again"):
        score_files(load_reward(fewer), files, prompts, parts=tmp_path / "parts", description="score")


def test_a_table_of_another_checklist_is_refused(finished):
    run = RunFolder(finished)
    table = read_table(run.scores, made_by="score")
    recipe = read_recipe(run.recipe)
    assert scored_checklist(recipe, table, run.scores).question_ids == load_reward(recipe).checklist.question_ids
    other = table.replace_schema_metadata({**table.schema.metadata, b"checklist": b"image:0"})
    with pytest.raises(MpoError, match=r"scores.parquet was made with another checklist; delete it"):
        scored_checklist(recipe, other, run.scores)
