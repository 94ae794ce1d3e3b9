import io
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mpo import MpoError
from mpo.recipe import load_recipe, parse_recipe
from mpo.run import prepare, run_recipe, stages_of
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from reward.media import read_image
from tests.faults.kill import Moment, interrupted
from tests.helpers.pictures import datasets, jpeg, pickapic, picture
from tests.helpers.processes import mpo
from tests.helpers.recipes import (
    TRAIN_PROMPTS,
    given_fields,
)
from tests.helpers.runs import files_of


def test_pictures_of_a_prompt_are_of_one_size(fields, tmp_path):
    """Of its first pair's; so that a judge may choose pairs among them anew."""
    rows = []
    for k, (prompt, size) in enumerate([(0, (48, 32)), (0, (32, 32)), (1, (32, 32))]):
        for side in ("chosen", "rejected"):
            picture(10 * k + 5 * (side == "chosen"), size).save(tmp_path / f"{side}-{k}.png")
        rows.append({"prompt": TRAIN_PROMPTS[prompt], "chosen": f"chosen-{k}.png", "rejected": f"rejected-{k}.png"})
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    fields = given_fields(fields, tmp_path / "pairs.jsonl", "pairs", "total")
    run_recipe(parse_recipe(fields, source="given"), tmp_path / "run", stages=("import-pairs",))
    run = RunFolder(tmp_path / "run")
    sizes = [
        (row["prompt_id"], read_image(run.candidates / row["file"]).size)
        for row in read_table(run.candidates_table, made_by="import-pairs").to_pylist()
    ]
    assert sizes == [(0, (48, 32))] * 4 + [(1, (32, 32))] * 2
    fields["model"]["sizes"] = None
    with pytest.raises(MpoError, match=r"pair 1 differ in size from each other, or from others of their prompt"):
        run_recipe(parse_recipe(fields, source="given"), tmp_path / "whole", stages=("import-pairs",))
    fields["select"]["strategy"] = "given"
    run_recipe(parse_recipe(fields, source="given"), tmp_path / "as-they-are", stages=("import-pairs",))


def test_pictures_that_the_model_cannot_take_are_named(fields, tmp_path):
    for side in ("chosen", "rejected"):
        picture(1 + len(side), (36, 32)).save(tmp_path / f"{side}.png")
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "x", "chosen": "chosen.png", "rejected": "rejected.png"}))
    fields = given_fields(fields, tmp_path / "a.jsonl", "pairs", "given")
    fields["model"]["sizes"] = None
    with pytest.raises(
        MpoError,
        match=r"pair 0 has 36x32, but the model takes multiples of 8 pixels; set model.sizes, such as \[\[32, 32\]\]",
    ):
        run_recipe(parse_recipe(fields, source="given"), tmp_path / "run", stages=("import-pairs",))


def test_given_pairs_go_on_whatever_the_judge_can_read(fields, tmp_path):
    """No judge is asked about them, nor are the held-out prompts' files once the run is prepared."""
    texts = ["hello world", "another thing", "a third"]
    recipe = parse_recipe(given_fields(fields, pickapic(tmp_path, texts), "pickapic", "given"), source="given")
    prepare(recipe, tmp_path / "run")
    Path(fields["prompts"]["heldout"]).unlink()
    for _ in range(2):
        run_recipe(recipe, tmp_path / "run", stages=("import-pairs", "select"))
    assert RunFolder(tmp_path / "run").pairs.exists()


def test_a_source_of_equal_pictures_leaves_no_pair(fields, tmp_path):
    picture(1).save(tmp_path / "a.png")
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "x", "chosen": "a.png", "rejected": "a.png"}))
    recipe = parse_recipe(given_fields(fields, tmp_path / "a.jsonl", "pairs", "given"), source="given")
    with pytest.raises(MpoError, match="leaves no pair: all are ties or the same picture twice"):
        run_recipe(recipe, tmp_path / "run", stages=("import-pairs",))


@pytest.mark.parametrize("table", ["prompts", "candidates", "preferences"])
def test_an_import_that_ends_between_its_tables_is_finished(table, fields, tmp_path):
    """Also where a prompt too near to another was dropped, and its pictures with it."""
    fields["prompts"]["max_similarity"] = 0.4
    (tmp_path / "heldout.txt").write_text(TRAIN_PROMPTS[1].replace("stars", "rings") + "\n")
    recipe = parse_recipe(given_fields(fields, pickapic(tmp_path), "pickapic", "given"), source="given")
    whole, ended = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "ended")
    run_recipe(recipe, whole.folder, stages=("import-pairs",))
    with interrupted(ended.folder, Moment("os.rename", f"{table}.parquet", 1)):
        run_recipe(recipe, ended.folder, stages=("import-pairs",))
    assert not (ended.folder / f"{table}.parquet").exists()
    run_recipe(recipe, ended.folder, stages=("import-pairs",))
    assert len(read_table(whole.prompts, made_by="import-pairs")) == 1
    assert imported(ended) == imported(whole)


@pytest.mark.parametrize("picture", range(1, 7))
def test_an_import_goes_on_where_it_was(picture, fields, tmp_path):
    """Ended before each of its pictures. What was read is not read again: by then it could not be."""
    recipe = parse_recipe(given_fields(fields, pickapic(tmp_path), "pickapic", "given"), source="given")
    whole, ended = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "ended")
    run_recipe(recipe, whole.folder, stages=("import-pairs",))
    with interrupted(ended.folder, Moment("os.rename", "candidates/*.png", picture)):
        run_recipe(recipe, ended.folder, stages=("import-pairs",))
    num_read = len(ended.imported.read_text().splitlines())
    assert num_read == (picture - 1) // 2
    pickapic(tmp_path, num_broken=num_read)
    run_recipe(recipe, ended.folder, stages=("import-pairs",))
    assert imported(ended) == imported(whole)


