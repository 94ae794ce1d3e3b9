from typing import Any

import numpy as np
import pytest
from huggingface_hub import DatasetCard
from PIL import Image
from typer.testing import CliRunner

from mpo import MpoError
from mpo.cli import app
from mpo.data.preferences import read_preferences
from mpo.export.hub_dataset import publish, size_category
from mpo.recipe import Preferences
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from reward.media import read_image
from tests.helpers.pictures import datasets


def test_a_run_is_published_and_read_back_as_preferences(finished, tmp_path):
    output = tmp_path / "published"
    done = CliRunner().invoke(app, ["dataset", str(finished), "--output", str(output), "--quiet"])
    assert done.exit_code == 0, done.output
    run = RunFolder(finished)
    pairs = read_table(run.pairs, made_by="select").to_pylist()
    candidates = read_table(run.candidates_table, made_by="generate").to_pylist()
    scores = read_table(run.scores, made_by="score").to_pylist()
    card = DatasetCard((output / "README.md").read_text("utf-8"))  # huggingface_hub's own reader
    data = card.data.to_dict()
    assert [c["config_name"] for c in data["configs"]] == ["pairs", "candidates"]
    assert data["task_categories"] == ["text-to-image"]
    assert data["size_categories"] == ["n<1K"]
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
    read = list(read_preferences(Preferences(path=str(shard), layout="pairs"), "image"))
    for preference, pair in zip(read, pairs, strict=True):
        kept = np.asarray(Image.open(run.candidates / candidates[pair["chosen_id"]]["file"]))
        np.testing.assert_array_equal(np.asarray(read_image(preference.chosen)), kept)
    with pytest.raises(MpoError, match="exists; give a new folder"):
        publish(finished, output)


def test_a_folder_that_is_no_run_is_said(tmp_path):
    with pytest.raises(MpoError, match=r"is not a run: it has no recipe\.yaml; name a run folder"):
        publish(tmp_path / "absent", tmp_path / "published")


@pytest.mark.parametrize(
    ("num_rows", "category"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (999_999, "100K<n<1M"), (10**9, "n>1B")]
)
def test_size_categories_are_the_hubs(num_rows, category):
    assert size_category(num_rows) == category
