import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from mpo.models.families import denoiser_of
from mpo.models.lora import load_with_lora
from mpo.recipe import parse_recipe
from mpo.runtime.freeing import freed_afterwards
from mpo.runtime.pieces import Piece, Work, do_share


class Loading(Work[int]):
    """Loads a model and does nothing with it."""

    description = "load"
    pieces = (Piece(0, 1, ()),)

    def __init__(self, made: Callable[[], Any]):
        self.made = made

    def load(self):
        return self.made()

    def is_done(self, piece):
        return False

    def do(self, held, piece, advance):
        advance(1)

    def words(self, piece):
        return ["one"]


@pytest.fixture
def collected_on_demand():
    """Python's own collections come when they like."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    "settings",
    [{}, {"offload": "networks"}, {"offload": "blocks"}, {"quantization": {"denoiser": "4bit"}}],
    ids=["whole", "networks", "blocks", "4bit"],
)
def test_a_work_frees_what_it_has_loaded(settings, fields, collected_on_demand):
    """Else two models in turn, such as base and tuned, or model and judge, take the memory of both."""
    fields["model"] |= settings
    fields["train"]["gradient_checkpointing"] = True
    recipe, layers = parse_recipe(fields, source="small"), []

    def load() -> Any:
        pipeline = load_with_lora(recipe, None)
        layers[:] = [weakref.ref(module) for module in denoiser_of(pipeline).modules()]
        return pipeline

    do_share(Loading(load))
    assert layers
    assert [layer() for layer in layers] == [None] * len(layers)


def test_a_function_frees_what_it_has_loaded(collected_on_demand):
    held: list[weakref.ref[nn.Module]] = []

    @freed_afterwards()
    def load() -> None:
        cycle = nn.Linear(1, 1)
        cycle.forward = cycle.forward  # as accelerate's hooks do
        held.append(weakref.ref(cycle))

    load()
    assert [each() for each in held] == [None]
