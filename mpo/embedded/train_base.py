"""Trains the embedded text-to-image model from scratch: `python -m mpo.embedded.train_base --output DIR`.

Three phases, each flat: draw captioned scenes; train a tiny autoencoder on them; train text encoder and UNet
together on the scenes' latents (v-prediction, zero terminal SNR). The result is a stock
`StableDiffusionPipeline` folder in fp16 safetensors. About two hours on two cores.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from diffusers.training_utils import EMAModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mpo.embedded.scenes import CHUNK, IMAGE_SIZE, paint_chunk

MAX_TOKENS = 24
Log = Callable[..., None]


@dataclass(frozen=True)
class BaseTraining:
    """What the shipped weights were trained with."""

    seed: int = 0
    num_scenes: int = 40_000
    autoencoder_steps: int = 2_500
    autoencoder_batch: int = 32
    autoencoder_learning_rate: float = 2e-3
    denoiser_steps: int = 5_500
    denoiser_batch: int = 64
    denoiser_learning_rate: float = 1.2e-3
    caption_dropout: float = 0.1  # so that classifier-free guidance works (arXiv 2207.12598)
    latent_noise: float = 0.05  # the decoder learns to forgive this much error in its latents
    ema_decay: float = 0.998


def paint_scenes(config: BaseTraining) -> tuple[np.ndarray, list[str]]:
    num_chunks = math.ceil(config.num_scenes / CHUNK)
    # Spawned, not forked: this process runs threads by now.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        chunks = list(pool.map(paint_chunk, [config.seed] * num_chunks, range(num_chunks)))
    return np.concatenate([pixels for pixels, _ in chunks]), [c for _, captions in chunks for c in captions]


def build_tokenizer(captions: list[str]) -> CLIPTokenizer:
    """CLIP's byte-pair tokenizer with a small vocabulary of its own: each word of the captions is one token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2_000,
        end_of_word_suffix="</w>",
        initial_alphabet=[*alphabet],
        special_tokens=["<|startoftext|>", "<|endoftext|>", *(f"{letter}</w>" for letter in sorted(alphabet))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(captions)), trainer)
    with tempfile.TemporaryDirectory() as folder:
        vocab, merges = tokenizer.model.save(folder)
        return CLIPTokenizer(vocab, merges, model_max_length=MAX_TOKENS)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|startoftext|>"),  # type: ignore[arg-type]
        eos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),  # type: ignore[arg-type]
        pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),  # type: ignore[arg-type]
    )
    return CLIPTextModel(config)


def build_autoencoder() -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32),
        decoder_block_out_channels=(32, 32, 32),
        num_encoder_blocks=(1, 1, 2),
        num_decoder_blocks=(2, 1, 1),
        latent_channels=4,
        scaling_factor=1.0,
    )


def build_unet() -> UNet2DConditionModel:
    # Attention only at 8x8 and below: at 16x16 it would cost half of the step on a CPU.
    return UNet2DConditionModel(
        sample_size=IMAGE_SIZE // 4,
        in_channels=4,
        out_channels=4,
        block_out_channels=(48, 96, 112),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=96,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
        prediction_type="v_prediction",
        # Without a zero terminal SNR a plain black or white background cannot be reached (arXiv 2305.08891).
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def to_pixels(images: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, 3) -> (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def cosine(step: int, num_steps: int, warmup_steps: int = 100) -> float:
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (num_steps - warmup_steps)))


