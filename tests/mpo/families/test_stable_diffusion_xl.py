import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from mpo.embedded.train_base import build_tokenizer
from mpo.families import find_family, stable_diffusion_xl
from mpo.lora import add_lora, load_lora
from mpo.models import load_pipeline
from mpo.recipe import parse_recipe, read_recipe
from mpo.run import run_recipe
from mpo.store import Run, read_table
from mpo.train import final_lora
from tests.conftest import HELDOUT_PROMPTS, TRAIN_PROMPTS, small_fields


def build_pipeline() -> StableDiffusionXLPipeline:
    """SDXL's own classes with random weights; 32x32 pixels, 16x16 latents."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = build_tokenizer([*TRAIN_PROMPTS, *HELDOUT_PROMPTS])
        text = CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=3,
            max_position_embeddings=24, bos_token_id=0, eos_token_id=1, pad_token_id=1, projection_dim=32,
        )  # fmt: skip
        shape: Any = {  # diffusers types these as tuples of one
            "block_out_channels": (16, 32),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": (2, 4),
            "transformer_layers_per_block": (1, 1),
        }
        unet = UNet2DConditionModel(
            sample_size=16, in_channels=4, out_channels=4, layers_per_block=1, cross_attention_dim=64, norm_num_groups=8,
            use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=80, **shape,
        )  # fmt: skip
        two: Any = {
            "block_out_channels": (16, 16),
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
        }
        vae = AutoencoderKL(latent_channels=4, norm_num_groups=8, scaling_factor=0.13025, **two)
        scheduler = EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        )
        parts: Any = {
            "vae": vae, "text_encoder": CLIPTextModel(text), "text_encoder_2": CLIPTextModelWithProjection(text),
            "tokenizer": tokenizer, "tokenizer_2": tokenizer, "unet": unet, "scheduler": scheduler,
        }  # fmt: skip
        pipeline = StableDiffusionXLPipeline(**parts, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def test_predict_and_conditions_equal_the_pipelines_own_loop():
    pipeline = build_pipeline()
    family = find_family(pipeline)
    seen: list[Any] = []
    hook = pipeline.unet.register_forward_hook(
        lambda m, args, kwargs, out: seen.append((args, kwargs, out[0])), with_kwargs=True
    )
    pipeline(TRAIN_PROMPTS, num_inference_steps=3, guidance_scale=1.0, generator=torch.Generator().manual_seed(0))
    hook.remove()
    conditioning = family.encode_prompts(pipeline, TRAIN_PROMPTS)
    assert len(seen) == 3
    for (latents, timestep), kwargs, prediction in seen:
        added = kwargs["added_cond_kwargs"]
        for name, expected in (("encoder_hidden_states", kwargs["encoder_hidden_states"]), *added.items()):
            torch.testing.assert_close(conditioning[name], expected, rtol=0, atol=0)
        ours = family.predict(pipeline, latents, timestep.repeat(len(latents)), conditioning)
        torch.testing.assert_close(ours, prediction, rtol=1e-5, atol=1e-6)


def test_noise_is_what_the_scheduler_hands_to_the_network():
    """Euler keeps latents at another scale; scaled for the network, they are those of `add_noise`."""
    pipeline = build_pipeline()
    latents, noise = torch.randn(2, 1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    pipeline.scheduler.set_timesteps(10)
    for timestep in pipeline.scheduler.timesteps[2:8:2]:
        noisy, target = stable_diffusion_xl.add_noise(pipeline, latents, noise, timestep.round().long()[None])
        pipeline.scheduler._step_index = None
        theirs = pipeline.scheduler.add_noise(latents, noise, timestep[None])
        theirs = pipeline.scheduler.scale_model_input(theirs, timestep)
        torch.testing.assert_close(noisy, theirs, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(target, noise)


@torch.no_grad()
def test_encode_media_is_the_inverse_that_the_decoder_expects():
    pipeline: Any = build_pipeline()
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    latents = stable_diffusion_xl.encode_media(pipeline, pixels)
    expected = pipeline.vae.encode(pipeline.image_processor.normalize(pixels)).latent_dist.mean
    torch.testing.assert_close(latents / pipeline.vae.config.scaling_factor, expected)
    pipeline.vae.to(torch.float16)
    half = stable_diffusion_xl.encode_media(pipeline, pixels)
    assert pipeline.vae.dtype == torch.float16
    torch.testing.assert_close(half, latents, rtol=1e-2, atol=1e-2)


@pytest.fixture(scope="module")
def finished_xl(tmp_path_factory) -> Path:
    """The small recipe's whole run, on SDXL."""
    folder = tmp_path_factory.mktemp("xl")
    build_pipeline().save_pretrained(folder / "model")
    fields = small_fields(folder / "model", folder)
    run_recipe(parse_recipe(fields, source="small"), folder / "run")
    return folder / "run"


def test_the_whole_loop_runs(finished_xl):
    log = [json.loads(line) for line in (finished_xl / "training.jsonl").read_text().splitlines()]
    assert log[0]["loss"] == pytest.approx(np.log(2), abs=1e-3)
    assert all(entry["grad_norm"] > 0 for entry in log)
    assert (finished_xl / "evaluation" / "report.html").exists()


@torch.no_grad()
def test_the_stock_pipeline_takes_the_lora_at_its_strength(finished_xl):
    """Alpha (8) differs from the rank (4)."""
    run, recipe = Run(finished_xl), read_recipe(finished_xl / "recipe.yaml")
    pipeline = StableDiffusionXLPipeline.from_pretrained(recipe.model.path)
    pipeline.set_progress_bar_config(disable=True)
    added = {"text_embeds": torch.ones(1, 32), "time_ids": torch.tensor([[32.0, 32, 0, 0, 32, 32]])}
    inputs = (torch.ones(1, 4, 16, 16), torch.tensor([500]), torch.ones(1, 24, 64))
    base = pipeline.unet(*inputs, added_cond_kwargs=added).sample
    pipeline.load_lora_weights(str(run.lora))
    loaded = pipeline.unet(*inputs, added_cond_kwargs=added).sample
    own = load_pipeline(recipe.model)
    load_lora(add_lora(own, recipe.train), final_lora(run, recipe.train))
    expected = own.unet(*inputs, added_cond_kwargs=added).sample
    effect = (expected - base).abs().max()
    assert effect > 1e-5
    assert (loaded - expected).abs().max() < 0.02 * effect

    rows = [r for r in read_table(run.evaluation_table, made_by="evaluate").to_pylist() if r["model"] == "tuned"][:2]
    prompts = {r["prompt_id"]: r["prompt"] for r in read_table(run.heldout_prompts, made_by="run").to_pylist()}
    generators = [torch.Generator().manual_seed(row["seed"]) for row in rows]
    texts = [prompts[row["prompt_id"]] for row in rows]
    images = pipeline(texts, num_inference_steps=2, guidance_scale=1.0, generator=generators).images
    for image, row in zip(images, rows, strict=True):
        kept = np.asarray(Image.open(run.samples / row["file"]), dtype=int)
        assert np.abs(np.asarray(image, dtype=int) - kept).max() <= 1
