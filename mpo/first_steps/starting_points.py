"""Which shipped recipe a new one starts from: by the model's family, as far as it can be known without weights."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import diffusers

from mpo import MpoError
from mpo.models import SHIPPED
from mpo.models.counting.parts import build_parts, own_size
from mpo.models.families import FAMILIES, default_of
from mpo.models.loading import config_source, has_two_experts, load_index
from mpo.planning.memory import model_costs
from mpo.recipe import Model, load_recipe, shipped_recipes
from mpo.runtime.hub import OfflineError
from mpo.sizes import Size, parse_size
from reward.checklist import Kind
from reward.errors import did_you_mean

# A family's own recipe, or where there is none, that of the nearest: flow models learn at timesteps of their own.
RECIPES = {
    "StableDiffusionPipeline": "sd15",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusion3Pipeline": "sd35-medium",
    "FluxPipeline": "flux-dev",
    "Flux2Pipeline": "flux-dev",
    "Flux2KleinPipeline": "flux2-klein",
    "SanaPipeline": "sana",
    "PixArtSigmaPipeline": "sdxl",
    "QwenImagePipeline": "z-image",
    "QwenImage21Pipeline": "z-image",
    "ZImagePipeline": "z-image",
    "ChromaPipeline": "z-image",
    "Lumina2Pipeline": "z-image",
    "CogView4Pipeline": "z-image",
    "HiDreamImagePipeline": "z-image",
    "CogVideoXPipeline": "cogvideox-2b",
    "AnimateDiffPipeline": "cogvideox-2b",
    "WanPipeline": "wan21-1.3b",
    "LTXPipeline": "ltx",
    "HunyuanVideoPipeline": "wan21-1.3b",
}
OWN = {"embedded": "quickstart", "embedded-video": "quickstart-video"}


@dataclass(frozen=True)
class StartingPoint:
    """What is known of a model, and the recipe whose settings go with it."""

    recipe: str  # a shipped recipe's name
    pipeline: str  # the class of the model's pipeline
    is_of_family: bool  # whether that recipe is of the model's own family
    size: Size | None  # of what the model makes; None = as the recipe says
    index: Mapping[str, Any] | None  # the pipeline's index; None = it cannot be read here

    @property
    def kind(self) -> Kind:
        sizes = load_recipe(self.recipe).model.sizes
        return sizes[0].kind if sizes else "image"

    @property
    def has_two_experts(self) -> bool:
        return self.index is not None and has_two_experts(self.index)

    @property
    def ignores_guidance(self) -> bool:
        """Of a few-step model, as its index says."""
        return bool(self.index and self.index.get("is_distilled"))

    def sampling(self) -> dict[str, Any]:
        """Steps and guidance of the pipeline's call."""
        pipeline_class = getattr(diffusers, self.pipeline)
        guidance = "guidance_scale"
        if (
            guidance not in inspect.signature(pipeline_class.__call__).parameters
            or default_of(pipeline_class, guidance) is None
        ):
            guidance = "true_cfg_scale"  # Qwen-Image's
        return {
            "num_inference_steps": default_of(pipeline_class, "num_inference_steps"),
            "guidance_scale": float(default_of(pipeline_class, guidance)),
        }


def starting_point(model: Model, like: str | None = None) -> StartingPoint:
    """The recipe for a model: one for this very model, or one of its family; `like` names another.

    Raises ModelNotFoundError, MpoError for a family that is unknown or a `like` that is not shipped, and OfflineError if the
    family cannot be known without the hub.
    """
    if like is not None and like not in shipped_recipes():
        raise MpoError(
            f"--like={like!r} is not shipped{did_you_mean(like, shipped_recipes())}; shipped: {', '.join(shipped_recipes())}"
        )
    if model.path in SHIPPED:
        return StartingPoint(like or OWN[model.path], str(load_index(model)["_class_name"]), True, None, None)
    source = config_source(model)
    known = model_costs()["models"].get(source)
    index = None
    try:
        index = load_index(model)
        pipeline = str(index["_class_name"])
    except OfflineError as error:
        if known is None and like is None:
            raise OfflineError(f"{error}; or name the shipped recipe of its family, as in --like sdxl") from None
        pipeline = known["pipeline"] if known else _pipeline_of(str(like))
    if pipeline not in RECIPES:
        raise MpoError(f"model pipeline class {pipeline!r} belongs to no known family; known: {', '.join(FAMILIES)}")
    own = [name for name, path in _models().items() if path == model.path]
    usual = RECIPES[pipeline]
    recipe = like or (usual if usual in own or not own else own[0])
    is_of_family = _pipeline_of(recipe) == pipeline
    if recipe in own:
        return StartingPoint(recipe, pipeline, is_of_family, None, index)
    size = parse_size(known["size"]) if known else _own_size(model) if index else None
    return StartingPoint(recipe, pipeline, is_of_family, size, index)


@lru_cache(maxsize=1)
def _models() -> dict[str, str]:
    """The model's path of each shipped recipe."""
    return {name: load_recipe(name).model.path for name in shipped_recipes()}


def _pipeline_of(recipe: str) -> str:
    """The class of a shipped recipe's pipeline, without the hub."""
    path = _models()[recipe]
    if path in SHIPPED:
        return str(load_index(Model(path=path))["_class_name"])
    return model_costs()["models"][path]["pipeline"]


def _own_size(model: Model) -> Size | None:
    """What the model's small files say; None = they do not say."""
    try:
        return own_size(build_parts(model))
    except (
        RuntimeError,
        NotImplementedError,
        TypeError,
        AttributeError,
        KeyError,
    ):  # forwards that the meta device lacks
        return None
