"""Whether a model can be trained as a recipe says: checked on its small files, before its weights are loaded."""

from collections.abc import Mapping
from typing import Any

import diffusers
import torch

from mpo import MpoError
from mpo.models.acceleration import check_attention
from mpo.models.loading import family_of_index, load_index, readable_config
from mpo.models.lora import inject_lora
from mpo.models.noise import check_scheduler
from mpo.recipe import Recipe


def check_model(recipe: Recipe) -> None:
    """Check what the model's small files show: its index, and the configurations of its scheduler and denoiser.

    Raises MpoError if the family is unknown or the model cannot be trained as the recipe says, ModelNotFoundError if there
    is no such model, and OfflineError if its small files are not in the cache and the hub cannot be reached.
    """
    model = recipe.model
    index = load_index(model)
    family = family_of_index(index)
    multiple = size_multiple(index)
    for width, height in model.sizes or ():
        if width % multiple or height % multiple:
            raise MpoError(
                f"model.sizes holds {[width, height]}: {index['_class_name']} takes multiples of {multiple}; use {[max(1, round(side / multiple)) * multiple for side in (width, height)]}"
            )
    name = "transformer" if "transformer" in index else "unet"
    scheduler_class, denoiser_class = (getattr(diffusers, index[part][1]) for part in ("scheduler", name))
    with readable_config(model) as source:
        scheduler = scheduler_class.from_pretrained(source, subfolder="scheduler", revision=model.revision)
        config = denoiser_class.load_config(source, subfolder=name, revision=model.revision)
    check_scheduler(scheduler, recipe.train, counts_tokens=hasattr(family, "num_tokens"))
    distilled_guidance(recipe, config)
    with torch.device("meta"):  # its layers, without memory for their weights
        denoiser = denoiser_class.from_config(config)
        check_attention(denoiser, recipe.train)
        inject_lora(denoiser, family, recipe.train)


def size_multiple(index: Mapping[str, Any]) -> int:
    """Width and height of the model's pictures are multiples of this many pixels. Raises MpoError if the family is unknown."""
    return getattr(family_of_index(index), "SIZE_MULTIPLE", 8)


def distilled_guidance(recipe: Recipe, denoiser_config: Mapping[str, Any]) -> float | None:
    """The guidance scale that a network with distilled guidance is trained at; None for other networks."""
    given = recipe.train.distilled_guidance
    if not denoiser_config.get("guidance_embeds", False):
        if given is not None:
            raise MpoError(f"train.distilled_guidance={given}: this model has no distilled guidance; remove it")
        return None
    if given is None and recipe.generate is None:
        raise MpoError(
            "train.distilled_guidance is missing, and there is no generate.guidance_scale to use instead; give it a value"
        )
    return recipe.generate.guidance_scale if given is None and recipe.generate else given
