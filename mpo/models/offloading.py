"""Weights that wait in the machine's memory: whole networks by diffusers' own hooks, and a denoiser's blocks one at a time.

diffusers offloads blocks, too, but sends each away after its forward, before its backward, and the LoRA with it, whose
optimizer stays behind. Here the frozen weights of the block that ran last stay until another one is called: with gradient
checkpointing a block is called again right before its backward. The LoRA's weights never leave.
"""

from typing import Any

import torch
from torch import nn

from mpo import MpoError
from mpo.models.families import denoisers_of
from mpo.recipe import Model
from mpo.runtime.processes import this_device


def offload_networks(pipeline: Any, device: torch.device | str) -> None:
    """Each network of a pipeline comes to the device when it is called, and leaves when the next one is."""
    pipeline.enable_model_cpu_offload(device=device)


def make_room(pipeline: Any, model: Model) -> None:
    """All networks that may wait leave the device, such as for a judge. They come back when they are called."""
    if model.offload:
        pipeline.maybe_free_model_hooks()


def blocks_of(denoiser: Any) -> list[nn.Module]:
    """Those that the network's class calls repeated or indivisible and that hold no other such, each checkpointed by itself.

    Without such names those in `transformer_blocks`; [] if there are none of these either.
    """
    named = (
        *(getattr(denoiser, "_no_split_modules", None) or ()),
        *(getattr(denoiser, "_repeated_blocks", None) or ()),
    )
    names = {name for name in named if "Block" in name}
    blocks = [module for module in denoiser.modules() if type(module).__name__ in names]
    inmost = [b for b in blocks if not any(type(m).__name__ in names for m in b.modules() if m is not b)]
    return inmost or list(getattr(denoiser, "transformer_blocks", ()))


class Blocks:
    """All but the LoRA's weights of a denoiser's blocks, of which one at a time is on the device.

    Weights are new objects each time that they come, so that what autograd has kept of the old ones stays right.
    """

    def __init__(self, denoiser: Any, device: torch.device | str):
        self.device = torch.device(device)
        self.held: nn.Module | None = None
        self.places: dict[nn.Module, list[tuple[nn.Module, str, torch.Tensor]]] = {}
        for block in blocks_of(denoiser):
            self.places[block] = [
                (module, name, self._kept(weight.data))
                for path, module in block.named_modules()
                for name, weight in module._parameters.items()
                if weight is not None and "lora_" not in path
            ]
            self._send_away(block)
            block.register_forward_pre_hook(self._bring)

    def _kept(self, weight: torch.Tensor) -> torch.Tensor:
        weight = weight.cpu()
        return weight.pin_memory() if self.device.type == "cuda" else weight

    def _send_away(self, block: nn.Module) -> None:
        for module, name, weight in self.places[block]:
            nothing = torch.empty(0, dtype=weight.dtype, device=self.device)
            module._parameters[name] = nn.Parameter(nothing, requires_grad=False)

    def _bring(self, block: nn.Module, _: Any) -> None:
        if self.held is block:
            return
        if self.held is not None:
            self._send_away(self.held)
        for module, name, weight in self.places[block]:
            # On the stream that computes, so that nothing runs before its weights are there.
            brought = weight.to(self.device, non_blocking=True)
            module._parameters[name] = nn.Parameter(brought, requires_grad=False)
        self.held = block


def offload(pipeline: Any, model: Model) -> None:
    """All that the recipe says, of a pipeline that was loaded whole, with its LoRA, on the CPU."""
    if model.offload:
        offload_networks(pipeline, this_device())
    offload_blocks(pipeline, model)


def offload_blocks(pipeline: Any, model: Model) -> None:
    """Take the weights of the denoisers' blocks off the device if the recipe says so, once a LoRA is added."""
    if model.offload == "blocks":
        for denoiser in denoisers_of(pipeline):
            Blocks(denoiser, this_device())


def check_offloading(model: Model, denoiser: Any) -> None:
    """Raises MpoError if a network names no blocks that could come and go."""
    if model.offload == "blocks" and not blocks_of(denoiser):
        raise MpoError(
            f"model.offload='blocks': {type(denoiser).__name__} does not say which of its layers are blocks; use 'networks'"
        )
