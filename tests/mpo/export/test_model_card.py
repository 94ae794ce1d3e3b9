import re
import subprocess
import sys

from mpo.export.model_card import model_card
from mpo.recipe import Model, read_recipe
from mpo.run_folder.paths import RunFolder
from tests.helpers.one_file import save_as_one_file
from tests.helpers.pipelines import build_pipeline


def test_the_card_says_how_it_was_made_and_what_it_is_not(finished):
    card = (finished / "lora" / "README.md").read_text()
    assert card.startswith("---\n")
    for words in ("Diffusion-DPO", "win rate", "No person has rated it", "num_candidates: 4"):
        assert words in card


def code_of(card: str) -> str:
    return card.split("```python\n")[1].split("```")[0]


def run_code(code: str, folder) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_cards_code_loads_model_and_lora(finished):
    """In a process of its own, as a reader runs it: some seconds of imports."""
    code = code_of((finished / "lora" / "README.md").read_text())
    run_code(code + "assert len(pipeline.get_list_adapters()['unet']) == 1\n", finished)


def test_the_card_of_a_model_in_one_file_loads_it(finished, model_folder, tmp_path):
    """The same, from a .safetensors file with its configuration beside it."""
    save_as_one_file(build_pipeline(), tmp_path / "small.safetensors")
    recipe = read_recipe(finished / "recipe.yaml")
    model = Model(path=str(tmp_path / "small.safetensors"), config=str(model_folder))
    card = model_card(RunFolder(finished), recipe.model_copy(update={"model": model}))
    assert not re.search("^base_model:", card, re.MULTILINE)  # the hub takes ids alone
    run_code(code_of(card), finished)


def test_the_hub_is_told_of_a_base_model_that_it_has(finished):
    recipe = read_recipe(finished / "recipe.yaml")
    model = Model(path="stabilityai/stable-diffusion-xl-base-1.0")
    card = model_card(RunFolder(finished), recipe.model_copy(update={"model": model}))
    assert "base_model: stabilityai/stable-diffusion-xl-base-1.0\n" in card
