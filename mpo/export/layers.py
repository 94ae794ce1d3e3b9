"""A LoRA as what it adds to each layer: the form between all forms on disk."""

# r rank; a linear layer's weight is (out, in), a convolution's (out, in, height, width)

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mpo import MpoError


@dataclass(frozen=True)
class LoraLayer:
    """Adds up x down to a layer's weight. The scale, alpha / r, is in `up`: no reader can take another for it."""

    down: Float[Tensor, "r in *k"]
    up: Float[Tensor, "out r *_"]  # a convolution's has two axes of 1 at the end

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def delta(self) -> Float[Tensor, "out in *k"]:
        """What is added to the layer's weight, float32."""
        return (self.up.float().flatten(1) @ self.down.float().flatten(1)).view(-1, *self.down.shape[1:])


Lora = Mapping[str, LoraLayer]  # by the layer's name in the denoiser, as diffusers has it


def from_peft(state: Mapping[str, Tensor], scale: float) -> dict[str, LoraLayer]:
    """Weights under peft's names (`NAME.lora_A.weight`, `NAME.lora_B.weight`), and alpha / rank -> layers, in float32."""
    ends = (".lora_A.weight", ".lora_B.weight")
    names = sorted(key.removesuffix(ends[0]) for key in state if key.endswith(ends[0]))
    unknown = sorted(state.keys() - {name + end for name in names for end in ends})
    if unknown:
        raise MpoError(
            f"the LoRA holds {unknown[0]!r}, which is no plain LoRA weight; only LoRAs of A and B can be exported"
        )
    return {n: LoraLayer(state[n + ends[0]].float(), state[n + ends[1]].float() * scale) for n in names}


def to_peft(lora: Lora) -> dict[str, Tensor]:
    """Layers -> weights under peft's names, for alpha = rank."""
    return {
        f"{name}.lora_{end}.weight": value.contiguous()
        for name, layer in lora.items()
        for end, value in (("A", layer.down), ("B", layer.up))
    }


def strengthened(lora: Lora, strength: float) -> dict[str, LoraLayer]:
    """The LoRA at another strength: 1 is as trained, 0 nothing."""
    return {name: LoraLayer(layer.down, layer.up * strength) for name, layer in lora.items()}


def added(loras: Sequence[Lora]) -> dict[str, LoraLayer]:
    """One LoRA that does what several do together, exactly: ranks add up where they share a layer."""
    sums: dict[str, LoraLayer] = {}
    for name in dict.fromkeys(name for lora in loras for name in lora):
        layers = [lora[name] for lora in loras if name in lora]
        sums[name] = LoraLayer(torch.cat([x.down for x in layers], 0), torch.cat([x.up for x in layers], 1))
    return sums


def resized(lora: Lora, rank: int) -> tuple[dict[str, LoraLayer], float]:
    """The nearest LoRA with at most this rank, and the error: the norm of what is lost, as a share of the whole's.

    By the singular values of each layer's delta (Eckart-Young), which come from small matrices: delta = up x down with
    QR decompositions of both.
    """
    layers, lost, whole = {}, 0.0, 0.0
    for name, layer in lora.items():
        q_up, r_up = torch.linalg.qr(layer.up.double().flatten(1))
        q_down, r_down = torch.linalg.qr(layer.down.double().flatten(1).T)
        u, s, v = torch.linalg.svd(r_up @ r_down.T)
        whole, lost = whole + float(s.square().sum()), lost + float(s[rank:].square().sum())
        root = s[:rank].sqrt()  # half of each singular value on either side: no overflow in half precision
        up, down = (q_up @ u[:, :rank]) * root, root[:, None] * (v[:rank] @ q_down.T)
        layers[name] = LoraLayer(
            down.float().view(-1, *layer.down.shape[1:]), up.float().view(-1, len(s[:rank]), *layer.up.shape[2:])
        )
    return layers, (lost / whole) ** 0.5 if whole else 0.0


def fused(layers: Sequence[LoraLayer | None], rows: Sequence[int]) -> LoraLayer:
    """Layers that share their input -> one whose weight is theirs, one below the other. None: a layer without a LoRA.

    rows: each layer's number of outputs. Downs are stacked, ups stand on the diagonal of blocks: ranks add up.
    """
    present = [layer for layer in layers if layer is not None]
    ups = [torch.zeros(n, 0) if layer is None else layer.up for layer, n in zip(layers, rows, strict=True)]
    return LoraLayer(torch.cat([layer.down for layer in present]), torch.block_diag(*ups))
