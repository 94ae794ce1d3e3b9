"""Whether a model can be trained as a recipe says: checked on its small files, before its weights are loaded."""

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers
import torch

from mpo import MpoError
from mpo.models.acceleration import check_attention
from mpo.models.families import size_rule_of
from mpo.models.loading import denoiser_in, family_of_index, has_two_experts, load_configs, load_index
from mpo.models.lora import inject_lora
from mpo.models.noise import check_scheduler, trained_range
from mpo.models.offloading import check_offloading
from mpo.models.quantization import check_quantization
from mpo.models.schedulers import build_scheduler
from mpo.recipe import Model, Recipe
from mpo.sizes import SizeRule
from reward.judges import suggested_checklist
from reward.judging import checklist_of


def check_model(recipe: Recipe) -> None:
    """Check what the model's small files show: its index, and the configurations of its scheduler and denoiser.

    Raises MpoError if the family is unknown or the model cannot be trained as the recipe says, ModelNotFoundError if there
    is no such model, and OfflineError if its small files are not in the cache and the hub cannot be reached.
    """
    check_medium(recipe)
    model = recipe.model
    index = load_index(model)
    family = family_of_index(index)
    _check_parts(model, index)
    check_quantization(model)
    configs = load_configs(model)
    if model.vae_tiling and not hasattr(getattr(diffusers, index["vae"][1]), "enable_tiling"):
        raise MpoError(f"model.vae_tiling: the autoencoder {index['vae'][1]} of this model has no tiles; remove it")
    parts = ("scheduler", denoiser_in(index, model))
    scheduler_class, denoiser_class = (getattr(diffusers, index[part][1]) for part in parts)
    scheduler = scheduler_class.from_config(configs["scheduler"])
    if configs["denoiser"].get("time_cond_proj_dim"):
        raise MpoError(
            f"model.path={model.path!r} takes guidance as a condition of its UNet, as latent consistency models do, which training does not give; use the model that it was distilled from"
        )
    check_scheduler(scheduler, recipe.train, knows_mu=hasattr(family, "shift_mu"))
    trained_range(recipe.train, scheduler, model.expert, index.get("boundary_ratio"))
    distilled_guidance(recipe, configs["denoiser"])
    _check_guidance(recipe, index)
    _check_sampling(recipe, family, scheduler, configs["denoiser"], index["_class_name"])
    with torch.device("meta"):  # its layers, without memory for their weights
        denoiser = denoiser_class.from_config(configs["denoiser"])
        check_attention(denoiser, recipe.train)
        check_offloading(model, denoiser)
        inject_lora(denoiser, family, recipe.train)


def check_medium(recipe: Recipe) -> None:
    """The first part of `check_model`: what the model makes, in which sizes, and that the checklist is about that.

    Also for itself, before prompts and questions: a judge would find fault with those of the other medium.
    """
    model = recipe.model
    index = load_index(model)
    family, maker = family_of_index(index), index["_class_name"]
    if model.is_one_file and not hasattr(getattr(diffusers, maker), "from_single_file"):
        raise MpoError(
            f"model.path={model.path!r}: diffusers loads no {maker} from one file; give a folder or hub id in its own layout"
        )
    _check_expert(model, index)
    rule = size_rule_of(family, load_configs(model))
    if rule.kind == "video" and not model.sizes:
        raise MpoError(f"model.sizes is missing: {maker} makes clips; give [[width, height, frames, frames a second]]")
    for size in model.sizes or ():
        rule.check(size, field="model.sizes", maker=maker)
    for judging in (*recipe.judge, *recipe.evaluate.judges):
        about = checklist_of(judging).kind
        if about != rule.kind:
            named = f"checklist={judging.checklist!r}" if judging.checklist else f"name={judging.name!r}"
            raise MpoError(
                f"{'judge' if judging in recipe.judge else 'evaluate.judges'}.{named} is about {about}s, but {maker} makes {rule.kind}s; use a checklist about {rule.kind}s, such as {suggested_checklist(rule.kind, judging.name)!r}"
            )


def size_rule(model: Model) -> SizeRule:
    """Which sizes a model makes. Raises as `load_index` does."""
    return size_rule_of(family_of_index(load_index(model)), load_configs(model))


def _check_expert(model: Model, index: Mapping[str, Any]) -> None:
    """Raises MpoError if the recipe does not say which of two networks is tuned, or names one of a model that has but one."""
    if has_two_experts(index) and model.expert is None:
        raise MpoError(
            f"model.expert is missing: this {index['_class_name']} has a network for high noise and another for low noise, and a run tunes one; give 'high' or 'low'"
        )
    if model.expert is not None and not has_two_experts(index):
        raise MpoError(f"model.expert={model.expert!r}: this model has one network for all noise; remove it")


def _check_parts(model: Model, index: Mapping[str, Any]) -> None:
    """Raises MpoError if the model was published without a part that its pipeline cannot do without."""
    pipeline_class = getattr(diffusers, index["_class_name"])
    parameters = inspect.signature(pipeline_class.__init__).parameters
    required = {name for name, p in parameters.items() if p.default is p.empty} - {"self"}
    optional = pipeline_class._optional_components
    # Where nothing is said to be optional, a part that the index names as none is missing, too.
    missing = [
        name
        for name in sorted(required - set(optional))
        if name not in index or (not optional and index[name][1] is None)
    ]
    if missing:
        raise MpoError(
            f"model.path={model.path!r} is without {' and '.join(missing)}, which {index['_class_name']} needs; load the pipeline with them in diffusers, save it to a folder, and give that"
        )


def _check_guidance(recipe: Recipe, index: Mapping[str, Any]) -> None:
    """Raises MpoError if the recipe asks for guidance that the pipeline ignores: of a few-step model, as its index says."""
    sections = {"generate": recipe.generate, "validation": recipe.validation, "evaluate": recipe.evaluate}
    for name, section in sections.items():
        if index.get("is_distilled") and section is not None and section.guidance_scale > 1:
            raise MpoError(
                f"{name}.guidance_scale={section.guidance_scale:g}: this {index['_class_name']} is distilled and ignores guidance; set 1.0, or use the base model"
            )


def _check_sampling(recipe: Recipe, family: Any, scheduler: Any, denoiser: Mapping[str, Any], maker: str) -> None:
    """Raises MpoError for a sampler that does not fit the model, or a range of guidance that its pipeline cannot keep to."""
    sections = {"generate": recipe.generate, "validation": recipe.validation, "evaluate": recipe.evaluate}
    for name, section in sections.items():
        if section is not None and section.scheduler is not None:
            try:
                build_scheduler(scheduler, section.scheduler, family)
            except MpoError as error:
                raise MpoError(f"{name}.scheduler={section.scheduler!r} {error}") from None
        if section is not None and section.guidance_range is not None:
            distilled = denoiser.get("guidance_embeds", False)
            if distilled or not hasattr(family, "GUIDANCE_PASSES"):
                why = "takes guidance into its one pass" if distilled else "makes its passes in a way of its own"
                raise MpoError(
                    f"{name}.guidance_range={list(section.guidance_range)}: {maker} {why}, so none can be spared; remove it"
                )


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
