import json
from pathlib import Path

import numpy as np
import pytest

from mpo import MpoError
from mpo.comparison.dominance import TIE, find_pairs, find_strategy
from mpo.comparison.win_rates import opinions, outcomes
from mpo.dependencies import fields_of
from mpo.planning.memory import RESERVE_GB
from mpo.planning.plan import plan
from mpo.recipe import RecipeError, load_recipe, parse_recipe, read_recipe
from mpo.run import run_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.scoring import check_judge, score_files, scored_checklist
from mpo.study import read_run
from reward import ChecklistError, JudgeError, load_checklist, save_checklist
from reward.judging import Judging, load_reward
from reward.settings import write_yaml
from tests.helpers.pages import data_of
from tests.helpers.recipes import small_fields
from tests.reward.judges.small_vlms import save_without_weights


def test_answers_that_are_kept_are_not_asked_for_again(finished, tmp_path):
    """Of the same pictures, by the same judge about the same questions; whatever else is kept is judged again."""
    recipe = read_recipe(finished / "recipe.yaml")
    files, prompts = [tmp_path / f"{k}.png" for k in range(3)], ["a red circle on a white background"] * 3
    candidates = sorted((finished / "candidates").rglob("*.png"))
    for file, candidate in zip(files, candidates, strict=False):
        file.write_bytes(candidate.read_bytes())
    part = tmp_path / "parts" / "0000" / "0000000.parquet"

    def score(recipe=recipe) -> np.ndarray:
        reward = load_reward(recipe.judge)
        return score_files(reward, files, prompts, parts=part.parent.parent, description="score", made_by="").p_yes

    first = score()
    made = part.stat().st_mtime_ns
    np.testing.assert_array_equal(score(), first)
    assert part.stat().st_mtime_ns == made
    part.write_bytes(part.read_bytes()[:100])  # as no process leaves it, but a disk may
    np.testing.assert_array_equal(score(), first)
    files[0].write_bytes(candidates[5].read_bytes())
    assert (score()[0] != first[0]).any()
    fewer = recipe.model_copy(
        update={"judge": (Judging(name="measured", checklist="image", questions=("alignment",)),)}
    )
    assert score(fewer).shape == (3, 1)


def test_a_table_says_whole_what_was_asked_for_it(finished):
    run = RunFolder(finished)
    table = read_table(run.scores, made_by="score")
    assert scored_checklist(table, run.scores) == load_reward(read_recipe(run.recipe).judge).checklist
    other = table.replace_schema_metadata({**table.schema.metadata, b"checklist": b"image:0"})
    with pytest.raises(MpoError, match=r"scores.parquet is damaged: it does not say which questions were asked"):
        scored_checklist(other, run.scores)


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
    options = {"kind": "image", "trust_remote_code": True}
    of_pictures = Judging(name="cogvlm2", checklist="video", options=options)
    with pytest.raises(JudgeError, match="kind='image' takes images only"):
        plan(recipe.model_copy(update={"judge": (of_pictures,)}))


def test_a_judge_that_only_the_hub_has_is_planned_without_it():
    settings = ["judge.name=vlm", "judge.checklist=video", "judge.options={model: nobody/nothing}"]
    assert any("not checked: judge 'vlm'" in note for note in plan(load_recipe("quickstart-video", settings)).notes)


OTHER = "tests.helpers.judges:CountingJudge"
SCORER = "tests.helpers.judges:BrightnessScorer"


