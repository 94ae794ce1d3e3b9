"""Trains the embedded text-to-video model: `python -m mpo.embedded.train_clips --output DIR`.

Grows the embedded text-to-image model in time: its UNet is given motion modules, its tokenizer the words of motion, and
all of it learns from captioned clips (v-prediction). The result is a stock `AnimateDiffPipeline` folder in fp16
safetensors. Kill it at any time: the same command goes on from the last checkpoint.

Clips, their latents and checkpoints lie in `DIR.training`; delete that folder when the model is done.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import AnimateDiffPipeline, MotionAdapter, StableDiffusionPipeline, UNetMotionModel
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from diffusers.training_utils import EMAModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from mpo.embedded.clips import MOTIONS, NUM_FRAMES, Motion, paint_clips
from mpo.embedded.prompts import clip_prompts
from mpo.embedded.train_base import to_pixels

# B clips, F frames, c channels and h x w places of latents, T tokens
PICTURE_MODEL = Path(__file__).with_name("model")
# New words, and words of the picture model whose embeddings they begin with; "left" and "right" it knows.
MOTION_WORDS = {"moves": "on", "stands": "in", "still": "at", "up": "top", "down": "bottom"}
Log = Callable[..., None]


class Phase(NamedTuple):
    """What the steps up to `until_step` are made of."""

    until_step: int
    motions: tuple[Motion, ...]  # each as often as it is named
    num_clips: int
    num_frames: int  # of each clip, any of its frames: few teach as much in less time, whole clips cost most
    high_noise: float  # timesteps are T * (1 - u^this): 1 is uniform, 8 puts them where the place of things is decided


@dataclass(frozen=True)
class ClipTraining:
    """What the shipped weights were trained with, but for some of their first steps: see their card."""

    seed: int = 0
    num_clips: int = 800
    clips_per_file: int = 100  # drawn and encoded between two chances to be killed
    # One way first: as long as left and right are as frequent, the mean of both is a place that does not change with time,
    # and no frame learns to use its position. What has been learnt so is then turned round.
    phases: tuple[Phase, ...] = (
        Phase(450, ("right", "down"), num_clips=8, num_frames=2, high_noise=8),
        Phase(700, MOTIONS, num_clips=8, num_frames=2, high_noise=8),
        Phase(875, ("left", "up", "left", "up", "still", "right", "down"), num_clips=8, num_frames=2, high_noise=8),
        Phase(980, MOTIONS, num_clips=8, num_frames=2, high_noise=8),
        Phase(1_050, MOTIONS, num_clips=4, num_frames=NUM_FRAMES, high_noise=1.5),
        Phase(3_000, MOTIONS, num_clips=6, num_frames=3, high_noise=1),
    )
    motion_learning_rate: float = 2.5e-3  # of the new weights
    learning_rate: float = 6e-4  # of the picture model's
    warmup_steps: int = 20
    cooldown_steps: int = 1_400
    caption_dropout: float = 0.1  # so that classifier-free guidance works (arXiv 2207.12598)
    ema_decay: float = 0.99
    checkpoint_interval_steps: int = 50

    @property
    def num_steps(self) -> int:
        return self.phases[-1].until_step


class Networks(NamedTuple):
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNetMotionModel


def grow(pipeline: StableDiffusionPipeline, seed: int) -> Networks:
    """The picture model with motion modules, which change nothing yet, and with the words of motion."""
    torch.manual_seed(seed)
    tokenizer, text_encoder = pipeline.tokenizer, pipeline.text_encoder
    tokenizer.add_tokens(list(MOTION_WORDS))
    embedding = text_encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False).weight.data
    for word, known in MOTION_WORDS.items():
        embedding[tokenizer.convert_tokens_to_ids(word)] = embedding[tokenizer.convert_tokens_to_ids(f"{known}</w>")]
    adapter = MotionAdapter(
        block_out_channels=pipeline.unet.config.block_out_channels,
        motion_layers_per_block=pipeline.unet.config.layers_per_block,
        motion_num_attention_heads=4,
        motion_norm_num_groups=pipeline.unet.config.norm_num_groups,
        motion_max_seq_length=NUM_FRAMES,
    )
    unet: Any = UNetMotionModel.from_unet2d(pipeline.unet, adapter)
    for module in motion_modules(unet):
        torch.nn.init.zeros_(module.proj_out.weight)
        torch.nn.init.zeros_(module.proj_out.bias)
        for block in module.transformer_blocks:
            tell_frames_apart(block)
    return Networks(tokenizer, text_encoder, unet)


def motion_modules(unet: UNetMotionModel) -> list[Any]:
    """Each an AnimateDiffTransformer3D."""
    return [module for module in unet.modules() if isinstance(module, AnimateDiffTransformer3D)]


@torch.no_grad()
def tell_frames_apart(block: Any) -> None:
    """block: a BasicTransformerBlock. Half of the heads of a new motion module begin by passing on where in the clip a frame is.

    At random weights every frame attends to all alike and its position is lost in the rest; but the subject's place is
    a product of direction and position, and neither alone lowers the loss. So queries, keys and values read the
    directions in which the embeddings of positions differ: near frames match, far ones do not.
    """
    positions = block.pos_embed.pe[0, :NUM_FRAMES]  # (F, c)
    channels = positions.shape[1]
    directions = torch.linalg.svd(positions - positions.mean(dim=0)).Vh[:4]  # (4, c)
    for attention in (block.attn1, block.attn2):
        head = channels // attention.heads
        match = (96 / channels * math.sqrt(head)) ** 0.5  # the next frame is given a third of a frame's own attention
        for k in range(attention.heads // 2):
            rows = slice(k * head, k * head + 4)
            for projection, gain in ((attention.to_q, match), (attention.to_k, match), (attention.to_v, 2.0)):
                projection.weight[k * head : (k + 1) * head] = 0
                projection.weight[rows] = gain * directions


@contextmanager
def only_frames(unet: UNetMotionModel, frames: Tensor) -> Iterator[None]:
    """Within it the UNet is given these frames of a clip, such as 0, 3, 4 and 6, and knows which they are."""
    embeddings = [block.pos_embed for module in motion_modules(unet) for block in module.transformer_blocks]
    whole = [embedding.pe for embedding in embeddings]
    try:
        for embedding, pe in zip(embeddings, whole, strict=True):
            embedding.pe = pe[:, frames]
        yield
    finally:
        for embedding, pe in zip(embeddings, whole, strict=True):
            embedding.pe = pe


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """The file is there whole or not at all, whenever the process is killed."""
    part = path.with_name(f"{path.name}.part")
    write(part)
    os.replace(part, path)


@torch.no_grad()
def encode_clips(
    pipeline: StableDiffusionPipeline, config: ClipTraining, folder: Path, log: Log
) -> tuple[Tensor, list[str]]:
    """Latents (N, F, c, h, w) of the training clips and their captions. Each file of `folder` is drawn once."""
    held_out = frozenset(clip_prompts().held_out)
    latents, captions = [], []
    for part in range(math.ceil(config.num_clips / config.clips_per_file)):
        file = folder / f"clips-{part:04d}.pt"
        if not file.exists():
            rng = np.random.default_rng((config.seed, part))
            pixels, texts = paint_clips(config.clips_per_file, held_out=held_out, rng=rng)
            encoded = torch.stack([pipeline.vae.encode(to_pixels(clip)).latents for clip in pixels])
            content = {"latents": encoded * pipeline.vae.config.scaling_factor, "captions": texts}
            write_whole(file, partial(torch.save, content))
            log(phase="clips", num_clips=(part + 1) * config.clips_per_file)
        content = torch.load(file)
        latents.append(content["latents"])
        captions += content["captions"]
    return torch.cat(latents)[: config.num_clips], captions[: config.num_clips]


class Clips(NamedTuple):
    latents: Tensor  # (N, F, c, h, w)
    tokens: Tensor  # (N, T)
    empty: Tensor  # (1, T): no caption
    of_motion: dict[Motion, Tensor]  # which of the clips move so


class Batch(NamedTuple):
    latents: Tensor  # (B, c, F, h, w)
    noise: Tensor  # the same
    timesteps: Tensor  # (B,)
    tokens: Tensor  # (B, T)
    frames: Tensor  # (F,): which frames of the clip


def by_motion(captions: list[str]) -> dict[Motion, Tensor]:
    return {motion: torch.tensor([i for i, c in enumerate(captions) if motion in c.split()]) for motion in MOTIONS}


def sample_batch(clips: Clips, step: int, config: ClipTraining) -> Batch:
    """The batch of a step, the same whether or not the training was cut off before it."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    phase = next(phase for phase in config.phases if step < phase.until_step)
    picked = torch.randint(len(phase.motions), (phase.num_clips,), generator=generator)
    choice = torch.rand(phase.num_clips, generator=generator)
    candidates = [clips.of_motion[phase.motions[k]] for k in picked]
    index = torch.stack([of[int(x * len(of))] for of, x in zip(candidates, choice.tolist(), strict=True)])
    frames = torch.randperm(NUM_FRAMES, generator=generator)[: phase.num_frames].sort().values
    x0 = clips.latents[index][:, frames].transpose(1, 2).contiguous()
    noise = torch.randn(x0.shape, generator=generator)
    share = torch.rand(phase.num_clips, generator=generator) ** phase.high_noise
    timesteps = (1000 * (1 - share)).long().clamp(max=999)
    dropped = torch.rand(phase.num_clips, 1, generator=generator) < config.caption_dropout
    return Batch(x0, noise, timesteps, torch.where(dropped, clips.empty, clips.tokens[index]), frames)


