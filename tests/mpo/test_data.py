"""Data in (prompts, ready preferences) and out (a data set), each on real files."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer
from transformers import BertConfig, BertModel, BertTokenizerFast
from typer.testing import CliRunner

from mpo import MpoError
from mpo.cli import app
from mpo.data.preferences import Preference, fit, nearest_size, open_picture, read_preferences
from mpo.data.prompts import drop_similar, embed, read_prompt_sets, read_prompts
from mpo.export.hub_dataset import publish
from mpo.recipe import Preferences, Prompts, PromptSource, RecipeError, parse_recipe
from mpo.run import prepare, run_recipe, stages_of
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import datasets

PROMPTS = ["a red circle on a white background", "two blue stars in the desert", "a green heart on the sea"]


def source(path: Path | str, **fields) -> PromptSource:
    return PromptSource(path=str(path), **fields)


# Prompts


def test_prompts_come_from_every_kind_of_file(tmp_path):
    table = datasets.Dataset.from_dict({"prompt": [*PROMPTS, PROMPTS[0]], "text": ["x"] * 4})
    (tmp_path / "a.txt").write_text("\n".join(PROMPTS) + "\n\n", "utf-8")
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"prompt": f" {p} "}) for p in PROMPTS), "utf-8")
    table.to_csv(tmp_path / "a.csv")
    table.to_parquet(tmp_path / "a.parquet")
    table.save_to_disk(tmp_path / "disk")
    datasets.DatasetDict({"train": table, "test": table.select([1])}).save_to_disk(tmp_path / "splits")
    for name in ("a.txt", "a.jsonl", "a.csv", "a.parquet", "disk", "splits"):
        assert read_prompts(source(tmp_path / name), field="prompts.train") == PROMPTS, name
    assert read_prompts(source(tmp_path / "splits", split="test"), field="prompts.train") == [PROMPTS[1]]
    assert read_prompts(source(tmp_path / "a.csv", limit=2), field="prompts.train") == PROMPTS[:2]
    assert read_prompts(source(tmp_path / "a.csv", column="text"), field="prompts.train") == ["x"]


def test_a_limit_counts_different_prompts(tmp_path):
    """Data sets have a row for each picture or vote, and some without a text."""
    texts = [PROMPTS[0], PROMPTS[0], None, " ", PROMPTS[1], PROMPTS[1], PROMPTS[2]]
    datasets.Dataset.from_dict({"prompt": texts}).to_parquet(tmp_path / "a.parquet")
    assert read_prompts(source(tmp_path / "a.parquet", limit=2), field="prompts.train") == PROMPTS[:2]
    (tmp_path / "many.txt").write_text("\n".join(f"prompt {k % 50}" for k in range(100)), "utf-8")
    drawn = [
        read_prompts(source(tmp_path / "many.txt", limit=20, shuffle_seed=s), field="prompts.train") for s in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1]
    assert all(len(set(prompts)) == 20 for prompts in drawn)
    assert set(drawn[0]) != set(drawn[2])
    assert set(drawn[0]) != {f"prompt {k}" for k in range(20)}


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("none.jsonl", {}, r"prompts.train='.*none.jsonl' cannot be read \(no such file\); give a .txt"),
        ("a.csv", {"column": "caption"}, "has no column 'caption'; it has: prompt, number"),
        ("a.csv", {"column": "number"}, "holds other things than text; name another column"),
        ("no/such-data-set", {}, "prompts.train='.*no/such-data-set' cannot be read"),
    ],
)
def test_prompts_that_cannot_be_read_are_named(name, fields, message, tmp_path):
    (tmp_path / "a.csv").write_text("prompt,number\na red circle,1\n", "utf-8")
    path = tmp_path / name if "/" not in name else name
    with pytest.raises(MpoError, match=message):
        read_prompts(source(path, **fields), field="prompts.train")


def test_sets_that_share_a_prompt_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("a red circle\na blue star\n", "utf-8")
    (tmp_path / "b.txt").write_text("a blue star\n", "utf-8")
    (tmp_path / "c.txt").write_text("a heart\n", "utf-8")
    a, b, c = (str(tmp_path / f"{name}.txt") for name in "abc")
    with pytest.raises(MpoError, match=r"prompts.heldout shares 1 prompts with prompts.train, such as 'a blue star'"):
        read_prompt_sets(Prompts.model_validate({"train": a, "heldout": b}))
    with pytest.raises(MpoError, match=r"prompts.validation shares 1 prompts with prompts.heldout"):
        read_prompt_sets(Prompts.model_validate({"train": c, "heldout": b, "validation": a}))


WORDS = st.lists(
    st.sampled_from(["red", "blue", "green", "circle", "star", "heart", "sea", "desert", "night", "big", "small"]),
    min_size=1,
    max_size=6,
)


@given(st.lists(WORDS.map(" ".join), min_size=1, max_size=30), st.floats(0.1, 1.0), st.integers(1, 5))
@settings(deadline=None, max_examples=50)
def test_dropping_near_repetitions(texts, limit, block):
    """What stays is apart, what goes was near to something that stays, and the size of blocks does not matter."""
    from unittest.mock import patch

    kept = drop_similar(texts, limit)
    with patch("mpo.data.prompts.BLOCK", block):
        assert drop_similar(texts, limit) == kept
    vectors = TfidfVectorizer(ngram_range=(1, 2)).fit(texts)
    stay = vectors.transform(kept).toarray()
    similarity = stay @ stay.T - 2 * np.eye(len(kept))
    assert similarity.max() <= limit + 1e-9
    remaining = iter(texts)
    assert all(text in remaining for text in kept)  # in order
    all_similar = vectors.transform(texts).toarray() @ stay.T
    assert all(all_similar[i].max() > limit - 1e-9 for i, text in enumerate(texts) if text not in kept)


def test_training_prompts_near_to_held_out_ones_go(tmp_path):
    (tmp_path / "train.txt").write_text("a red circle on the sea today\na big green heart at night\n", "utf-8")
    (tmp_path / "heldout.txt").write_text("a red circle on the sea\n", "utf-8")
    fields = {"train": str(tmp_path / "train.txt"), "heldout": str(tmp_path / "heldout.txt"), "max_similarity": 0.7}
    train, heldout, _ = read_prompt_sets(Prompts.model_validate(fields))
    assert train == ["a big green heart at night"]
    assert heldout == ["a red circle on the sea"]


def test_similarity_by_a_text_encoder(tmp_path):
    """A BERT in a very small size: vectors are the masked means, of unit length, whatever shares their batch."""
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *["a", "red", "blue", "green", "circle", "star", "heart", "on", "the", "sea"],
    ]
    (tmp_path / "vocab.txt").write_text("\n".join(words), "utf-8")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    encoder = BertModel(config).eval()
    encoder.save_pretrained(tmp_path / "bert")
    tokenizer = BertTokenizerFast(vocab=str(tmp_path / "vocab.txt"))
    tokenizer.save_pretrained(tmp_path / "bert")
    texts = ["a red circle on the sea", "a star"]
    vectors = embed(texts, str(tmp_path / "bert"))
    with torch.no_grad():
        alone = encoder(**tokenizer([texts[1]], return_tensors="pt")).last_hidden_state[0].mean(dim=0)
    np.testing.assert_allclose(vectors[1], (alone / alone.norm()).numpy(), atol=1e-5)
    assert drop_similar([texts[0], texts[1], texts[0]], 0.999, by=str(tmp_path / "bert")) == texts
    with pytest.raises(MpoError, match=r"prompts.similarity='nothing-here' cannot be loaded"):
        embed(texts, "nothing-here")


# Ready preferences


def picture(value: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    noise = np.random.default_rng(value).integers(0, 60, (size[1], size[0], 3))
    return Image.fromarray((noise + value).astype(np.uint8))


def jpeg(value: int, size: tuple[int, int] = (32, 32)) -> bytes:
    buffer = io.BytesIO()
    picture(value, size).save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()


def pickapic(folder: Path, prompts: list[str] = PROMPTS) -> Path:
    """Columns and kinds of Pick-a-Pic v2's parquet files, with a tie and a repeated picture."""
    rows = {
        "caption": [prompts[0], prompts[1], prompts[2], prompts[0]],
        "jpg_0": [jpeg(10), jpeg(20), jpeg(30), jpeg(10)],
        "jpg_1": [jpeg(110), jpeg(120), jpeg(130), jpeg(140)],
        "label_0": [1.0, 0.0, 0.5, 0.0],
        "label_1": [0.0, 1.0, 0.5, 1.0],
        "has_label": [True] * 4,
        "user_id": [1, 2, 3, 4],
    }
    datasets.Dataset.from_dict(rows).to_parquet(folder / "pickapic.parquet")
    return folder / "pickapic.parquet"


