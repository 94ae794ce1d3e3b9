"""The small model, its recipe, and a whole run of it."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in several processes, which share the cores

from pathlib import Path

import pytest
import yaml

from mpo.runtime.progress import set_quiet
from tests.helpers.recipes import small_fields


@pytest.fixture(autouse=True)
def _quiet() -> None:
    set_quiet(True)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.helpers.pipelines import build_pipeline  # late: the process that hands out the tests needs no diffusers

    folder = tmp_path_factory.mktemp("model")
    build_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def fields(model_folder: Path, tmp_path: Path) -> dict:
    return small_fields(model_folder, tmp_path)


@pytest.fixture
def recipe_file(fields: dict, tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(fields), "utf-8")
    return file


@pytest.fixture(scope="session")
def finished(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of the small recipe. Read only."""
    from mpo.recipe import parse_recipe
    from mpo.run import run_recipe

    set_quiet(True)
    folder = tmp_path_factory.mktemp("finished")
    run_recipe(parse_recipe(small_fields(model_folder, folder), source="small"), folder / "run")
    return folder / "run"
