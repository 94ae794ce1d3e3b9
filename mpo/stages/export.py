"""Stage export: the LoRA as a file that stock diffusers loads, with a model card."""

from pathlib import Path

from mpo.export.diffusers import check_loads, has_loader, write_lora
from mpo.export.model_card import model_card
from mpo.models.families import denoiser_of, find_family
from mpo.models.loading import load_pipeline
from mpo.models.lora import lora_config, read_lora
from mpo.recipe import read_recipe
from mpo.run_folder.files import replacing
from mpo.run_folder.paths import RunFolder
from mpo.runtime.progress import say
from mpo.training.checkpoint_files import result_file


def export(folder: str | Path) -> None:
    """checkpoints/ -> lora/pytorch_lora_weights.safetensors, lora/README.md.

    Raises MpoError if what was written does not load back, in the stock pipeline, as it was trained.
    """
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    state = read_lora(result_file(run))
    pipeline = load_pipeline(recipe.model)
    config = lora_config(denoiser_of(pipeline), find_family(pipeline), recipe.train)
    card = model_card(run, recipe, peft=not has_loader(pipeline))
    with replacing(run.lora) as temporary:
        write_lora(temporary, pipeline, state, config)
        num_layers = check_loads(temporary, pipeline, state, recipe.train.alpha / recipe.train.rank)
        (temporary / "README.md").write_text(card, "utf-8")
    say(f"export: all {num_layers} layers of the LoRA load back as trained")
