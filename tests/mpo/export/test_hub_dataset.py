from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from mpo import MpoError
from mpo.cli import app
from mpo.data.preferences import read_preferences
from mpo.export.hub_dataset import publish
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
    read = list(read_preferences(Preferences(path=str(shard), layout="pairs"), "image"))
    for preference, pair in zip(read, pairs, strict=True):
        kept = np.asarray(Image.open(run.candidates / candidates[pair["chosen_id"]]["file"]))
        np.testing.assert_array_equal(np.asarray(read_image(preference.chosen)), kept)
    with pytest.raises(MpoError, match="exists; give a new folder"):
        publish(finished, output)
