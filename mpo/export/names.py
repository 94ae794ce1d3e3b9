"""Other programs' names of a model's layers: how a row of their tables is applied."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mpo import MpoError
from mpo.export.layers import Lora, LoraLayer, fused


@dataclass(frozen=True)
class Naming:
    """How one program names the layers of one family's denoiser. All patterns are regular expressions."""

    prefix: str = ""
    rules: Sequence[tuple[str, str]] = ()  # (pattern, what takes its place), applied in turn to diffusers' name
    # Layers that the program holds as one weight: (diffusers' name of a part, with a group for its stem; what follows
    # the stem in the whole's name, before the rules; what follows it in the parts' names, in the order of their rows).
    fusions: Sequence[tuple[str, str, Sequence[str]]] = ()
    known: str = r".*"  # the names, without prefix, that the program has
    underscores: bool = False  # dots become underscores

    def rename(self, lora: Lora, num_outputs: Callable[[str], int], *, program: str) -> dict[str, LoraLayer]:
        """Layers by the program's names. num_outputs: of a layer of the denoiser, by diffusers' name.

        Raises MpoError for a layer that the program does not have.
        """
        layers: dict[str, LoraLayer] = {}
        for name in lora:
            whole, parts = self._whole_of(name)
            for pattern, replacement in self.rules:
                whole = re.sub(pattern, replacement, whole)
            if not re.fullmatch(self.known, whole):
                raise MpoError(f"{program} has no name for the layer {name!r}; train without it (train.lora_targets)")
            whole = self.prefix + (whole.replace(".", "_") if self.underscores else whole)
            if whole not in layers:
                rows = [num_outputs(part) for part in parts] if len(parts) > 1 else []
                layers[whole] = fused([lora.get(part) for part in parts], rows) if rows else lora[name]
        return layers

    def _whole_of(self, name: str) -> tuple[str, list[str]]:
        """The weight that a layer is in, before the rules, and diffusers' names of all layers in it."""
        for pattern, whole, parts in self.fusions:
            if match := re.fullmatch(pattern, name):
                return match[1] + whole, [match[1] + part for part in parts]
        return name, [name]


# Flux and HunyuanVideo as their authors wrote them: blocks of two streams, then of one; queries, keys and values in one
# weight, in the second kind with the first layer of the feed-forward.
STREAM_RULES = (
    (r"^transformer_blocks\.", "double_blocks."),
    (r"^single_transformer_blocks\.", "single_blocks."),
    (r"^(double_blocks\.\d+\.)attn\.to_out\.0$", r"\1img_attn.proj"),
    (r"^(double_blocks\.\d+\.)attn\.to_add_out$", r"\1txt_attn.proj"),
    (r"^(double_blocks\.\d+\.)attn\.(img|txt)_qkv$", r"\1\2_attn.qkv"),
    (r"^(double_blocks\.\d+\.)ff\.net\.(\d)(\.proj)?$", r"\1img_mlp.\2"),
    (r"^(double_blocks\.\d+\.)ff_context\.net\.(\d)(\.proj)?$", r"\1txt_mlp.\2"),
    (r"^(double_blocks\.\d+\.)norm1\.linear$", r"\1img_mod.lin"),
    (r"^(double_blocks\.\d+\.)norm1_context\.linear$", r"\1txt_mod.lin"),
    (r"^(single_blocks\.\d+\.)norm\.linear$", r"\1modulation.lin"),
    (r"^(single_blocks\.\d+\.)proj_out$", r"\1linear2"),
)
STREAM_FUSIONS = (
    (r"^(transformer_blocks\.\d+\.attn\.)to_[qkv]$", "img_qkv", ("to_q", "to_k", "to_v")),
    (r"^(transformer_blocks\.\d+\.attn\.)add_[qkv]_proj$", "txt_qkv", ("add_q_proj", "add_k_proj", "add_v_proj")),
    (
        r"^(single_transformer_blocks\.\d+\.)(?:attn\.to_[qkv]|proj_mlp)$",
        "linear1",
        ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    ),
)
STREAM_LAYERS = r"double_blocks\.\d+\.(img|txt)_(attn\.(qkv|proj)|mlp\.[02]|mod\.lin)|single_blocks\.\d+\.(linear[12]|modulation\.lin)"
