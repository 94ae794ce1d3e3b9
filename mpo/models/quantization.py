"""Frozen weights in fewer bits: a network's linear layers as bitsandbytes has them, and a LoRA trained on top of these.

Layers are replaced one at a time once their weights are loaded, so that a folder, a hub id and one file go the same way,
and a CPU the way of a GPU (diffusers' own configuration of bitsandbytes refuses a CPU). "8bit" is LLM.int8()
(arXiv 2208.07339), "4bit" NF4 with quantized scales (QLoRA, arXiv 2305.14314). Backward, either makes the whole weights of
one layer again at a time and keeps none.
"""

import importlib.util
import logging
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import nn

from mpo import MpoError
from mpo.recipe import Model

# These hand their own linear layers the argument `input`, which bitsandbytes' do not have.
CALLED_BY_NAME = ("AnimateDiffTransformer3D",)


def check_quantization(model: Model) -> None:
    """Raises MpoError if the recipe asks for fewer bits and bitsandbytes is not installed."""
    for part, how in model.quantization.model_dump().items():
        if how and importlib.util.find_spec("bitsandbytes") is None:
            raise MpoError(f"model.quantization.{part}={how!r} needs bitsandbytes; pip install 'mpo[gpu]', or set null")


def quantizable(network: Any, how: str) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers of a network that "8bit" or "4bit" holds in fewer bits, by name.

    What the network keeps in float32 stays whole in 8 bits, whose products are float16, as does a head over a vocabulary,
    which shares its weights with the embeddings.
    """
    whole = set(getattr(network, "_keep_in_fp32_modules", None) or ()) if how == "8bit" else set()
    head = network.get_output_embeddings() if hasattr(network, "get_output_embeddings") else None
    for name, layer in network.named_modules():
        # Not its subclasses: torch's attention and others read their weights themselves.
        if type(layer) is not nn.Linear or layer is head or whole & set(name.split(".")):
            continue
        holder = network.get_submodule(name.rpartition(".")[0])
        if type(holder).__name__ not in CALLED_BY_NAME and (how == "8bit" or _can_be_packed(layer.weight)):
            yield name, layer


def quantize(network: Any, how: str, device: torch.device | str) -> Any:
    """Replace a network's linear layers, in place, by such of "8bit" or "4bit" on a device; all else stays as it is."""
    import bitsandbytes  # late: most runs need none

    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)  # it warns of float16 at each product
    for name, layer in list(quantizable(network, how)):
        holder, _, own = name.rpartition(".")
        setattr(network.get_submodule(holder), own, _quantized(bitsandbytes.nn, layer, how, device))
    # By these peft chooses its layers for bitsandbytes.
    network.is_loaded_in_8bit, network.is_loaded_in_4bit = how == "8bit", how == "4bit"
    return network


def _can_be_packed(weight: torch.Tensor) -> bool:
    """Whether its values, two in a byte, make up whole numbers of its own dtype: all but the smallest layers."""
    return weight.numel() % (2 * weight.element_size()) == 0


def _quantized(layers: Any, layer: nn.Linear, how: str, device: torch.device | str) -> nn.Module:
    weight, has_bias = layer.weight.data, layer.bias is not None
    sizes = (layer.in_features, layer.out_features, has_bias)
    with torch.device("meta"):
        if how == "8bit":
            made = _linear_that_moves_whole()(*sizes, has_fp16_weights=False, threshold=6.0)  # the paper's, section 3.2
        else:
            made = layers.Linear4bit(*sizes, compute_dtype=weight.dtype, quant_type="nf4", quant_storage=weight.dtype)
            made.support_avx512bf16_for_cpu = False  # it repacks weights for a kernel without gradients
    if how == "8bit":
        made.weight = layers.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    else:
        # Stored under the dtype of the weights: networks bring their activations to `weight.dtype`.
        made.weight = layers.Params4bit(
            weight, requires_grad=False, quant_type="nf4", quant_storage=weight.dtype, module=made
        )
    if has_bias:
        made.bias = nn.Parameter(layer.bias.data, requires_grad=False)
    made.register_forward_pre_hook(_in_autocasts_precision)
    return made.train(layer.training).to(device)  # which quantizes


@cache
def _linear_that_moves_whole() -> Any:
    """The linear layer in 8 bits, which also holds weights outside its parameters; here these move with its network."""
    from bitsandbytes.nn import Linear8bitLt

    class MovingLinear8bitLt(Linear8bitLt):
        def _apply(self, *arguments: Any, **options: Any) -> Any:
            super()._apply(*arguments, **options)
            holder: Any = self.state if self.state.CB is not None else self.weight
            if holder.CB is not None:
                holder.CB, holder.SCB = self.weight.data, holder.SCB.to(self.weight.device)
            return self

    return MovingLinear8bitLt


def _in_autocasts_precision(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
    """As autocast does for torch's own layers: bitsandbytes' answer in the precision of their input."""
    kind = inputs[0].device.type
    return (inputs[0].to(torch.get_autocast_dtype(kind)),) if torch.is_autocast_enabled(kind) else None
