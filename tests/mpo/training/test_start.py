"""What a recipe's `start` may name: the LoRA is checked before anything is sampled."""

import shutil

import pytest

from mpo import MpoError
from mpo.models.loading import load_pipeline
from mpo.models.lora import add_lora, load_lora
from mpo.recipe import read_recipe
from mpo.run_folder.paths import RunFolder
from mpo.training.checkpoint_files import result_file
from mpo.training.start import check_start, start_file


def test_a_run_or_its_file_can_be_started_from(finished, tmp_path):
    recipe = read_recipe(finished / "recipe.yaml")
    file = result_file(RunFolder(finished))
    shutil.copyfile(file, tmp_path / "mine.safetensors")
    assert start_file(str(finished)) == file
    for start in (str(finished), str(tmp_path / "mine.safetensors")):
        check_start(recipe.model_copy(update={"start": start}))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"rank": 2}, r"has a LoRA of rank 4, and train\.rank is 2; give the same"),
        ({"alpha": 5.0}, r"was trained with alpha 8, and train\.alpha is 5; give the same"),
    ],
)
def test_another_rank_or_alpha_is_refused(finished, train, message):
    recipe = read_recipe(finished / "recipe.yaml")
    changed = {"start": str(finished), "train": recipe.train.model_copy(update=train)}
    with pytest.raises(MpoError, match=message):
        check_start(recipe.model_copy(update=changed))


def test_a_file_that_is_cut_off_is_said(finished, tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(result_file(RunFolder(finished)).read_bytes()[:100])
    recipe = read_recipe(finished / "recipe.yaml").model_copy(update={"start": str(tmp_path / "cut.safetensors")})
    with pytest.raises(MpoError, match=r"cannot be read .*; name another"):
        check_start(recipe)


def test_a_lora_of_another_rank_does_not_load(finished):
    recipe = read_recipe(finished / "recipe.yaml")
    denoiser = add_lora(load_pipeline(recipe.model), recipe.train.model_copy(update={"rank": 2}))
    with pytest.raises(MpoError, match=r"does not fit the model's LoRA .*train\.rank"):
        load_lora(denoiser, result_file(RunFolder(finished)))
