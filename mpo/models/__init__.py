"""Diffusion models: loading and checking them, their families, noise, LoRA, sampling."""

from pathlib import Path

EMBEDDED = Path(__file__).parents[1] / "embedded" / "model"  # the folder of the shipped picture model
EMBEDDED_VIDEO = Path(__file__).parents[1] / "embedded" / "clip_model"  # of the shipped clip model
SHIPPED = {"embedded": EMBEDDED, "embedded-video": EMBEDDED_VIDEO}  # as recipes name them
