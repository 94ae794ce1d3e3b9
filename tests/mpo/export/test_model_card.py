import re
import subprocess
import sys

from huggingface_hub import ModelCard

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


def test_the_hub_can_read_the_card(finished):
    """By huggingface_hub's own reader: model, task, tags, licence, and samples that are there."""
    card = ModelCard((finished / "lora" / "README.md").read_text())
    data = card.data.to_dict()
    assert data["pipeline_tag"] == "text-to-image"
    assert data["library_name"] == "diffusers"
    assert data["base_model_relation"] == "adapter"
    assert {"lora", "text-to-image", "dpo"} <= set(data["tags"])
    assert len(data["widget"]) == 2  # of as many held-out prompts
    shown = re.findall(r"!\[(.*?)\]\((.*?)\)", card.text)
    assert len(shown) == 2 * 2 + 1  # and the strip
    for file in [file for _, file in shown] + [entry["output"]["url"] for entry in data["widget"]]:
        assert (finished / "lora" / file).is_file()


def test_the_licence_is_that_of_the_model(finished):
    recipe = read_recipe(finished / "recipe.yaml")
    for path, licence in {
        "embedded": ("apache-2.0", None),
        "stabilityai/x": ("other", "https://huggingface.co/stabilityai/x"),
        "/a/folder": (None, None),
    }.items():
        card = model_card(RunFolder(finished), recipe.model_copy(update={"model": Model(path=path)}))
        data = ModelCard(card).data.to_dict()
        assert (data.get("license"), data.get("license_link")) == licence


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
