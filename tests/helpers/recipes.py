"""Recipes that run in seconds, as fields to change."""

from pathlib import Path
from typing import Any

from mpo.recipe import Train

TRAIN_PROMPTS = ["a red circle on a white background", "two blue stars in the desert", "a green heart on the sea"]


HELDOUT_PROMPTS = ["a black square on a yellow background", "a white ring in the night sky"]


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


def with_validation(fields: dict, folder: Path) -> dict:
    (folder / "validation.txt").write_text("a blue circle in a meadow\na red star on the sea\n", "utf-8")
    fields["prompts"]["validation"] = str(folder / "validation.txt")
    fields["validation"] = {
        "interval_steps": 2, "num_inference_steps": 2, "guidance_scale": 1.0, "batch_size": 2, "num_seeds": 2,
    }  # fmt: skip
    return fields


def given_fields(fields: dict, path: Path, layout: str, strategy: str) -> dict:
    del fields["generate"], fields["prompts"]["train"]
    fields["preferences"] = {"path": str(path), "layout": layout}
    fields["model"]["sizes"] = [[32, 32], [48, 32]]
    fields["select"] = {"strategy": strategy, "margin": 0.0}
    return fields


def settings_of(**changes: Any) -> Train:
    fields = {
        "beta": 1.0,
        "learning_rate": 1e-3,
        "num_steps": 1,
        "batch_size": 1,
        "rank": 1,
        "alpha": 1.0,
        "checkpoint_interval_steps": 1,
    }
    return Train.model_validate(fields | changes)
