"""A stock pipeline in a very small size, and a recipe that runs on it in seconds."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from mpo.embedded.train_base import build_tokenizer
from mpo.runtime.progress import set_quiet

TRAIN_PROMPTS = ["a red circle on a white background", "two blue stars in the desert", "a green heart on the sea"]
HELDOUT_PROMPTS = ["a black square on a yellow background", "a white ring in the night sky"]


def build_pipeline(prediction_type: Any = "epsilon") -> StableDiffusionPipeline:
    """Stable Diffusion's own classes with random weights; 32x32 pixels, 16x16 latents."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = build_tokenizer([*TRAIN_PROMPTS, *HELDOUT_PROMPTS])
        text = CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=2,
            max_position_embeddings=24, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        )  # fmt: skip
        unet = UNet2DConditionModel(
            sample_size=16, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32, norm_num_groups=8, attention_head_dim=4,
        )  # fmt: skip
        two: Any = {  # diffusers types these as tuples of one
            "block_out_channels": (16, 16),
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
        }
        vae = AutoencoderKL(latent_channels=4, norm_num_groups=8, **two)
        scheduler = DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
            steps_offset=1, prediction_type=prediction_type,
        )  # fmt: skip
        parts: Any = {
            "vae": vae,
            "text_encoder": CLIPTextModel(text),
            "tokenizer": tokenizer,
            "unet": unet,
            "scheduler": scheduler,
        }
        nothing: Any = None
        pipeline = StableDiffusionPipeline(
            **parts, safety_checker=nothing, feature_extractor=nothing, requires_safety_checker=False
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(autouse=True)
def _quiet() -> None:
    set_quiet(True)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build_pipeline().save_pretrained(folder)
    return folder


def small_fields(model: Path, prompts: Path) -> dict:
    """A recipe's fields: 12 candidates, 6 training steps, 8 evaluation pictures."""
    (prompts / "train.txt").write_text("\n".join(TRAIN_PROMPTS), "utf-8")
    (prompts / "heldout.txt").write_text("\n".join(HELDOUT_PROMPTS), "utf-8")
    return {
        "name": "small",
        "description": "For tests.",
        "model": {"path": str(model)},
        "prompts": {"train": str(prompts / "train.txt"), "heldout": str(prompts / "heldout.txt")},
        "generate": {"num_candidates": 4, "num_inference_steps": 2, "guidance_scale": 1.0, "batch_size": 5},
        "judge": {"name": "measured", "checklist": "image", "questions": "answerable"},
        "select": {"strategy": "total", "margin": 0.0},
        "train": {
            "beta": 1000.0, "learning_rate": 1e-3, "num_steps": 6, "warmup_steps": 1, "batch_size": 4, "micro_batch_size": 2,
            "rank": 4, "alpha": 8.0, "checkpoint_interval_steps": 2,
        },
        "evaluate": {
            "seed": 1, "num_seeds": 2, "num_inference_steps": 2, "guidance_scale": 1.0, "batch_size": 3, "num_bootstrap": 200,
        },
    }  # fmt: skip


@pytest.fixture
def fields(model_folder: Path, tmp_path: Path) -> dict:
    return small_fields(model_folder, tmp_path)


@pytest.fixture
def recipe_file(fields: dict, tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(fields), "utf-8")
    return file


@pytest.fixture(scope="session")
def finished(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of the small recipe. Read only."""
    from mpo.recipe import parse_recipe
    from mpo.run import run_recipe

    set_quiet(True)
    folder = tmp_path_factory.mktemp("finished")
    run_recipe(parse_recipe(small_fields(model_folder, folder), source="small"), folder / "run")
    return folder / "run"