def test_pick_a_pics_rows_are_read_and_ties_left_out(tmp_path):
    read = list(read_preferences(Preferences(path=str(pickapic(tmp_path)), layout="pickapic")))
    assert [p.prompt for p in read] == [PROMPTS[0], PROMPTS[1], PROMPTS[0]]
    assert read[0] == Preference(PROMPTS[0], jpeg(10), jpeg(110))
    assert read[1].chosen == jpeg(120)
    assert read[2] == Preference(PROMPTS[0], jpeg(140), jpeg(10))
    assert (
        len(list(read_preferences(Preferences(path=str(tmp_path / "pickapic.parquet"), layout="pickapic", limit=1))))
        == 1
    )


def test_pairs_as_files_as_pictures_and_as_a_folder_are_the_same(tmp_path):
    for side, value in (("chosen", 100), ("rejected", 10)):
        (tmp_path / "folder" / side).mkdir(parents=True)
        for k in range(2):
            picture(value + k).save(tmp_path / "folder" / side / f"{k}.png")
    for k in range(2):
        (tmp_path / "folder" / f"{k}.txt").write_text(PROMPTS[k], "utf-8")
    rows = [
        {"prompt": PROMPTS[k], "chosen": f"folder/chosen/{k}.png", "rejected": f"folder/rejected/{k}.png"}
        for k in range(2)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    sides = {s: [str(tmp_path / r[s]) for r in rows] for s in ("chosen", "rejected")}
    data = datasets.Dataset.from_dict({"prompt": PROMPTS[:2], **sides})
    data = data.cast_column("chosen", datasets.Image()).cast_column("rejected", datasets.Image())
    data.save_to_disk(tmp_path / "disk")
    for path, layout in (("folder", "folder"), ("pairs.jsonl", "pairs"), ("disk", "pairs")):
        read = list(read_preferences(Preferences.model_validate({"path": str(tmp_path / path), "layout": layout})))
        assert [p.prompt for p in read] == PROMPTS[:2]
        for k, preference in enumerate(read):
            for side, value in (("chosen", 100), ("rejected", 10)):
                opened = open_picture(getattr(preference, side))
                np.testing.assert_array_equal(np.asarray(opened), np.asarray(picture(value + k)))


def test_a_folder_with_a_gap_is_named(tmp_path):
    (tmp_path / "chosen").mkdir()
    settings = Preferences(path=str(tmp_path), layout="folder")
    with pytest.raises(MpoError, match="holds no chosen"):
        list(read_preferences(settings))
    picture(1).save(tmp_path / "chosen" / "a.png")
    with pytest.raises(MpoError, match=r"a.png has no rejected picture of its name"):
        list(read_preferences(settings))
    (tmp_path / "rejected").mkdir()
    picture(2).save(tmp_path / "rejected" / "a.png")
    with pytest.raises(MpoError, match=r"a.png has no text of its name"):
        list(read_preferences(settings))


def test_pictures_go_to_the_size_of_the_nearest_shape():
    sizes = ((64, 64), (96, 64), (64, 96))
    assert nearest_size(picture(1, (100, 90)), sizes) == (64, 64)
    assert nearest_size(picture(1, (100, 60)), sizes) == (96, 64)
    assert nearest_size(picture(1, (30, 50)), sizes) == (64, 96)
    wide = Image.new("RGB", (200, 100), "blue")
    wide.paste("red", (50, 0, 150, 100))
    assert np.asarray(fit(wide, (50, 50)))[25, 25].tolist() == [255, 0, 0]
    assert np.asarray(fit(wide, (50, 50)))[5, 5].tolist() == [255, 0, 0]  # the blue sides are cut off, nothing squeezed


def given_fields(fields: dict, path: Path, layout: str, strategy: str) -> dict:
    del fields["generate"], fields["prompts"]["train"]
    fields["preferences"] = {"path": str(path), "layout": layout}
    fields["model"]["sizes"] = [[32, 32], [48, 32]]
    fields["select"] = {"strategy": strategy, "margin": 0.0}
    return fields


def test_pictures_of_a_prompt_are_of_one_size(fields, tmp_path):
    """Of its first pair's; so that a judge may choose pairs among them anew."""
    rows = []
    for k, (prompt, size) in enumerate([(0, (48, 32)), (0, (32, 32)), (1, (32, 32))]):
        for side in ("chosen", "rejected"):
            picture(10 * k + 5 * (side == "chosen"), size).save(tmp_path / f"{side}-{k}.png")
        rows.append({"prompt": PROMPTS[prompt], "chosen": f"chosen-{k}.png", "rejected": f"rejected-{k}.png"})
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    fields = given_fields(fields, tmp_path / "pairs.jsonl", "pairs", "total")
    run_recipe(parse_recipe(fields, source="given"), tmp_path / "run", stages=("import-pairs",))
    run = RunFolder(tmp_path / "run")
    sizes = [
        (row["prompt_id"], open_picture(run.candidates / row["file"]).size)
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
        MpoError, match=r"pair 0 is of 36x32 pixels, and the model takes multiples of 8; set model.sizes"
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


@pytest.mark.parametrize("table", [1, 2, 3])
def test_a_gather_killed_between_its_tables_ends_the_same(table, fields, tmp_path, monkeypatch):
    """Also where a prompt too near to another was dropped, and its pictures with it."""
    fields["prompts"]["max_similarity"] = 0.4
    (tmp_path / "heldout.txt").write_text(PROMPTS[1].replace("stars", "rings") + "\n")
    fields = given_fields(fields, pickapic(tmp_path), "pickapic", "given")
    recipe = parse_recipe(fields, source="given")
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    run_recipe(recipe, whole.folder, stages=("import-pairs",))
    from mpo.run_folder.tables import write_table

    calls = []

    def dying(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == table:
            raise KeyboardInterrupt
        write_table(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("mpo.stages.import_pairs.write_table", dying)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(recipe, killed.folder, stages=("import-pairs",))
    run_recipe(recipe, killed.folder, stages=("import-pairs",))
    for name in ("prompts.parquet", "candidates.parquet", "preferences.parquet"):
        assert (whole.folder / name).read_bytes() == (killed.folder / name).read_bytes()
    assert len(read_table(whole.prompts, made_by="import-pairs")) == 1
    names = [sorted(p.name for p in run.candidates.iterdir()) for run in (whole, killed)]
    assert names[0] == names[1]


@pytest.mark.parametrize("moment", range(1, 7))
def test_a_killed_gather_goes_on_where_it_was(moment, fields, tmp_path, monkeypatch):
    """Stopped before each of its writes; what was read is not read again, and the tables and pictures are the same."""
    fields = given_fields(fields, pickapic(tmp_path), "pickapic", "given")
    recipe = parse_recipe(fields, source="given")
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    run_recipe(recipe, whole.folder, stages=("import-pairs",))
    from mpo.run_folder.files import replacing, sha256

    calls = []

    def dying(path: Path) -> Any:
        calls.append(path)
        if len(calls) == moment:
            raise KeyboardInterrupt
        return replacing(path)

    with monkeypatch.context() as patch:
        patch.setattr("mpo.stages.import_pairs.replacing", dying)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(recipe, killed.folder, stages=("import-pairs",))
    num_read = len(killed.imported.read_text().splitlines())
    assert num_read == (moment - 1) // 2
    opened = []
    from mpo.data.preferences import open_picture as opening

    monkeypatch.setattr("mpo.stages.import_pairs.open_picture", lambda stored: opened.append(1) or opening(stored))
    run_recipe(recipe, killed.folder, stages=("import-pairs",))
    assert len(opened) == 2 * (3 - num_read)
    for name in ("prompts.parquet", "candidates.parquet", "preferences.parquet", "gathered.jsonl"):
        assert (whole.folder / name).read_bytes() == (killed.folder / name).read_bytes()
    pictures = [{p.name: sha256(p) for p in run.candidates.iterdir()} for run in (whole, killed)]
    assert pictures[0] == pictures[1]


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
    assert "as people compared them" in (run.lora / "README.md").read_text("utf-8")
    assert run.report.exists()


def test_a_judge_may_choose_pairs_among_given_pictures(fields, tmp_path):
    recipe = parse_recipe(given_fields(fields, pickapic(tmp_path), "pickapic", "total"), source="judged")
    run_recipe(recipe, tmp_path / "run", stages=("import-pairs", "score", "select"))
    pairs = read_table(tmp_path / "run" / "pairs.parquet", made_by="select").to_pylist()
    assert {p["prompt_id"] for p in pairs} <= {0, 1}
    assert all(p["margin"] > 0 for p in pairs)
    assert len(pairs) > 2  # all of the three pictures of the first prompt are compared


def test_pairs_of_held_out_prompts_are_left_out_and_said(fields, tmp_path, capfd):
    (tmp_path / "heldout.txt").write_text(PROMPTS[1], "utf-8")
    recipe = parse_recipe(given_fields(fields, pickapic(tmp_path), "pickapic", "given"), source="given")
    run_recipe(recipe, tmp_path / "run", stages=("import-pairs", "select"))
    assert "left out 1 pairs of held-out prompts" in capfd.readouterr().err
    assert len(read_table(tmp_path / "run" / "pairs.parquet", made_by="select")) == 2


def test_pairs_of_two_sizes_and_broken_pictures_are_named(fields, tmp_path):
    rows = {"caption": [PROMPTS[0]], "jpg_0": [jpeg(1)], "jpg_1": [jpeg(2, (48, 32))], "label_0": [1.0]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "odd.parquet")
    fields = given_fields(fields, tmp_path / "odd.parquet", "pickapic", "given")
    fields["model"]["sizes"] = None
    with pytest.raises(MpoError, match=r"pair 0 differ in size .*set model.sizes"):
        run_recipe(parse_recipe(fields, source="given"), tmp_path / "run", stages=("import-pairs",))
    datasets.Dataset.from_dict(rows | {"jpg_1": [jpeg(2)[:200]]}).to_parquet(tmp_path / "broken.parquet")
    fields["preferences"]["path"] = str(tmp_path / "broken.parquet")
    with pytest.raises(MpoError, match="pair 0 cannot be read"):
        run_recipe(parse_recipe(fields, source="given"), tmp_path / "other", stages=("import-pairs",))


def test_sections_that_do_not_go_together_are_named(fields):
    with pytest.raises(RecipeError, match="give either a section 'generate' or a section 'preferences'"):
        parse_recipe(fields | {"preferences": {"path": "x", "layout": "pairs"}}, source="both")
    with pytest.raises(RecipeError, match=r"select.strategy='given' needs a section 'preferences'"):
        parse_recipe(fields | {"select": {"strategy": "given", "margin": 0.0}}, source="none")
    with pytest.raises(RecipeError, match=r"prompts.train.pathh is unknown; known here: path, column"):
        parse_recipe(fields | {"prompts": {"train": {"path": "x", "pathh": "x"}, "heldout": "y"}}, source="typo")


# Out


def test_a_run_is_published_and_read_back_as_preferences(finished, tmp_path):
    output = tmp_path / "published"
    done = CliRunner().invoke(app, ["dataset", str(finished), "--output", str(output), "--quiet"])
    assert done.exit_code == 0, done.output
    run = RunFolder(finished)
    pairs = read_table(run.pairs, made_by="select").to_pylist()
    candidates = read_table(run.candidates_table, made_by="generate").to_pylist()
    scores = read_table(run.scores, made_by="score").to_pylist()
    front = yaml.safe_load((output / "README.md").read_text("utf-8").split("---")[1])
    assert [c["config_name"] for c in front["configs"]] == ["pairs", "candidates"]
    cache = str(tmp_path / "cache")
    loaded: Any = datasets.load_dataset(str(output), "candidates", split="train", cache_dir=cache)
    assert loaded["total"] == [row["total"] for row in scores]
    assert loaded["alignment"] == [row["dimensions"][0] for row in scores]
    for row, candidate in zip(loaded, candidates, strict=True):
        kept = np.asarray(Image.open(run.candidates / candidate["file"]))
        np.testing.assert_array_equal(np.asarray(row["image"]), kept)
    default = datasets.load_dataset(str(output), split="train", cache_dir=cache)
    assert len(default) == len(pairs)
    assert default["margin"] == [row["margin"] for row in pairs]
    shard = next((output / "pairs").iterdir())
    read = list(read_preferences(Preferences(path=str(shard), layout="pairs")))
    for preference, pair in zip(read, pairs, strict=True):
        kept = np.asarray(Image.open(run.candidates / candidates[pair["chosen_id"]]["file"]))
        np.testing.assert_array_equal(np.asarray(open_picture(preference.chosen)), kept)
    with pytest.raises(MpoError, match="exists; give a new folder"):
        publish(finished, output)
