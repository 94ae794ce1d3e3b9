"""Spreads the frozen weights of a large network over several devices, if one cannot hold them.

The configuration of `accelerate launch` asks for it: FSDP2, or DeepSpeed's ZeRO-3. Either applies to the frozen weights
alone; the LoRA stays whole in every process, so its gradients, optimizer and checkpoints do not change.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator, DeepSpeedPlugin, FullyShardedDataParallelPlugin
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import OffloadPolicy, fully_shard

from mpo import MpoError
from mpo.models.families import denoiser_of
from mpo.models.loading import family_of_index, load_index
from mpo.recipe import Recipe
from mpo.runtime.processes import requested_sharder


def check_sharder(recipe: Recipe, micro_batch_size: int, num_processes: int) -> str | None:
    """How the launch configuration spreads the frozen weights: "fsdp", "deepspeed", or None if they stay whole.

    Raises MpoError for settings that would be ignored, and if processes could fall out of step: each forward
    gathers weights from all of them.
    """
    sharder = requested_sharder()
    if sharder is None:
        return None
    if num_processes == 1:
        raise MpoError(f"accelerate's configuration asks for {sharder} with 1 process; raise num_processes")
    sizes = recipe.model.sizes
    if micro_batch_size > 1 and (len(sizes) > 1 if sizes else recipe.preferences is not None):
        raise MpoError(
            f"{sharder} with samples of several sizes needs train.micro_batch_size=1, not {micro_batch_size}; or give one of model.sizes"
        )
    if micro_batch_size > 1 and getattr(family_of_index(load_index(recipe.model)), "ONE_LENGTH_A_FORWARD", False):
        raise MpoError(
            f"{sharder} needs train.micro_batch_size=1, not {micro_batch_size}, for {recipe.model.path}, whose prompts of different lengths go through the network apart"
        )
    if how := recipe.model.quantization.denoiser:
        raise MpoError(f"model.quantization.denoiser={how!r} does not work with {sharder}; set it to null")
    if recipe.model.offload:
        raise MpoError(f"model.offload={recipe.model.offload!r} does not work with {sharder}; set it to null")
    if recipe.train.compile:
        raise MpoError(f"train.compile=true does not work with {sharder}; set it to false")
    unheeded = _unheeded_fsdp() if sharder == "fsdp" else _unheeded_deepspeed()
    for field, remedy in unheeded:
        raise MpoError(f"accelerate's configuration: {field} is ignored here; {remedy}")
    return sharder


def _unheeded_fsdp() -> Iterator[tuple[str, str]]:
    plugin = FullyShardedDataParallelPlugin()
    if plugin.fsdp_version != 2:
        yield f"fsdp_version={plugin.fsdp_version}", "set it to 2"
    if plugin.activation_checkpointing:
        yield "fsdp_activation_checkpointing", "set train.gradient_checkpointing=true instead"
    if plugin.cpu_ram_efficient_loading:
        yield "fsdp_cpu_ram_efficient_loading", "set it to false"


def _unheeded_deepspeed() -> Iterator[tuple[str, str]]:
    plugin = DeepSpeedPlugin()
    if plugin.zero_stage != 3:
        words = "stages 1 and 2 spread what is trained, which is small here: set it to 3, or launch with ddp.yaml"
        yield f"zero_stage={plugin.zero_stage}", words
    if plugin.offload_optimizer_device not in (None, "none"):
        yield "offload_optimizer_device", "the optimizer of a LoRA is small: set it to none"


def shard_frozen(pipeline: Any, sharder: str, accelerator: Accelerator) -> None:
    """Shard the pipeline's denoiser in place and move it from the CPU to this process's device, piece by piece.

    Nothing else changes, except rounding. Raises MpoError if DeepSpeed is missing.
    """
    denoiser = denoiser_of(pipeline)
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module) and component is not denoiser:
            component.to(accelerator.device)
    {"fsdp": _fully_shard, "deepspeed": _zero_3}[sharder](denoiser, accelerator)
    for parameter in denoiser.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(accelerator.device)


def _fully_shard(denoiser: Any, accelerator: Accelerator) -> None:
    plugin: Any = FullyShardedDataParallelPlugin()
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    lora = {parameter for parameter in denoiser.parameters() if parameter.requires_grad}
    names = denoiser._no_split_modules or []
    blocks = [module for module in denoiser.modules() if type(module).__name__ in names]
    for module in [*reversed(blocks), denoiser]:  # inner modules before those that hold them
        fully_shard(
            module, mesh=mesh, ignored_params=lora, reshard_after_forward=plugin.reshard_after_forward,
            offload_policy=plugin.cpu_offload or OffloadPolicy(),
        )  # fmt: skip


def _zero_3(denoiser: Any, accelerator: Accelerator) -> None:
    try:
        import deepspeed  # type: ignore[import-not-found]
    except ImportError:
        raise MpoError("deepspeed is not installed; pip install 'mpo[deepspeed]', or launch with fsdp2.yaml") from None
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    given: dict[str, Any] = DeepSpeedPlugin().deepspeed_config["zero_optimization"]
    # Its "memory-efficient" linear layer would replace torch's in the whole program.
    zero = {"memory_efficient_linear": False} | {name: value for name, value in given.items() if value != "auto"}
    config = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": zero}
    offload = (zero.get("offload_param") or {}).get("device", "none")
    with _lora_aside(denoiser):
        deepspeed.zero.Init(module=denoiser, config_dict_or_path=config, remote_device=offload)
        deepspeed.initialize(model=denoiser, config=config)  # without an optimizer it only adds hooks that gather
    for buffer in denoiser.buffers():
        buffer.data = buffer.data.to(accelerator.device)


@contextmanager
def _lora_aside(denoiser: Any) -> Iterator[None]:
    """The network as if it had no LoRA, so that DeepSpeed, which shards all parameters, leaves it whole."""
    taken = [
        (layer, name, layer._modules.pop(name))
        for layer in denoiser.modules()
        if isinstance(layer, BaseTunerLayer)
        for name in layer.adapter_layer_names
        if name in layer._modules
    ]
    try:
        yield
    finally:
        for layer, name, modules in taken:
            layer._modules[name] = modules
