"""A training step against the usual script's: steps a second and peak memory, as ratios.

    python -m benchmarks.train_step                  # SD-1.5-shaped and SDXL-shaped, widths divided by four
    python -m benchmarks.train_step --shapes sd15    # Stable Diffusion 1.5 in its own size at 512x512; 12 GiB, minutes

"usual": a plain transcription of the step that published scripts run (VAE and text encoder each step, policy forward,
reference forward with the LoRA off, backward, AdamW). The others are `mpo.stages.train.train` itself on the same model, LoRA,
batch and pictures. "floor" is policy forward, backward and reference forward alone, on tensors at hand. In the quarter
shapes every width is divided by four, in network, autoencoder and text encoder alike, and the picture's sides by two, so
that the proportions of network, attention and autoencoder stay. Each row runs in a process of its own; the first steps
are not timed.
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
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from mpo.embedded.train_base import build_tokenizer
from mpo.models.families import find_family
from mpo.models.loading import load_pipeline
from mpo.models.lora import add_lora, lora_off
from mpo.recipe import dump_recipe, load_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import CANDIDATES, PAIRS, PROMPTS, write_table
from mpo.runtime.progress import set_quiet
from mpo.stages.encode import encode
from mpo.stages.train import train
from mpo.training.objectives import denoising_error, diffusion_dpo


@dataclass(frozen=True)
class Shape:
    """A model's own configuration, its widths divided; random weights."""

    xl: bool
    divisor: int  # of widths
    pixels: int
    batch: int  # pairs a step; two steps make an epoch


SHAPES = {
    "sd15-quarter": Shape(xl=False, divisor=4, pixels=256, batch=2),
    "sdxl-quarter": Shape(xl=True, divisor=4, pixels=512, batch=1),
    "sd15": Shape(xl=False, divisor=1, pixels=512, batch=1),
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
    """Stable Diffusion 1.5's or SDXL's configuration with every width divided."""

    def widths(*values: int) -> tuple[int, ...]:
        return tuple(value // shape.divisor for value in values)

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
    common: Any = {"sample_size": shape.pixels // 8, "norm_num_groups": 32 // shape.divisor}
    if not shape.xl:
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
    num_pairs = 2 * shape.batch
    run = RunFolder(folder / "run")
    run.candidates.mkdir(parents=True)
    torch.manual_seed(0)
    build(shape).save_pretrained(folder / "model")
    for k in range(2 * num_pairs):
        pixels = np.random.default_rng(k).integers(0, 256, (shape.pixels, shape.pixels, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(run.candidates / f"{k}.png")
    ids = list(range(2 * num_pairs))
    prompt_ids = [k // 2 for k in ids]
    write_table(run.prompts, {"prompt_id": list(range(num_pairs)), "prompt": TEXTS[:num_pairs]}, PROMPTS)
    nothing = [None] * len(ids)
    table = {"candidate_id": ids, "prompt_id": prompt_ids, "seed": nothing, "sha256": nothing}
    write_table(run.candidates_table, {**table, "file": [f"{k}.png" for k in ids]}, CANDIDATES)
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
    """Seconds of each step of `train`, by when it asks for the next one's draws."""
    import mpo.stages.train

    moments: list[float] = []

    class Timed(mpo.stages.train.Batches):
        def of_step(self, step: int) -> Any:
            moments.append(time.perf_counter())
            return super().of_step(step)

    mpo.stages.train.Batches = Timed
    train(run.folder)
    return np.diff(moments).tolist()


def time_by_hand(run: RunFolder, batch: int, num_steps: int, *, usual: bool) -> list[float]:
    """Seconds of each step of the usual script, or of the floor."""
    recipe = load_recipe(str(run.recipe))
    pipeline = load_pipeline(recipe.model)
    family, denoiser = find_family(pipeline), add_lora(pipeline, recipe.train)
    denoiser.train()
    optimizer = torch.optim.AdamW([p for p in denoiser.parameters() if p.requires_grad], lr=1e-5)
    pictures = [np.asarray(Image.open(run.candidates / f"{k}.png")) for k in range(2 * batch)]
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255

    @torch.no_grad()
    def inputs() -> tuple[Any, ...]:
        latents = family.encode_media(pipeline, pixels)
        conditioning = {k: torch.cat([v, v]) for k, v in family.encode_prompts(pipeline, TEXTS[:batch]).items()}
        noise = torch.randn(batch, *latents.shape[1:]).repeat(2, 1, 1, 1)
        timesteps = torch.randint(0, 1000, (batch,)).repeat(2)
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
