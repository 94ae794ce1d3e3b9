import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from mpo import MpoError
from mpo.export.layers import LoraLayer, added, from_peft, fused, resized, strengthened, to_peft

RANKS = st.integers(1, 5)
SEEDS = st.integers(0, 2**20)


def layer(seed: int, rank: int, *, conv: bool = False) -> LoraLayer:
    generator = torch.Generator().manual_seed(seed)
    kernel, ones = ((3, 3), (1, 1)) if conv else ((), ())
    return LoraLayer(
        torch.randn(rank, 6, *kernel, generator=generator), torch.randn(7, rank, *ones, generator=generator)
    )


@given(SEEDS, RANKS, st.floats(-2, 2), st.booleans())
def test_strength_scales_what_is_added(seed, rank, strength, conv):
    lora = {"x": layer(seed, rank, conv=conv)}
    torch.testing.assert_close(
        strengthened(lora, strength)["x"].delta, lora["x"].delta * strength, rtol=1e-4, atol=1e-5
    )


@given(SEEDS, RANKS, RANKS, st.booleans())
def test_several_add_up(seed, rank, other, conv):
    a, b, c = layer(seed, rank, conv=conv), layer(seed + 1, other, conv=conv), layer(seed + 2, other)
    both = added([{"x": a}, {"x": b, "y": c}])
    torch.testing.assert_close(both["x"].delta, a.delta + b.delta, rtol=1e-4, atol=1e-4)
    assert both["x"].rank == rank + other
    torch.testing.assert_close(both["y"].delta, c.delta, rtol=0, atol=0)


@given(SEEDS, RANKS, RANKS, st.booleans())
def test_resizing_loses_what_the_singular_values_say(seed, rank, target, conv):
    """Against numpy's own decomposition of the whole matrix; nothing is lost at the rank that it has."""
    lora = {"x": layer(seed, rank, conv=conv)}
    smaller, error = resized(lora, target)
    whole = lora["x"].delta.flatten(1).double()
    values = torch.linalg.svdvals(whole)
    assert error == pytest.approx(float((values[target:].square().sum() / values.square().sum()).sqrt()), abs=1e-5)
    assert smaller["x"].rank == min(rank, target)
    lost = (smaller["x"].delta.flatten(1).double() - whole).norm() / whole.norm()
    assert float(lost) == pytest.approx(error, abs=1e-4)
    assert smaller["x"].up.shape[2:] == lora["x"].up.shape[2:]


@given(SEEDS, RANKS)
def test_fused_layers_stand_below_one_another(seed, rank):
    a, b = layer(seed, rank), layer(seed + 1, rank + 1)
    whole = fused([a, None, b], [7, 4, 7])
    assert whole.rank == 2 * rank + 1
    torch.testing.assert_close(whole.delta, torch.cat([a.delta, torch.zeros(4, 6), b.delta]), rtol=1e-4, atol=1e-5)


def test_pefts_names_and_back_with_the_scale_in_the_weights():
    state = {"a.b.lora_A.weight": torch.ones(2, 3), "a.b.lora_B.weight": torch.ones(4, 2)}
    lora = from_peft(state, 1.5)
    assert lora["a.b"].delta.unique().tolist() == [3.0]
    assert to_peft(lora)["a.b.lora_B.weight"].unique().tolist() == [1.5]
    with pytest.raises(MpoError, match=r"holds 'a\.b\.lora_magnitude_vector', which is no plain LoRA weight"):
        from_peft(state | {"a.b.lora_magnitude_vector": torch.ones(4)}, 1.0)
