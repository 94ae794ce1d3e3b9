"""Spreading the frozen weights of a large network over several devices (FSDP2), for those that one cannot hold.

Only frozen weights are sharded; the LoRA is whole in every process, so that its gradients, optimizer and checkpoints
are as without.
"""

from typing import Any

from accelerate import Accelerator
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from mpo import MpoError
from mpo.recipe import Recipe


def check_shard(recipe: Recipe, micro_batch_size: int) -> None:
    """Raises MpoError where processes could fall out of step: each forward gathers weights from all of them."""
    if not recipe.train.shard:
        return
    if recipe.validation is not None:
        raise MpoError(
            "train.shard=true does not go with validation, which samples in each process apart; leave out either"
        )
    if recipe.model.sizes and len(recipe.model.sizes) > 1 and micro_batch_size > 1:
        raise MpoError(
            f"train.shard=true with {len(recipe.model.sizes)} model.sizes needs train.micro_batch_size=1, not {micro_batch_size}"
        )


def shard_frozen(denoiser: Any, accelerator: Accelerator) -> None:
    """Shard in place, block by block; weights move to the device. But for rounding, nothing else changes."""
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    lora = {parameter for parameter in denoiser.parameters() if parameter.requires_grad}
    names = denoiser._no_split_modules or []
    blocks = [module for module in denoiser.modules() if type(module).__name__ in names]
    for module in [*reversed(blocks), denoiser]:  # the inner before what holds them
        fully_shard(module, mesh=mesh, ignored_params=lora)
    for parameter in lora:
        parameter.data = parameter.data.to(accelerator.device)
