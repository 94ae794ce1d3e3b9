import numpy as np
import pytest

from mpo import MpoError
from mpo.plan import plan
from mpo.recipe import load_recipe, read_recipe
from mpo.run import run_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.scoring import load_reward, score_files, scored_checklist
from reward import JudgeError
from tests.reward.judges.small_vlms import save_without_weights


def test_answers_that_are_kept_are_not_asked_for_again(finished, tmp_path):
    """Of the same pictures, by the same judge about the same questions; whatever else is kept is judged again."""
    recipe = read_recipe(finished / "recipe.yaml")
    files, prompts = [tmp_path / f"{k}.png" for k in range(3)], ["a red circle on a white background"] * 3
    candidates = sorted((finished / "candidates").iterdir())
    for file, candidate in zip(files, candidates, strict=False):
        file.write_bytes(candidate.read_bytes())
    part = tmp_path / "parts" / "000000000.parquet"

    def score(recipe=recipe) -> np.ndarray:
        reward = load_reward(recipe)
        return score_files(reward, files, prompts, parts=part.parent, description="score", made_by="").p_yes

    first = score()
    made = part.stat().st_mtime_ns
    np.testing.assert_array_equal(score(), first)
    assert part.stat().st_mtime_ns == made
    part.write_bytes(part.read_bytes()[:100])  # as no process leaves it, but a disk may
    np.testing.assert_array_equal(score(), first)
    files[0].write_bytes(candidates[5].read_bytes())
    assert (score()[0] != first[0]).any()
    fewer = recipe.model_copy(update={"judge": recipe.judge.model_copy(update={"questions": ("alignment",)})})
    assert score(fewer).shape == (3, 1)


def test_a_table_of_another_checklist_is_refused(finished):
    run = RunFolder(finished)
    table = read_table(run.scores, made_by="score")
    recipe = read_recipe(run.recipe)
    assert scored_checklist(recipe, table, run.scores).question_ids == load_reward(recipe).checklist.question_ids
    other = table.replace_schema_metadata({**table.schema.metadata, b"checklist": b"image:0"})
    with pytest.raises(MpoError, match=r"scores.parquet was made with another version of checklist 'image'"):
        scored_checklist(recipe, other, run.scores)


def test_a_judge_that_takes_no_clips_is_refused_before_any_is_sampled(tmp_path):
    """By its folder, whose weights are not even there, and in the dry run as well."""
    save_without_weights("idefics3", tmp_path / "judge")
    options = f"{{model: {tmp_path / 'judge'}}}"
    settings = ["judge.name=vlm", "judge.checklist=video", f"judge.options={options}"]
    recipe = load_recipe("quickstart-video", settings)
    for refused in (plan, lambda recipe: run_recipe(recipe, tmp_path / "run")):
        with pytest.raises(
            JudgeError, match=r"judge 'vlm' with model='.*' takes images only; use a judge or model that"
        ):
            refused(recipe)
    assert not (tmp_path / "run").exists()
    of_pictures = recipe.judge.model_copy(
        update={"name": "cogvlm2", "options": {"kind": "image", "trust_remote_code": True}}
    )
    with pytest.raises(JudgeError, match="kind='image' takes images only"):
        plan(recipe.model_copy(update={"judge": of_pictures}))


def test_a_judge_that_only_the_hub_has_is_planned_without_it():
    settings = ["judge.name=vlm", "judge.checklist=video", "judge.options={model: nobody/nothing}"]
    assert any("not checked: judge 'vlm'" in note for note in plan(load_recipe("quickstart-video", settings)).notes)
