"""The LoRA as ComfyUI's core loads it; of Stable Diffusion and SDXL also A1111 and Forge.

ComfyUI looks for each layer under names of its own. What it does not find it leaves out, with a line in its log alone,
and it reads alpha from `NAME.alpha`, never from metadata. So the scale is in the weights, and where an alpha is written
it is the rank.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, tensor

from mpo import MpoError
from mpo.export.layers import Lora, LoraLayer, to_peft
from mpo.export.names import STREAM_FUSIONS, STREAM_LAYERS, STREAM_RULES, Naming

UNET = Naming("lora_unet_", underscores=True)  # of diffusers' names: A1111 and sd-scripts read them, too
_AS_DIFFUSERS = Naming("transformer.")

NAMINGS = {
    "stable_diffusion": UNET,
    "stable_diffusion_xl": UNET,
    "stable_diffusion_3": _AS_DIFFUSERS,
    "flux": _AS_DIFFUSERS,
    "flux2": replace(
        _AS_DIFFUSERS, known=r"(single_)?transformer_blocks\..*|x_embedder|context_embedder|norm_out\.linear|proj_out"
    ),
    "pixart_sigma": _AS_DIFFUSERS,
    "qwen_image": _AS_DIFFUSERS,
    "qwen_image_21": Naming(  # the feed-forward is one weight in some of its files
        "diffusion_model.", known=r"transformer_blocks\.\d+\.attn\.to_([qkv]|out\.0)"
    ),
    "z_image": _AS_DIFFUSERS,
    # It is a Flux there, whose names it does not have for what makes the modulation.
    "chroma": replace(_AS_DIFFUSERS, known=r"(single_)?transformer_blocks\..*|(x|context)_embedder|proj_out"),
    "lumina2": Naming(
        "diffusion_model.",
        rules=(
            (r"\.attn\.to_out\.0$", ".attention.out"),
            (r"\.feed_forward\.linear_([123])$", r".feed_forward.w\1"),
            (r"\.norm1\.linear$", ".adaLN_modulation.1"),
        ),
        fusions=((r"^(.*\.\d+\.)attn\.to_[qkv]$", "attention.qkv", ("attn.to_q", "attn.to_k", "attn.to_v")),),
        known=r"(layers|(noise|context)_refiner)\.\d+\.(attention\.(qkv|out)|feed_forward\.w[123]|adaLN_modulation\.1)",
    ),
    "hidream_image": _AS_DIFFUSERS,
    "ltx": replace(
        _AS_DIFFUSERS,
        prefix="diffusion_model.",
        rules=((r"^proj_in$", "patchify_proj"), (r"^time_embed\.", "adaln_single.")),
    ),
    "cogvideox": Naming(
        "diffusion_model.",
        rules=(
            (r"^transformer_blocks\.", "blocks."),
            (r"\.attn1\.to_([qkv])$", r".\1"),
            (r"\.attn1\.to_out\.0$", ".attn_out"),
            (r"\.ff\.net\.0\.proj$", ".ff_proj"),
            (r"\.ff\.net\.2$", ".ff_out"),
        ),
        known=r"blocks\.\d+\.([qkv]|attn_out|ff_proj|ff_out|norm[12]\.linear)",
    ),
    "wan": Naming(
        "diffusion_model.",
        rules=(
            (r"\.attn1\.", ".self_attn."),
            (r"\.attn2\.", ".cross_attn."),
            (r"\.to_([qkv])$", r".\1"),
            (r"\.to_out\.0$", ".o"),
            (r"\.ffn\.net\.0\.proj$", ".ffn.0"),
            (r"\.ffn\.net\.2$", ".ffn.2"),
        ),
        known=r"blocks\.\d+\.((self|cross)_attn\.[qkvo]|ffn\.[02])",
    ),
    "hunyuan_video": Naming(
        "diffusion_model.",
        rules=(
            *STREAM_RULES,
            (r"^context_embedder\.token_refiner\.refiner_blocks\.", "txt_in.individual_token_refiner.blocks."),
            (r"^(txt_in\..*\d+\.)attn\.to_out\.0$", r"\1self_attn.proj"),
            (r"^(txt_in\..*\d+\.)attn\.qkv$", r"\1self_attn.qkv"),
            (r"^(txt_in\..*\d+\.)ff\.net\.(\d)(\.proj)?$", r"\1mlp.\2"),
        ),
        fusions=(*STREAM_FUSIONS, (r"^(.*\.refiner_blocks\.\d+\.attn\.)to_[qkv]$", "qkv", ("to_q", "to_k", "to_v"))),
        known=STREAM_LAYERS + r"|txt_in\.individual_token_refiner\.blocks\.\d+\.(self_attn\.(qkv|proj)|mlp\.[02])",
    ),
}

REFUSED = {
    "sana": "ComfyUI's core has no Sana; load the diffusers form with a custom node",
    "cogview4": "ComfyUI's core has no CogView 4; load the diffusers form with a custom node",
    "animatediff": "ComfyUI's core has no motion modules; AnimateDiff is a custom node with LoRAs of its own kind",
}


def check_family(family: str) -> None:
    """Raises MpoError if ComfyUI's core has no model of a family, named as its module in `mpo.models.families`."""
    if family not in NAMINGS:
        raise MpoError(REFUSED.get(family, f"how ComfyUI names the layers of {family} is not known"))


