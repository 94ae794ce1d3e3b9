"""A training step against the usual script's: steps a second and peak memory, as ratios.

    python -m benchmarks.train_step                  # SD-1.5-shaped and SDXL-shaped, widths divided by four
    python -m benchmarks.train_step --shapes sd15    # Stable Diffusion 1.5 in its own size at 512x512; 12 GiB, minutes
    python -m benchmarks.train_step --shapes cogvideox-2b-quarter wan-1.3b-quarter    # clips; tens of minutes

"usual": a plain transcription of the step that published scripts run (VAE and text encoder each step, policy forward,
reference forward with the LoRA off, backward, AdamW). The others are `mpo.stages.train.train` itself on the same model, LoRA,
batch and pictures. "floor" is policy forward, backward and reference forward alone, on tensors at hand. In the quarter
shapes every width is divided by four, in network, autoencoder and text encoder alike. A picture's sides are divided by two,
so that the proportions of network, attention and autoencoder stay. A clip's sides are divided by four or five and it has 17
frames: its attention, which grows with the square of that, is then a smaller part than in full size, and what the
autoencoder costs a larger one. Each row runs in a process of its own; the first steps are not timed.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLCogVideoX,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from mpo.embedded.train_base import build_tokenizer
from mpo.models.families import find_family
from mpo.models.loading import load_pipeline
from mpo.models.lora import add_lora, lora_off
from mpo.models.noise import is_flow
from mpo.recipe import dump_recipe, load_recipe
from mpo.run_folder.files import read_lines
from mpo.run_folder.media import SUFFIX, read_pixels, write_media
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import CANDIDATES, PAIRS, PROMPTS, write_table
from mpo.runtime.progress import set_quiet
from mpo.sizes import Size
from mpo.stages.encode import encode
from mpo.stages.train import train
from mpo.training.objectives import denoising_error, diffusion_dpo


@dataclass(frozen=True)
class Shape:
    """A model's own configuration, its widths divided; random weights."""

    model: Literal["sd15", "sdxl", "cogvideox-2b", "wan-1.3b"]
    divisor: int  # of widths
    size: Size
    batch: int  # pairs a step; two steps make an epoch


SHAPES = {
    "sd15-quarter": Shape("sd15", 4, Size(256, 256), batch=2),
    "sdxl-quarter": Shape("sdxl", 4, Size(512, 512), batch=1),
    "sd15": Shape("sd15", 1, Size(512, 512), batch=1),
    "cogvideox-2b-quarter": Shape("cogvideox-2b", 4, Size(176, 112, 17, 8.0), batch=1),
    "wan-1.3b-quarter": Shape("wan-1.3b", 4, Size(176, 112, 17, 16.0), batch=1),
}
TEXTS = [f"a red circle beside {word} stars" for word in ("two", "three", "four", "five")]
ROWS: dict[str, dict[str, Any]] = {
    "usual": {},
    "encoded data": {},
    "reference errors kept": {"reference_cache": "errors", "num_draws": 1},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "floor": {},
}