def test_a_killed_import_ends_the_same(fields, recipe_file, tmp_path):
    """With SIGKILL, which leaves what was being written behind: it costs a process of its own."""
    recipe_file.write_text(yaml.safe_dump(given_fields(fields, pickapic(tmp_path), "pickapic", "given")))
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    run_recipe(load_recipe(str(recipe_file)), whole.folder, stages=("import-pairs",))
    moment = Moment("os.rename", "candidates/*.png", 4)
    arguments = ["run", recipe_file, "--quiet", "--until", "import-pairs", "--output", killed.folder]
    assert mpo(*arguments, kill=(killed.folder, moment)) == -signal.SIGKILL
    run_recipe(load_recipe(str(recipe_file)), killed.folder, stages=("import-pairs",))
    assert imported(killed) == imported(whole)


def imported(run: RunFolder) -> dict[str, bytes]:
    """What the stage has made, less what was being written when a process was killed."""
    return {name: data for name, data in files_of(run.folder).items() if not name.endswith(".part")}


def test_given_pairs_are_trained_as_they_are(fields, tmp_path):
    recipe = parse_recipe(given_fields(fields, pickapic(tmp_path), "pickapic", "given"), source="given")
    assert stages_of(recipe) == ("import-pairs", "select", "encode", "train", "evaluate", "export", "report")
    run_recipe(recipe, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    candidates = read_table(run.candidates_table, made_by="import-pairs").to_pylist()
    assert [row["prompt_id"] for row in candidates] == [0, 0, 0, 1, 1]  # the repeated picture once
    pairs = read_table(run.pairs, made_by="select").to_pylist()
    assert [(p["prompt_id"], p["chosen_id"], p["rejected_id"]) for p in pairs] == [(0, 0, 1), (1, 3, 4), (0, 2, 0)]
    for pair, values in zip(pairs, ((10, 110), (120, 20), (140, 10)), strict=True):
        for side, value in zip(("chosen", "rejected"), values, strict=True):
            kept = np.asarray(Image.open(run.candidates / candidates[pair[f"{side}_id"]]["file"]))
            np.testing.assert_array_equal(kept, np.asarray(Image.open(io.BytesIO(jpeg(value)))))
    assert not run.scores.exists()
    card = (run.lora / "README.md").read_text("utf-8")
    assert "as people compared them" in card
    assert "which was not asked about the training pairs" in card
    assert "also selected" not in card
    assert run.report.exists()


def test_a_judge_may_choose_pairs_among_given_pictures(fields, tmp_path):
    recipe = parse_recipe(given_fields(fields, pickapic(tmp_path), "pickapic", "total"), source="judged")
    run_recipe(recipe, tmp_path / "run", stages=("import-pairs", "score", "select"))
    pairs = read_table(tmp_path / "run" / "pairs.parquet", made_by="select").to_pylist()
    assert {p["prompt_id"] for p in pairs} <= {0, 1}
    assert all(p["margin"] > 0 for p in pairs)
    assert len(pairs) > 2  # all of the three pictures of the first prompt are compared


def test_pairs_of_held_out_prompts_are_left_out_and_said(fields, tmp_path, capfd):
    (tmp_path / "heldout.txt").write_text(TRAIN_PROMPTS[1], "utf-8")
    recipe = parse_recipe(given_fields(fields, pickapic(tmp_path), "pickapic", "given"), source="given")
    run_recipe(recipe, tmp_path / "run", stages=("import-pairs", "select"))
    assert "left out 1 pairs of held-out prompts" in capfd.readouterr().err
    assert len(read_table(tmp_path / "run" / "pairs.parquet", made_by="select")) == 2


def test_pairs_of_two_sizes_are_named(fields, tmp_path):
    rows = {"caption": [TRAIN_PROMPTS[0]], "jpg_0": [jpeg(1)], "jpg_1": [jpeg(2, (48, 32))], "label_0": [1.0]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "odd.parquet")
    fields = given_fields(fields, tmp_path / "odd.parquet", "pickapic", "given")
    fields["model"]["sizes"] = None
    with pytest.raises(MpoError, match=r"pair 0 differ in size .*set model.sizes"):
        run_recipe(parse_recipe(fields, source="given"), tmp_path / "run", stages=("import-pairs",))


def test_broken_pictures_are_named_and_the_rest_goes_on(fields, tmp_path, capfd):
    good = {"caption": [TRAIN_PROMPTS[0]], "jpg_0": [jpeg(1)], "jpg_1": [jpeg(2)], "label_0": [1.0]}
    rows = {name: values * 3 for name, values in good.items()} | {"jpg_1": [jpeg(2)[:200], jpeg(2), jpeg(3)]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "some.parquet")
    fields = given_fields(fields, tmp_path / "some.parquet", "pickapic", "given")
    run_recipe(parse_recipe(fields, source="given"), tmp_path / "run", stages=("import-pairs",))
    said = capfd.readouterr().err
    assert "left out 1 pairs that cannot be read, such as pair 0: picture" in said
    assert len(read_table(tmp_path / "run" / "preferences.parquet", made_by="import-pairs")) == 2
    datasets.Dataset.from_dict(good | {"jpg_1": [jpeg(2)[:200]]}).to_parquet(tmp_path / "none.parquet")
    fields["preferences"]["path"] = str(tmp_path / "none.parquet")
    with pytest.raises(MpoError, match=r"leaves no pair: .*cannot be read \(pair 0: picture .* cannot be decoded"):
        run_recipe(parse_recipe(fields, source="given"), tmp_path / "other", stages=("import-pairs",))