def how_to_load(file: str, family: str) -> str:
    """Where a user puts a file of this form."""
    words = f"`{file}` is the same LoRA for ComfyUI (put it in `models/loras`, load it with LoraLoaderModelOnly)"
    if NAMINGS[family] is UNET:
        words += (
            f", and for A1111 and Forge (put it in `models/Lora`, write `<lora:{Path(file).stem}:1>` in the prompt)"
        )
    return words + "."


def to_tensors(lora: Lora, family: str, num_outputs: Callable[[str], int]) -> dict[str, Tensor]:
    """Layers -> tensors by ComfyUI's names. num_outputs: of a layer of the denoiser, by diffusers' name.

    Raises MpoError for a family or a layer that ComfyUI does not have.
    """
    check_family(family)
    return in_words_of(NAMINGS[family], lora, num_outputs, program="ComfyUI")


def in_words_of(naming: Naming, lora: Lora, num_outputs: Callable[[str], int], *, program: str) -> dict[str, Tensor]:
    """Layers -> tensors by a program's names."""
    renamed = naming.rename(lora, num_outputs, program=program)
    if not naming.underscores:
        return to_peft(renamed)
    tensors = {}
    for name, layer in renamed.items():
        tensors |= {
            f"{name}.lora_down.weight": layer.down.contiguous(),
            f"{name}.lora_up.weight": layer.up.contiguous(),
            f"{name}.alpha": tensor(float(layer.rank)),
        }
    return tensors


def check_reads(file: Path, expected: Mapping[str, Tensor]) -> int:
    """Read a written file by a loader's rules and compare; returns how many weights it changes.

    Raises MpoError if a weight is missing, or changed otherwise than the tensors that were to be written say.
    """
    found, meant = layers_read(load_file(file)), layers_read(expected)
    same = {name for name in found.keys() & meant.keys() if _are_equal(found[name], meant[name])}
    wrong = sorted((found.keys() | meant.keys()) - same)
    if wrong:
        raise MpoError(
            f"export: {file.name} does not read back as it was written, such as {wrong[0]!r}; please report this"
        )
    return len(found)


def layers_read(tensors: Mapping[str, Tensor]) -> dict[str, LoraLayer]:
    """What a loader finds for each weight at strength 1: up x alpha / rank, where alpha = rank if there is none, and down.

    Their products, which are as large as the model's weights, are not taken.
    """
    layers = {}
    for up, down in ((".lora_up.weight", ".lora_down.weight"), (".lora_B.weight", ".lora_A.weight")):
        for name in (key.removesuffix(up) for key in tensors if key.endswith(up)):
            layer = LoraLayer(tensors[name + down], tensors[name + up])
            scale = float(tensors.get(f"{name}.alpha", layer.rank)) / layer.rank
            layers[name] = LoraLayer(layer.down, layer.up * scale)
    return layers


def _are_equal(one: LoraLayer, other: LoraLayer) -> bool:
    return one.down.equal(other.down) and one.up.equal(other.up)