def build(shape: Shape) -> Any:
    """The model's configuration with every width divided."""

    def widths(*values: int) -> tuple[int, ...]:
        return tuple(value // shape.divisor for value in values)

    return (build_clips if shape.size.kind == "video" else build_pictures)(shape, widths)


def build_clips(shape: Shape, widths: Callable[..., tuple[int, ...]]) -> Any:
    """CogVideoX-2B or Wan 2.1 1.3B: heads become narrower, not fewer."""
    tokenizer = build_tokenizer(TEXTS)
    width, head, hidden = widths(4096, 64, 10240)
    encoder: Any = {
        "vocab_size": len(tokenizer), "d_model": width, "d_kv": head, "d_ff": hidden, "num_layers": 24, "num_heads": 64,
        "feed_forward_proj": "gated-gelu", "pad_token_id": 1,
    }  # fmt: skip
    if shape.model == "cogvideox-2b":
        blocks: Any = {"block_out_channels": widths(128, 256, 256, 512), "norm_num_groups": 32 // shape.divisor}
        (time,) = widths(512)
        transformer = CogVideoXTransformer3DModel(attention_head_dim=head, time_embed_dim=time, text_embed_dim=width)
        scheduler = CogVideoXDDIMScheduler(
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            snr_shift_scale=3.0,
        )
        text, vae = T5EncoderModel(T5Config(**encoder)), AutoencoderKLCogVideoX(**blocks)
        return CogVideoXPipeline(tokenizer, text, vae, transformer, scheduler)  # type: ignore[arg-type]
    base, head, feed, text_width = widths(96, 128, 8960, 4096)
    wan: Any = {"num_attention_heads": 12, "num_layers": 30, "in_channels": 16, "out_channels": 16}
    transformer = WanTransformer3DModel(attention_head_dim=head, ffn_dim=feed, text_dim=text_width, **wan)
    parts: Any = {
        "tokenizer": tokenizer, "text_encoder": UMT5EncoderModel(UMT5Config(**encoder)), "transformer": transformer,
        "vae": AutoencoderKLWan(base_dim=base), "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
    }  # fmt: skip
    return WanPipeline(**parts)


def build_pictures(shape: Shape, widths: Callable[..., tuple[int, ...]]) -> Any:
    """Stable Diffusion 1.5 or SDXL."""
    tokenizer = build_tokenizer(TEXTS)

    def text(width: int, layers: int, heads: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=4 * width, projection_dim=width,
            num_hidden_layers=layers, num_attention_heads=heads, max_position_embeddings=77,
            bos_token_id=0, eos_token_id=1, pad_token_id=1,
        )  # fmt: skip

    kinds: Any = {
        "block_out_channels": widths(128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    vae = AutoencoderKL(latent_channels=4, layers_per_block=2, norm_num_groups=32 // shape.divisor, **kinds)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    (small, large) = widths(768, 1280)
    parts: Any = {"vae": vae, "tokenizer": tokenizer, "scheduler": scheduler}
    parts["text_encoder"] = CLIPTextModel(text(small, 12, 12 if shape.divisor == 1 else 4))
    common: Any = {"sample_size": shape.size.width // 8, "norm_num_groups": 32 // shape.divisor}
    if shape.model == "sd15":
        blocks: Any = {"block_out_channels": widths(320, 640, 1280, 1280), "attention_head_dim": 8}
        unet = UNet2DConditionModel(cross_attention_dim=small, **common, **blocks)
        nothing: Any = None
        return StableDiffusionPipeline(
            unet=unet, safety_checker=nothing, feature_extractor=nothing, requires_safety_checker=False, **parts
        )
    (ids,) = widths(256)
    blocks = {
        "block_out_channels": widths(320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
    }
    unet = UNet2DConditionModel(
        cross_attention_dim=small + large, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=ids, projection_class_embeddings_input_dim=large + 6 * ids, **common, **blocks,
    )  # fmt: skip
    parts |= {"text_encoder_2": CLIPTextModelWithProjection(text(large, 32, 20)), "tokenizer_2": tokenizer}
    return StableDiffusionXLPipeline(unet=unet, add_watermarker=False, **parts)


def prepare(folder: Path, shape: Shape, settings: dict[str, Any], num_steps: int) -> RunFolder:
    """A run whose pairs are noise, not yet encoded."""
    suffix = SUFFIX[shape.size.kind]
    num_pairs = 2 * shape.batch
    run = RunFolder(folder / "run")
    run.candidates.mkdir(parents=True)
    torch.manual_seed(0)
    build(shape).save_pretrained(folder / "model")
    for k in range(2 * num_pairs):
        frames = () if shape.size.frames is None else (shape.size.frames,)
        noise = np.random.default_rng(k).integers(0, 256, (*frames, shape.size.height, shape.size.width, 3), np.uint8)
        write_media(run.candidates / f"{k}{suffix}", noise, fps=shape.size.fps)
    ids = list(range(2 * num_pairs))
    prompt_ids = [k // 2 for k in ids]
    write_table(run.prompts, {"prompt_id": list(range(num_pairs)), "prompt": TEXTS[:num_pairs]}, PROMPTS)
    table: dict[str, list[Any]] = {name: [None] * len(ids) for name in CANDIDATES.names}
    table |= {"candidate_id": ids, "prompt_id": prompt_ids, "file": [f"{k}{suffix}" for k in ids]}
    write_table(run.candidates_table, table, CANDIDATES)
    nothing = [None] * num_pairs
    pairs = {"pair_id": list(range(num_pairs)), "prompt_id": list(range(num_pairs))}
    pairs |= {"chosen_id": ids[::2], "rejected_id": ids[1::2], "margin": nothing, "dimension_margins": nothing}
    write_table(run.pairs, pairs, PAIRS)
    changes = {
        "num_steps": num_steps,
        "batch_size": shape.batch,
        "warmup_steps": 0,
        "checkpoint_interval_steps": 10_000,
    }
    changes |= {"lora_targets": "null", "beta": 2000, **settings}
    recipe = load_recipe(
        "quickstart", [f"model.path={folder / 'model'}", *(f"train.{k}={v}" for k, v in changes.items())]
    )
    run.recipe.write_text(dump_recipe(recipe), "utf-8")
    return run


def time_training(run: RunFolder) -> list[float]:
    """Seconds of each step of `train`, as it logs them."""
    train(run.folder)
    return [line["seconds_per_step"] for line in read_lines(run.timing_log)]


def time_by_hand(run: RunFolder, batch: int, num_steps: int, *, usual: bool) -> list[float]:
    """Seconds of each step of the usual script, or of the floor."""
    recipe = load_recipe(str(run.recipe))
    pipeline = load_pipeline(recipe.model)
    family, denoiser = find_family(pipeline), add_lora(pipeline, recipe.train)
    denoiser.train()
    optimizer = torch.optim.AdamW([p for p in denoiser.parameters() if p.requires_grad], lr=1e-5)
    files = sorted(filter(Path.is_file, run.candidates.rglob("*")), key=lambda file: int(file.stem))[: 2 * batch]
    pixels = torch.from_numpy(np.stack([read_pixels(file) for file in files])).movedim(-1, -3).float() / 255
    is_whole = not is_flow(pipeline.scheduler)

    @torch.no_grad()
    def inputs() -> tuple[Any, ...]:
        latents = family.encode_media(pipeline, pixels)
        conditioning = {k: torch.cat([v, v]) for k, v in family.encode_prompts(pipeline, TEXTS[:batch]).items()}
        noise = torch.cat([torch.randn(batch, *latents.shape[1:])] * 2)
        timesteps = (torch.randint(0, 1000, (batch,)) if is_whole else 1000 * torch.rand(batch)).repeat(2)
        return *family.add_noise(pipeline, latents, noise, timesteps), timesteps, conditioning

    held, seconds = inputs(), []
    for _ in range(num_steps):
        start = time.perf_counter()
        noisy, target, timesteps, conditioning = inputs() if usual else held
        policy = denoising_error(family.predict(pipeline, noisy, timesteps, conditioning), target)
        with lora_off(denoiser):
            reference = denoising_error(family.predict(pipeline, noisy, timesteps, conditioning), target)
        diffusion_dpo(*policy.chunk(2), *reference.chunk(2), beta=2000).loss.mean().backward()
        if usual:
            optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return seconds


def measure(name: str, row: str, num_steps: int) -> None:
    """One row; prints the median seconds of a step and the peak GiB."""
    set_quiet(True)
    shape = SHAPES[name]
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(Path(folder), shape, ROWS[row], num_steps)
        if row in ("usual", "floor"):
            seconds = time_by_hand(run, shape.batch, num_steps, usual=row == "usual")
        else:
            encode(run.folder)
            seconds = time_training(run)
        # The first steps warm up; kept errors are there from the second epoch on.
        seconds = seconds[2:]
    print("result", median(seconds), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["sd15-quarter", "sdxl-quarter"], choices=list(SHAPES))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--row", choices=list(ROWS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        measure(arguments.shapes[0], arguments.row, arguments.steps)
        return
    run: Callable[[str, str], list[str]] = lambda shape, row: subprocess.run(  # noqa: E731
        [sys.executable, "-m", "benchmarks.train_step", "--shapes", shape, "--row", row, "--steps", str(arguments.steps)],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    print(
        "| shape | row | steps a second, times usual | of the floor | peak memory, times usual |\n|---|---|---|---|---|"
    )
    for shape in arguments.shapes:
        measured = {}
        for row in ROWS:
            words = run(shape, row)
            seconds, gib = words[words.index("result") + 1 :][:2]
            measured[row] = float(seconds), float(gib)
        (usual, memory), (floor, _) = measured["usual"], measured["floor"]
        for row, (seconds, gib) in measured.items():
            print(f"| {shape} | {row} | {usual / seconds:.2f} | {floor / seconds:.2f} | {gib / memory:.2f} |")


if __name__ == "__main__":
    main()
