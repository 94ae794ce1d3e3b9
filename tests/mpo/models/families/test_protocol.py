"""Each family's module against the protocols that say what a family is."""

import importlib
import inspect
from types import FunctionType
from typing import Any

import pytest

from mpo.models.families import FAMILIES, Family, FamilyOptions, size_rule_of
from mpo.sizes import SizeRule

MODULES = sorted(set(FAMILIES.values()))
OPTIONAL_VALUES = {
    "EXTRA": tuple,
    "FLOAT32_PARTS": tuple,
    "ONE_LENGTH_A_FORWARD": bool,
    "GUIDANCE_PASSES": str,
    "SCHEDULE_ARGUMENTS": tuple,
}
SHARED = {
    "mpo.models.families.flux": {"pack", "unpack"},  # with Qwen-Image, which packs latents alike
    "mpo.models.families.qwen_image": {"encode_clips"},  # with Wan, whose autoencoder its own comes from
}
CONFIGS = {
    "denoiser": {"patch_size": 2, "motion_max_seq_length": 32},
    "vae": {
        "block_out_channels": [1, 1, 1, 1], "temporal_compression_ratio": 4, "spatial_compression_ratio": 8,
        "spatio_temporal_scaling": [True, True, True, False], "patch_size": 4, "patch_size_t": 1,
    },
}  # fmt: skip


def functions_of(protocol: Any) -> dict[str, list[str]]:
    """Name -> parameters but for self."""
    members = {name: f for name, f in vars(protocol).items() if isinstance(f, FunctionType) and name[0] != "_"}
    return {name: list(inspect.signature(f).parameters)[1:] for name, f in members.items()}


def public(module: Any) -> set[str]:
    """What a module defines itself or says that it passes on."""
    own = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and (getattr(value, "__module__", None) == module.__name__ or name.isupper())
    }
    return own | set(module.__all__)


REQUIRED, OPTIONAL = functions_of(Family), functions_of(FamilyOptions)
OPTIONAL = {name: parameters for name, parameters in OPTIONAL.items() if name not in REQUIRED}


def test_the_protocols_are_read_whole():
    assert set(REQUIRED) == {"add_noise", "encode_media", "encode_prompts", "lora_targets", "predict"}
    assert set(OPTIONAL) == {"check_lora", "sampling_arguments", "shift_mu", "size_rule", "unpack_latents"}
    assert FamilyOptions.__annotations__.keys() == OPTIONAL_VALUES.keys()


@pytest.mark.parametrize("name", MODULES)
def test_a_family_has_what_the_protocol_says_and_no_more(name):
    module = importlib.import_module(name)
    assert isinstance(module, Family)
    for member, parameters in {**REQUIRED, **OPTIONAL}.items():
        if member in REQUIRED or hasattr(module, member):
            assert list(inspect.signature(getattr(module, member)).parameters) == parameters, member
    for member, kind in OPTIONAL_VALUES.items():
        assert isinstance(getattr(module, member, kind()), kind), member
    extra = public(module) - REQUIRED.keys() - OPTIONAL.keys() - OPTIONAL_VALUES.keys()
    assert extra == SHARED.get(name, set())


@pytest.mark.parametrize("name", MODULES)
def test_a_family_says_which_sizes_its_models_make(name):
    configs = {"denoiser": {**CONFIGS["denoiser"]}, "vae": CONFIGS["vae"]}
    if name.endswith(".wan"):
        configs["denoiser"]["patch_size"] = [1, 2, 2]
    if name.endswith(".ltx"):
        configs = {"denoiser": {"patch_size": 1}, "vae": {**CONFIGS["vae"], "spatial_compression_ratio": None}}
        configs["vae"]["temporal_compression_ratio"] = None
    rule = size_rule_of(importlib.import_module(name), configs)
    other = {
        "hidream_image": SizeRule("image", 16, area=1024 * 1024),
        "cogvideox": SizeRule("video", 16, 8, 1, fps=8.0), "animatediff": SizeRule("video", 8, max_frames=32, fps=8.0),
        "wan": SizeRule("video", 16, 4, 1, fps=16.0), "ltx": SizeRule("video", 32, 8, 1, fps=25.0),
        "hunyuan_video": SizeRule("video", 16, 4, 1, fps=24.0),
    }  # fmt: skip
    multiples = {"sana": 32, "qwen_image_21": 32, "stable_diffusion": 8, "stable_diffusion_xl": 8}
    family = name.rpartition(".")[2]
    assert rule == other.get(family, SizeRule("image", multiples.get(family, 16)))