def test_a_recipe_with_two_judges_runs_whole(model_folder, tmp_path):
    """Each adds its dimensions, and a chosen picture is worse in none of them."""
    fields = small_fields(model_folder, tmp_path)
    fields["judge"] = [{**fields["judge"]}, {"name": SCORER, "weight": 0.01}]
    fields["select"] = {"strategy": "dominance", "margin": 0.0}
    fields["generate"]["num_candidates"] = 12
    asked = {"checklist": "image", "questions": ["clarity_1", "alignment"]}
    fields["evaluate"]["judges"] = [{"name": OTHER, **asked, "options": {"batch_size": 1}, "weight": 3.0}]
    fields["evaluate"]["judges"].append({"name": OTHER, "checklist": "image", "questions": ["clarity_1"]})
    recipe = parse_recipe(fields, source="small")
    run = RunFolder(tmp_path / "run")
    run_recipe(recipe, run.folder)
    assert read_recipe(run.recipe) == recipe
    scores, pairs = read_table(run.scores, made_by="score"), read_table(run.pairs, made_by="select").to_pylist()
    checklist = scored_checklist(scores, run.scores)
    assert checklist.dimensions[-1] == "brightness"
    assert len(checklist.dimensions) > 2
    levels = np.array([row[-1] for row in scores.column("p_yes").to_pylist()])
    dimensions = np.array(scores.column("dimensions").to_pylist())
    np.testing.assert_allclose(dimensions[:, -1], 0.01 * levels)
    assert pairs
    for pair in pairs:
        assert (dimensions[pair["chosen_id"]] >= dimensions[pair["rejected_id"]] - TIE).all()
    left_out = pairs_without(dimensions[:, :-1], run) - {(pair["chosen_id"], pair["rejected_id"]) for pair in pairs}
    assert any(dimensions[chosen, -1] < dimensions[rejected, -1] - TIE for chosen, rejected in left_out)
    page = data_of((run.folder / "evaluation" / "report.html").read_text("utf-8"))
    assert page["about"]["judges"] == ["measured", SCORER]
    assert page["checklist"]["dimensions"][-1] == "brightness"
    # Of the parts that a stage depends on, each judge's fields are named by its place.
    named = fields_of(recipe, "score")
    assert (named["judge.0.name"], named["judge.1.name"], named["judge.1.weight"]) == ("measured", SCORER, 0.01)
    # A chosen pair is explained by what both say.
    summary = json.loads(run.summary.read_text("utf-8"))
    assert set(summary["dimensions"]) == set(checklist.dimensions)
    # A judge that had no part in choosing has a table of its own, and its say on the page and the card.
    told, namesake = summary["judges"]
    assert (told["name"], namesake["name"]) == (OTHER, f"{OTHER} (2)")
    assert {f"{OTHER}: total", f"{OTHER} (2): total"} <= set(read_run(run).measures)
    table = read_table(run.judge_tables / "1.parquet", made_by="evaluate")
    base, tuned = np.split(np.array(table.column("total")), 2)
    weights = load_checklist("image").only(asked["questions"]).weights
    p_yes = np.array(table.column("p_yes").to_pylist())  # clarity is a yes or no, alignment a probability
    expected = 3.0 * weights * np.where([True, False], p_yes, np.where(p_yes >= 0.5, 1.0, -1.0))
    np.testing.assert_allclose(np.array(table.column("total")), expected.sum(axis=1))
    assert told["total"]["win_rate"] == pytest.approx(outcomes(tuned, base, tie=TIE).mean())
    assert set(told["dimensions"]) == {"alignment", "quality"}
    told = page["result"]["others"][0]
    assert (told["judge"], told["name"], told["verdict"]) == (OTHER, "total", opinions(summary)[0].verdict)
    guard = summary["guards"]["diversity"]
    low, high = guard["ci95"]
    assert low <= guard["ratio"] <= high
    assert page["result"]["guards"] == [{"name": "diversity", **guard}]
    card = (run.lora / "README.md").read_text("utf-8")
    assert f"{OTHER}: total" in card
    assert opinions(summary)[0].verdict in card
    assert f"Diversity, tuned / base: {guard['ratio']:.3f} ({low:.3f} to {high:.3f})." in card


def pairs_without(dimensions: np.ndarray, run: RunFolder) -> set[tuple[int, int]]:
    """The pairs that the first judge alone would have chosen."""
    prompt_ids = np.array(read_table(run.candidates_table, made_by="generate").column("prompt_id"))
    strategy = find_strategy("dominance", load_checklist("image"))
    found = find_pairs(strategy, prompt_ids, dimensions, dimensions.sum(axis=1), min_margin=0.0, per_prompt=None)
    return set(zip(found.chosen.tolist(), found.rejected.tolist(), strict=True))


