"""Diffusion models: loading and checking them, their families, noise, LoRA, sampling."""

from pathlib import Path

EMBEDDED = Path(__file__).parents[1] / "embedded" / "model"  # the folder of the shipped model of pictures
EMBEDDED_CLIPS = EMBEDDED.with_name("clip_model")  # of clips
