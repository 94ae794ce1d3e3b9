"""Counting a calculation on the meta device: its work, what its results hold at once, and what autograd keeps of it."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


def millions(model: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def trained_millions(model: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) / 1e6


def measure(call: Callable[[], Any]) -> tuple[float, int]:
    """10^12 multiply-accumulates, and the most bytes that results of operators hold at once."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter, Alive() as alive:
        call()
    return counter.get_total_flops() / 2e12, alive.peak


def peak_bytes(call: Callable[[], Any]) -> int:
    """The second of `measure` alone, in a fifth of the time."""
    with torch.no_grad(), Alive() as alive:
        call()
    return alive.peak


class Alive(TorchDispatchMode):
    """Bytes of the storages that operators have made and that still exist."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.bytes = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in self.sizes and storage._cdata not in given:
                    self.sizes[storage._cdata] = storage.nbytes()
                    self.bytes += storage.nbytes()
                    weakref.finalize(storage, self._freed, storage._cdata)
        self.peak = max(self.peak, self.bytes)
        return result

    def _freed(self, key: int) -> None:
        self.bytes -= self.sizes.pop(key)


class Kept:
    """Bytes of the distinct storages that autograd keeps, without parameters and buffers."""

    def __init__(self, model: torch.nn.Module):
        self.skipped = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
        self.storages: dict[int, Any] = {}  # held, so that no address is used twice
        self.bytes = 0

    def hooks(self) -> Any:
        return torch.autograd.graph.saved_tensors_hooks(self._see, lambda tensor: tensor)

    def _see(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.skipped and storage._cdata not in self.storages:
            self.storages[storage._cdata] = storage
            self.bytes += storage.nbytes()
        return tensor


def kept_bytes(denoiser: Any, forward: Callable[[], Any]) -> tuple[int, int]:
    """Bytes kept for the backward of one forward: plain, and at the peak with gradient checkpointing."""
    denoiser.train()
    plain, blocks = Kept(denoiser), []

    def noted(block: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Stands in for checkpointing: recomputes nothing, only notes what the block keeps."""
        before = plain.bytes
        out = block(*arguments, **options)
        blocks.append(plain.bytes - before)
        return out

    denoiser.enable_gradient_checkpointing(gradient_checkpointing_func=noted)
    with plain.hooks():
        forward()
    denoiser.enable_gradient_checkpointing()
    between = Kept(denoiser)
    with between.hooks():
        forward()
    return plain.bytes, between.bytes + max(blocks)
