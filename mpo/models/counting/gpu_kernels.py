"""Attention, norms and experts as a GPU would run them: on the meta device torch falls back on forms that keep far more."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers.models.transformers import transformer_hidream_image as hidream
from torch import Tensor

from mpo.models.counting.inputs import zeros


def attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False, **_: Any,
) -> Tensor:  # fmt: skip
    """Flash attention without a mask and for heads up to 256, else the memory-efficient one."""
    if enable_gqa and key.shape[-3] != query.shape[-3]:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
    aten = torch.ops.aten
    if attn_mask is None and query.shape[-1] <= 256:
        return aten._scaled_dot_product_flash_attention(query, key, value, 0.0, is_causal, False, scale=scale)[0]
    mask = None if attn_mask is None else attn_mask.to(query).expand(*query.shape[:3], key.shape[2])
    return aten._scaled_dot_product_efficient_attention(query, key, value, mask, True, 0.0, False, scale=scale)[0]


class FusedRMSNorm(torch.autograd.Function):
    """Keeps its input and one number a row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, zeros(*x.shape[:-1], 1, dtype=torch.float32), *([] if weight is None else [weight]))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> Any:
        return grad[0], None


def even_experts(layer: Any, x: Tensor) -> Tensor:
    """HiDream's experts with equal shares of the tokens: which token goes where depends on values."""
    _, weights, _ = layer.gate(x)
    tokens = x.flatten(0, -2).repeat_interleave(layer.num_activated_experts, dim=0)
    shares = zip(layer.experts, tokens.tensor_split(len(layer.experts)), strict=True)
    made = torch.cat([expert(share) for expert, share in shares])
    mixed = (made.view(*weights.shape, -1) * weights.unsqueeze(-1)).sum(dim=1)
    return mixed.view_as(x) + layer.shared_experts(x)


own_patchify = hidream.HiDreamImageTransformer2DModel.patchify


def patchify(network: Any, latents: Tensor) -> tuple[Any, ...]:
    """HiDream's, with sizes as numbers: cutting pictures from patches asks for their values."""
    patches, masks, _, ids = own_patchify(network, latents)
    sizes = [tuple(side // network.config.patch_size for side in latents.shape[-2:])] * len(latents)
    return patches, masks, sizes, ids


@contextmanager
def kernels_of_a_gpu() -> Iterator[None]:
    def rms_norm(x: Tensor, shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
        return FusedRMSNorm.apply(x, weight)  # type: ignore[return-value]

    def where(condition: Tensor, *values: Any) -> Tensor:  # a condition whose values the network asked for, so not meta
        on_meta = any(isinstance(value, Tensor) and value.is_meta for value in values)
        return original(condition.to("meta") if on_meta else condition, *values)

    original = torch.where
    functional = torch.nn.functional
    with ExitStack() as stack:
        for owner, name, function in (
            (functional, "scaled_dot_product_attention", attention),
            (functional, "rms_norm", rms_norm),
            (torch, "rms_norm", rms_norm),
            (torch, "where", where),
            (hidream.MOEFeedForwardSwiGLU, "forward", even_experts),
            (hidream.HiDreamImageTransformer2DModel, "patchify", patchify),
        ):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, function)
        yield