def train_autoencoder(images: np.ndarray, config: BaseTraining, log: Log) -> AutoencoderTiny:
    torch.manual_seed(config.seed)
    rng = np.random.default_rng((config.seed, 1))
    model = build_autoencoder().train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.autoencoder_learning_rate, weight_decay=0)
    for step in range(config.autoencoder_steps):
        for group in optimizer.param_groups:
            group["lr"] = config.autoencoder_learning_rate * cosine(step, config.autoencoder_steps)
        batch = to_pixels(images[rng.integers(len(images), size=config.autoencoder_batch)])
        batch = batch.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            latents = model.encode(batch).latents.float()
            noisy = latents + config.latent_noise * torch.randn_like(latents)
            decoded = model.decode(noisy).sample
        error = decoded.float() - batch
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        # Each latent channel is held near zero mean and unit variance, the range that diffusion expects.
        mean, variance = latents.mean(dim=(0, 2, 3)), latents.var(dim=(0, 2, 3))
        loss = (
            error.abs().mean()
            + error.square().mean()
            + 0.5 * edges
            + 0.02 * (mean.square() + (variance - 1).square()).mean()
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step + 1 == config.autoencoder_steps:
            psnr_db = -10 * math.log10(error.square().mean().item() / 4)
            log(phase="autoencoder", step=step, loss=loss.item(), psnr_db=psnr_db)
    return model.eval()


@torch.no_grad()
def encode_scenes(autoencoder: AutoencoderTiny, images: np.ndarray) -> torch.Tensor:
    chunks = [autoencoder.encode(to_pixels(images[i : i + 256])).latents for i in range(0, len(images), 256)]
    return torch.cat(chunks)


def train_denoiser(
    latents: torch.Tensor, captions: list[str], config: BaseTraining, save: Callable[..., None], log: Log
) -> None:
    torch.manual_seed(config.seed + 1)
    rng = np.random.default_rng((config.seed, 2))
    tokenizer = build_tokenizer(captions)
    text_encoder, unet, scheduler = build_text_encoder(tokenizer).train(), build_unet().train(), build_scheduler()
    unet.set_attn_processor(AttnProcessor())  # faster than fused attention at these sizes on a CPU

    def tokenize(texts: list[str]) -> torch.Tensor:
        return tokenizer(
            texts, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
        ).input_ids

    tokens, empty = tokenize(captions), tokenize([""])
    parameters = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.denoiser_learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    ema = EMAModel(parameters, decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    started_s = time.monotonic()
    for step in range(config.denoiser_steps):
        for group in optimizer.param_groups:
            group["lr"] = config.denoiser_learning_rate * cosine(step, config.denoiser_steps)
        index = torch.from_numpy(rng.integers(len(latents), size=config.denoiser_batch))
        x0 = latents[index]
        noise = torch.randn_like(x0)
        timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(x0),))
        dropped = torch.rand(len(x0), 1) < config.caption_dropout
        with torch.autocast("cpu", torch.bfloat16):
            context = text_encoder(torch.where(dropped, empty, tokens[index])).last_hidden_state
            noised = scheduler.add_noise(x0, noise, timesteps)  # type: ignore[arg-type]
            prediction = unet(noised, timesteps, context).sample
        target = scheduler.get_velocity(x0, noise, timesteps)  # type: ignore[arg-type]
        loss = (prediction.float() - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        ema.step(parameters)
        if step % 50 == 0:
            log(
                phase="denoiser",
                step=step,
                loss=loss.item(),
                seconds_per_step=(time.monotonic() - started_s) / (step + 1),
            )
        if (step + 1) % 500 == 0 or step + 1 == config.denoiser_steps:
            ema.store(parameters)
            ema.copy_to(parameters)
            save(tokenizer, text_encoder, unet)
            ema.restore(parameters)


def train(config: BaseTraining, output: Path, log: Log) -> None:
    """Draw, train and save: all three phases."""
    output.mkdir(parents=True, exist_ok=True)
    images, captions = paint_scenes(config)
    log(phase="scenes", num_scenes=len(images), num_captions=len(set(captions)))
    autoencoder = train_autoencoder(images, config, log)
    latents = encode_scenes(autoencoder, images)
    scale = 1 / latents.std().item()
    autoencoder.register_to_config(scaling_factor=scale)

    def save(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, unet: UNet2DConditionModel) -> None:
        pipeline = StableDiffusionPipeline(
            vae=autoencoder,  # type: ignore[arg-type]
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=build_scheduler(),  # type: ignore[arg-type]
            safety_checker=None,  # type: ignore[arg-type]
            feature_extractor=None,  # type: ignore[arg-type]
            requires_safety_checker=False,
        )
        for module in (autoencoder, text_encoder, unet):
            module.half()
        pipeline.save_pretrained(output, safe_serialization=True)
        for module in (text_encoder, unet):
            module.float()

    train_denoiser(latents * scale, captions, config, save, log)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for the finished pipeline")

    def log(**event: Any) -> None:
        print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in event.items()}), flush=True)

    train(BaseTraining(), parser.parse_args().output, log)


if __name__ == "__main__":
    main()
