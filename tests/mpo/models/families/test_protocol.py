"""Each family's module against the protocols that say what a family is."""

import importlib
import inspect
from types import FunctionType
from typing import Any

import pytest

from mpo.models.families import FAMILIES, Family, FamilyOptions, count_tokens

MODULES = sorted(set(FAMILIES.values()))
OPTIONAL_VALUES = {"SIZE_MULTIPLE": int, "EXTRA": tuple}
SHARED_BY_FLUX = {"pack", "unpack"}  # with Qwen-Image, which packs latents alike


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
    assert set(OPTIONAL) == {"num_tokens", "sampling_arguments"}
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
    assert extra == (SHARED_BY_FLUX if name.endswith(".flux") else set())


@pytest.mark.parametrize("name", MODULES)
def test_latents_become_tokens_in_patches_of_2x2_where_a_family_says(name):
    module = importlib.import_module(name)
    counted = count_tokens(module, (16, 128, 96))
    assert counted == (64 * 48 if hasattr(module, "num_tokens") else None)
