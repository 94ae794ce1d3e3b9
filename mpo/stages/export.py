"""Stage export: the LoRA as files that stock diffusers and ComfyUI load, with a model card."""

from pathlib import Path

from mpo import MpoError
from mpo.export import comfyui
from mpo.export.card_samples import write_samples
from mpo.export.convert import outputs_of
from mpo.export.diffusers import check_loads, has_loader, write_lora
from mpo.export.layers import from_peft
from mpo.export.model_card import model_card
from mpo.models.families import denoiser_of, family_name, find_family
from mpo.models.loading import load_pipeline
from mpo.models.lora import lora_config, read_lora
from mpo.models.offloading import offload
from mpo.recipe import read_recipe
from mpo.run_folder.files import replacing
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tensors import write_tensors
from mpo.runtime.freeing import freed_afterwards
from mpo.runtime.progress import say
from mpo.training.checkpoint_files import result_file


@freed_afterwards()
def export(folder: str | Path) -> None:
    """checkpoints/ -> lora/pytorch_lora_weights.safetensors, lora/NAME-comfyui.safetensors, lora/README.md, lora/samples/.

    Where ComfyUI's core has no such model, its file is left out, and the card says why. Raises MpoError if what was
    written does not load back as it was trained: the first in the stock pipeline, the second by ComfyUI's rules.
    """
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    state = read_lora(result_file(run))
    # diffusers takes its hooks off to load a LoRA, and cannot put them back on every device: they come afterwards.
    pipeline = load_pipeline(recipe.model, device="cpu" if recipe.model.offload else None)
    family, scale = family_name(pipeline), recipe.train.alpha / recipe.train.rank
    config = lora_config(denoiser_of(pipeline), find_family(pipeline), recipe.train)
    name = f"{recipe.name}-comfyui.safetensors"
    try:
        tensors = comfyui.to_tensors(from_peft(state, scale), family, outputs_of(pipeline))
        elsewhere = comfyui.how_to_load(name, family)
    except MpoError as error:  # the run is whole without it
        tensors, elsewhere = {}, f"There is no file for ComfyUI: {error}."
    with replacing(run.lora) as temporary:
        write_lora(temporary, pipeline, state, config)
        num_layers = check_loads(temporary, pipeline, state, scale)
        if tensors:
            write_tensors(temporary / name, tensors, {"format": "pt"})
            comfyui.check_reads(temporary / name, tensors)
        offload(pipeline, recipe.model)
        samples = write_samples(temporary, run, recipe, pipeline)
        card = model_card(run, recipe, peft=not has_loader(pipeline), elsewhere=elsewhere, samples=samples)
        (temporary / "README.md").write_text(card, "utf-8")
    say(f"export: all {num_layers} layers of the LoRA load back as trained. {elsewhere}")
