"""Stage export: the LoRA as a file that stock diffusers loads, with a model card."""

from pathlib import Path

from mpo.export.diffusers import write_lora
from mpo.export.model_card import model_card
from mpo.models.loading import load_pipeline
from mpo.models.lora import add_lora, load_lora
from mpo.recipe import read_recipe
from mpo.run_folder.files import replacing
from mpo.run_folder.paths import RunFolder
from mpo.training.checkpoints import final_lora


def export(folder: str | Path) -> None:
    """checkpoints/ -> lora/pytorch_lora_weights.safetensors, lora/README.md."""
    run = RunFolder(folder)
    if run.lora.exists():
        return
    recipe = read_recipe(run.recipe)
    pipeline = load_pipeline(recipe.model)
    denoiser = add_lora(pipeline, recipe.train)
    load_lora(denoiser, final_lora(run))
    card = model_card(run, recipe, peft=not hasattr(pipeline, "load_lora_weights"))
    with replacing(run.lora) as temporary:
        write_lora(temporary, pipeline, denoiser)
        (temporary / "README.md").write_text(card, "utf-8")