def rate_factor(step: int, config: ClipTraining) -> float:
    """Of the learning rates: warm-up, constant, and a straight line down to zero at the end."""
    return min(1.0, (step + 1) / config.warmup_steps, (config.num_steps - step) / config.cooldown_steps)


def train(config: ClipTraining, output: Path, log: Log) -> None:
    """Draw, train and save; go on from where a killed run of the same configuration was."""
    work = output.with_name(f"{output.name}.training")
    work.mkdir(parents=True, exist_ok=True)
    pipeline = StableDiffusionPipeline.from_pretrained(PICTURE_MODEL, dtype=torch.float32)
    latents, captions = encode_clips(pipeline, config, work, log)
    tokenizer, text_encoder, unet = networks = grow(pipeline, config.seed)
    scheduler = pipeline.scheduler
    unet.set_attn_processor(AttnProcessor())  # faster than fused attention at these sizes on a CPU
    text_encoder.train()
    unet.train()

    def tokenize(texts: list[str]) -> Tensor:
        return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids

    clips = Clips(latents, tokenize(captions), tokenize([""]), by_motion(captions))
    new = [p for module in motion_modules(unet) for p in module.parameters()]
    old = [p for p in unet.parameters() if all(p is not q for q in new)]
    groups = [
        {"params": new, "initial_lr": config.motion_learning_rate},
        {"params": [*old, *text_encoder.parameters()], "initial_lr": config.learning_rate},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    parameters = [p for group in groups for p in group["params"]]
    ema = EMAModel(parameters, decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    first_step, seconds = restore(work, networks, optimizer, ema)

    for step in range(first_step, config.num_steps):
        started_s = time.monotonic()
        batch = sample_batch(clips, step, config)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate_factor(step, config)
        # Forward: each caption is encoded once and given to each of its frames.
        context = text_encoder(batch.tokens).last_hidden_state.repeat_interleave(len(batch.frames), dim=0)
        noised = scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
        with only_frames(unet, batch.frames):
            prediction = unet(noised, batch.timesteps, context).sample
        loss = (prediction - scheduler.get_velocity(batch.latents, batch.noise, batch.timesteps)).square().mean()
        # Backward and step.
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        ema.step(parameters)
        # Keep: log, checkpoint.
        seconds += time.monotonic() - started_s
        if step % 10 == 0 or step + 1 == config.num_steps:
            log(phase="denoiser", step=step, loss=loss.item(), seconds=seconds)
        if (step + 1) % config.checkpoint_interval_steps == 0 or step + 1 == config.num_steps:
            keep(work, networks, optimizer, ema, step + 1, seconds)
    ema.copy_to(parameters)
    save_pipeline(pipeline, networks, output)


def keep(
    work: Path, networks: Networks, optimizer: torch.optim.Optimizer, ema: EMAModel, step: int, seconds: float
) -> None:
    state = {
        "text_encoder": networks.text_encoder.state_dict(),
        "unet": networks.unet.state_dict(),
        "optimizer": optimizer.state_dict(),
        "ema": ema.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    write_whole(work / "checkpoint.pt", partial(torch.save, state))


def restore(work: Path, networks: Networks, optimizer: torch.optim.Optimizer, ema: EMAModel) -> tuple[int, float]:
    """The next step and the seconds spent so far: zero of both where there is no checkpoint."""
    if not (work / "checkpoint.pt").exists():
        return 0, 0.0
    state = torch.load(work / "checkpoint.pt")
    networks.text_encoder.load_state_dict(state["text_encoder"])
    networks.unet.load_state_dict(state["unet"])
    optimizer.load_state_dict(state["optimizer"])
    ema.load_state_dict(state["ema"])
    return state["step"], state["seconds"]


def save_pipeline(pipeline: StableDiffusionPipeline, networks: Networks, output: Path) -> None:
    """A folder that `AnimateDiffPipeline.from_pretrained` loads, in float16."""
    AnimateDiffPipeline(
        vae=pipeline.vae.half(),
        text_encoder=networks.text_encoder.half(),
        tokenizer=networks.tokenizer,
        unet=networks.unet.half(),
        motion_adapter=None,  # type: ignore[arg-type]  # its weights are in the UNet
        scheduler=pipeline.scheduler,
    ).save_pretrained(output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for the finished pipeline")

    def log(**event: Any) -> None:
        print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in event.items()}), flush=True)

    train(ClipTraining(), parser.parse_args().output, log)


if __name__ == "__main__":
    main()