def test_judges_are_planned_and_set_one_by_one(model_folder, tmp_path):
    fields = small_fields(model_folder, tmp_path)
    vlm = {"name": "vlm", "checklist": "image", "options": {"model": "Qwen/Qwen2.5-VL-7B-Instruct"}}
    fields["judge"] = [{"name": SCORER}, vlm, vlm]
    with pytest.raises(ChecklistError, match="judge 'vlm' adds nothing"):
        plan(parse_recipe(fields, source="small"))
    fields["judge"][1] = {**vlm, "questions": ["alignment"]}
    (tmp_path / "recipe.yaml").write_text(write_yaml(fields), "utf-8")
    found = plan(parse_recipe(fields, source="small"))
    one = plan(parse_recipe({**fields, "judge": vlm}, source="small"))
    memory = {step.stage: step.memory_gb or 0.0 for step in found.steps}
    alone = {step.stage: step.memory_gb or 0.0 for step in one.steps}
    assert memory["score"] - alone["score"] == pytest.approx(alone["score"] - RESERVE_GB)  # both are held
    assert any("judge.1.options.quantization=4bit, judge.2.options.quantization=4bit" in line for line in found.fits)
    recipe = load_recipe(str(tmp_path / "recipe.yaml"), ["judge.1.options.batch_size=2", "judge.0.weight=3"])
    assert [judging.options.get("batch_size") for judging in recipe.judge] == [None, 2, None]
    assert recipe.judge[0].weight == 3
    for setting in ("judge.name=vlm", "judge.7.name=vlm", "judge.options.batch_size=2"):
        with pytest.raises(RecipeError, match=r"a list of 3 judges; name one of them, as in judge\.0\.name"):
            load_recipe(str(tmp_path / "recipe.yaml"), [setting])


def test_the_recipes_own_judge_is_no_independent_one_however_it_is_written(model_folder, tmp_path, monkeypatch):
    fields = small_fields(model_folder, tmp_path)
    fields["judge"] = {"name": "vlm", "checklist": "image", "options": {"model": "a"}}

    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()

    def check(name, **options):
        fields["evaluate"]["judges"] = [
            {"name": name, "checklist": "image" if name == "vlm" else None, "options": options}
        ]
        check_judge(parse_recipe(fields, source="small"), ["a cat"])

    for same in ({"batch_size": 4, "dtype": "bfloat16"}, {"model": "./a"}, {"revision": "main"}, {"num_frames": 16}):
        with pytest.raises(MpoError, match=r"evaluate\.judges names 'vlm', the recipe's own judge"):
            check("vlm", **({"model": "a"} | same))
    for other in ({"model": "b"}, {"revision": "v2"}, {"template": "{question} Yes or no?"}):
        check("vlm", **({"model": "a"} | other))
    fields["judge"] = {"name": "pickscore"}
    with pytest.raises(MpoError, match=r"evaluate\.judges names 'pickscore', the recipe's own judge"):
        check("pickscore", model="yuvalkirstain/PickScore_v1")


def test_judges_that_look_at_other_media_are_refused(model_folder, tmp_path):
    fields = small_fields(model_folder, tmp_path)
    fields["judge"] = [fields["judge"], {"name": "videoreward"}]
    with pytest.raises(MpoError, match=r"judge\.name='videoreward' is about videos, but StableDiffusionPipeline makes"):
        plan(parse_recipe(fields, source="small"))
    clips = {**fields, "judge": fields["judge"][0], "evaluate": {**fields["evaluate"], "judges": [fields["judge"][1]]}}
    with pytest.raises(MpoError, match=r"evaluate\.judges\.name='videoreward' is about videos"):
        plan(parse_recipe(clips, source="small"))
    save_checklist(load_checklist("image"), own := tmp_path / "own.yaml")
    clips["evaluate"]["judges"] = [{**fields["judge"][0], "checklist": str(own)}]
    with pytest.raises(MpoError, match=r"evaluate\.judges names 'measured', the recipe's own judge"):
        plan(parse_recipe(clips, source="small"))
    for judges in ([], [{**fields["judge"][0], "weight": -1.0}], [{"nam": "measured"}]):
        with pytest.raises(RecipeError, match="judge"):
            parse_recipe({**fields, "judge": judges}, source="small")
