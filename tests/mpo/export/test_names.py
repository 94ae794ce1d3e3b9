import pytest
import torch

from mpo import MpoError
from mpo.export.layers import LoraLayer
from mpo.export.names import Naming

NAMING = Naming(
    "other.",
    rules=((r"^blocks\.", "b."), (r"\.q$", ".query")),
    fusions=((r"^(blocks\.\d+\.)(?:k|v)$", "kv", ("k", "v")),),
    known=r"b\.\d+\.(query|kv)",
)


def layer(value: float) -> LoraLayer:
    return LoraLayer(torch.full((1, 3), float(value)), torch.ones(2, 1))


def test_names_are_renamed_and_parts_of_one_weight_joined():
    renamed = NAMING.rename(
        {"blocks.0.q": layer(1), "blocks.0.k": layer(2), "blocks.0.v": layer(3)}, lambda name: 2, program="It"
    )
    assert list(renamed) == ["other.b.0.query", "other.b.0.kv"]
    assert renamed["other.b.0.kv"].delta[:, 0].tolist() == [2, 2, 3, 3]


def test_a_part_without_a_lora_is_left_as_it_is():
    renamed = NAMING.rename({"blocks.7.v": layer(3)}, {"blocks.7.k": 4, "blocks.7.v": 2}.__getitem__, program="It")
    assert renamed["other.b.7.kv"].delta[:, 0].tolist() == [0, 0, 0, 0, 3, 3]


def test_a_layer_that_the_program_does_not_have_is_named():
    with pytest.raises(MpoError, match="It has no name for the layer 'head'; train without it"):
        NAMING.rename({"head": layer(1)}, lambda name: 2, program="It")
