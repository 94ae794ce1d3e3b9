"""The optimizer by name: any of torch.optim, or bitsandbytes' 8-bit AdamW."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from mpo import MpoError
from mpo.recipe import Train

UNFIT = ("LBFGS", "SparseAdam")  # want a closure; want sparse gradients


def known_optimizers() -> list[str]:
    """Names that `train.optimizer` takes."""
    names = [
        name
        for name, cls in vars(torch.optim).items()
        if inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer) and name not in ("Optimizer", *UNFIT)
    ]
    return [*sorted(names), "AdamW8bit"]


def check_optimizer(settings: Train) -> None:
    """Raises MpoError where the name is unknown, an option is not the optimizer's, or bitsandbytes is missing."""
    build_optimizer([torch.nn.Parameter(torch.zeros(1, 1))], settings)


def build_optimizer(parameters: Sequence[torch.nn.Parameter], settings: Train) -> torch.optim.Optimizer:
    if settings.optimizer not in known_optimizers():
        raise MpoError(f"train.optimizer={settings.optimizer!r} is unknown; known: {', '.join(known_optimizers())}")
    cls: Any = getattr(torch.optim, settings.optimizer, None) or _adamw_8bit()
    options = {"lr": settings.learning_rate, **settings.optimizer_options}
    accepted = inspect.signature(cls).parameters
    if "weight_decay" in accepted:
        options = {"weight_decay": settings.weight_decay, **options}
    elif settings.weight_decay:
        raise MpoError(f"train.weight_decay={settings.weight_decay} is not taken by {settings.optimizer}; set it to 0")
    unknown = [name for name in options if name not in accepted]
    if unknown:
        raise MpoError(
            f"train.optimizer_options: {settings.optimizer} takes no {unknown[0]!r}; it takes: {', '.join(accepted)}"
        )
    try:
        return cls(parameters, **options)
    except (TypeError, ValueError) as error:
        raise MpoError(f"train.optimizer_options={settings.optimizer_options}: {error}") from error


def _adamw_8bit() -> Any:
    try:
        import bitsandbytes  # type: ignore[import-not-found]
    except ImportError:
        raise MpoError(
            "train.optimizer='AdamW8bit' needs bitsandbytes; pip install 'mpo[gpu]', or use 'AdamW'"
        ) from None
    return bitsandbytes.optim.AdamW8bit
