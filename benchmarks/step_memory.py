"""The plan's memory of a training step against one that is measured, on a CPU.

    python -m benchmarks.step_memory             # minutes

Networks have their classes' own layers, every width divided, and random weights. Measured are the bytes of all weights and of
the storages that operators make and that exist at once, over two steps of AdamW on a LoRA of rank 16: the reference's forward, the
policy's, the loss, its backward and the update, for one pair in float32. Computed is what `mpo run --dry-run` says of the
same configuration, counted without weights, but for what CUDA takes. Neither has what an allocator cannot use.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.model_sizes import configs, parts_of
from mpo.models.costs import RANK, count
from mpo.models.counting.gpu_kernels import kernels_of_a_gpu
from mpo.models.counting.inputs import conditioning_shapes, encoded
from mpo.models.counting.measuring import Alive
from mpo.models.counting.parts import Parts
from mpo.models.lora import inject_lora, lora_off
from mpo.planning.memory import Memory
from mpo.recipe import Train, load_recipe
from mpo.sizes import Size, size_fields
from mpo.training.objectives import denoising_error, diffusion_dpo

SD15, FLUX, COGVIDEOX = (
    "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "black-forest-labs/FLUX.1-dev",
    "zai-org/CogVideoX-2b",
)
# What is changed of the published configurations: the denoiser's, and the widths of what it is told.
SHAPES: dict[str, tuple[str, Mapping[str, Any], Size]] = {
    "Stable Diffusion 1.5, widths / 4": (
        SD15, {"block_out_channels": (80, 160, 320, 320), "norm_num_groups": 8}, Size(256, 256)
    ),
    "FLUX.1, 3 of its 57 blocks, width / 6": (
        FLUX, {"num_layers": 1, "num_single_layers": 2, "num_attention_heads": 4}, Size(256, 256)
    ),
    "CogVideoX-2B, 6 of its 30 blocks, width / 5": (
        COGVIDEOX,
        {"num_layers": 6, "num_attention_heads": 6, "sample_width": 30, "sample_height": 20, "sample_frames": 9},
        Size(240, 160, 9, 8.0),
    ),
}  # fmt: skip


def spec_of(name: str) -> tuple[dict[str, Any], Size]:
    model, changes, size = SHAPES[name]
    spec = copy.deepcopy(configs()[model])
    for encoder in spec["text_encoders"]:  # no part of a step: one layer is enough
        encoder["config"] |= {"num_layers": 1, "num_hidden_layers": 1}
    return {**spec, "denoiser": {**spec["denoiser"], **changes}}, size


def computed_gb(entry: dict[str, Any], size: Size, *, checkpointing: bool) -> float:
    """What the plan says of a step of one pair, without the autoencoder, which is not in what is measured."""
    entry = {**entry, "parameters": {**entry["parameters"], "vae": 0.0}, "trained_millions": entry["lora_millions"]}
    settings = [f"train.gradient_checkpointing={str(checkpointing).lower()}", "train.micro_batch_size=1"]
    settings += ["validation=null", "prompts.validation=null", "model.dtype=float32", "train.mixed_precision='no'"]
    settings += [f"train.rank={RANK}", "train.ema_decay=null", f"model.sizes={[size_fields(size)]}"]
    recipe = load_recipe("sdxl" if size.frames is None else "cogvideox-2b", settings)
    return Memory(recipe, entry, size).step()


def measured_gb(parts: Parts, shape: torch.Size, *, checkpointing: bool) -> float:
    """GB at the peak of two steps of one pair. parts: on the meta device. shape: of one picture's or clip's latents."""
    torch.manual_seed(0)
    denoiser = type(parts.denoiser).from_config(parts.denoiser.config)
    real = Parts(parts.pipeline_class, denoiser, parts.vae, parts.text_encoders, parts.others, parts.options)
    pipeline, family = real.pipeline(), parts.family
    denoiser.requires_grad_(False).train()
    settings = Train(
        beta=2000.0, learning_rate=1e-4, num_steps=1, batch_size=1, rank=RANK, alpha=float(RANK), checkpoint_interval_steps=1
    )  # fmt: skip
    inject_lora(denoiser, family, settings)
    if checkpointing:
        denoiser.enable_gradient_checkpointing()
    trained = [parameter for parameter in denoiser.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    conditioning = {name: torch.randn(2, *each) for name, each in conditioning_shapes(real).items()}
    conditioning |= {"guidance": torch.ones(2)} if getattr(denoiser.config, "guidance_embeds", False) else {}
    noisy, target, timesteps = torch.randn(2, *shape), torch.randn(2, *shape), torch.tensor([500, 500])
    weights = sum(tensor.numel() * tensor.element_size() for tensor in (*denoiser.parameters(), *denoiser.buffers()))
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), Alive() as alive:  # as a GPU would
        for _ in range(2):
            with lora_off(denoiser):
                reference = denoising_error(family.predict(pipeline, noisy, timesteps, conditioning), target)
            policy = denoising_error(family.predict(pipeline, noisy, timesteps, conditioning), target)
            diffusion_dpo(*policy.chunk(2), *reference.chunk(2), beta=2000.0).loss.mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    return (weights + alive.peak) / 1e9


def compare(name: str) -> list[tuple[str, float, float]]:
    """(plain or checkpointed, computed GB, measured GB)."""
    spec, size = spec_of(name)
    entry = count(parts_of(spec), size)
    parts = parts_of(spec)
    shape = torch.Size(latent_shape(parts, size))
    return [
        (kind, computed_gb(entry, size, checkpointing=on), measured_gb(parts, shape, checkpointing=on))
        for kind, on in (("plain", False), ("checkpointed", True))
    ]


def latent_shape(parts: Parts, size: Size) -> tuple[int, ...]:
    """Of one picture or clip."""
    with kernels_of_a_gpu():
        return tuple(encoded(parts, parts.pipeline(), size).shape[1:])


def main() -> None:
    print("| network | activations | computed, GB | measured, GB | ratio |\n|---|---|---|---|---|")
    for name in SHAPES:
        for kind, computed, measured in compare(name):
            print(f"| {name} | {kind} | {computed:.3f} | {measured:.3f} | {computed / measured:.2f} |", flush=True)


if __name__ == "__main__":
    main()
