"""TensorBoard and wandb, through accelerate."""

import json
import netrc
import os
from collections.abc import Iterator
from typing import Any

from accelerate import Accelerator

from mpo.recipe import Recipe


def start_trackers(accelerator: Accelerator, recipe: Recipe) -> None:
    """Begin the recipe's trackers; wandb offline unless the user has logged in."""
    if not recipe.train.trackers:
        return
    # wandb asks on the terminal for an account unless it is told otherwise.
    if "wandb" in recipe.train.trackers and "WANDB_MODE" not in os.environ and not _wandb_logged_in():
        os.environ["WANDB_MODE"] = "offline"
    flat = {f"{section}.{key}" if section else key: value for section, key, value in _flatten(recipe)}
    accelerator.init_trackers(
        "mpo", config=flat, init_kwargs={"wandb": {"name": recipe.name, "dir": str(accelerator.project_dir)}}
    )


def _flatten(recipe: Recipe) -> Iterator[tuple[str, str, Any]]:
    for name, value in recipe.model_dump(mode="json").items():
        for key, inner in value.items() if isinstance(value, dict) else ((None, value),):
            scalar = inner if isinstance(inner, (int, float, str, bool)) else json.dumps(inner)
            yield (name, key, scalar) if key else ("", name, scalar)


def _wandb_logged_in() -> bool:
    """Whether `wandb login` was run or its variable is set, found out without asking on the terminal."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False
