"""The optimizer by name: any of torch.optim, or bitsandbytes' 8-bit AdamW."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError

from mpo import MpoError
from mpo.recipe import Train

UNFIT = ("LBFGS", "SparseAdam")  # the first needs a closure, the second sparse gradients
OWN_FIELDS = ("params", "lr", "weight_decay")  # the recipe refuses these among the options


def known_optimizers() -> list[str]:
    """Names that `train.optimizer` takes."""
    names = [
        name
        for name, cls in vars(torch.optim).items()
        if inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer) and name not in ("Optimizer", *UNFIT)
    ]
    return [*sorted(names), "AdamW8bit"]


def check_optimizer(settings: Train) -> None:
    """Raises MpoError if the name is unknown, an option is not the optimizer's, or bitsandbytes is missing."""
    build_optimizer([torch.nn.Parameter(torch.zeros(1, 1))], settings)


def build_optimizer(parameters: Sequence[torch.nn.Parameter], settings: Train) -> torch.optim.Optimizer:
    """Raises MpoError as `check_optimizer` does."""
    if settings.optimizer not in known_optimizers():
        raise MpoError(f"train.optimizer={settings.optimizer!r} is unknown; known: {', '.join(known_optimizers())}")
    cls: Any = getattr(torch.optim, settings.optimizer, None) or _adamw_8bit()
    accepted = inspect.signature(cls, eval_str=True).parameters
    options: dict[str, Any] = {"lr": settings.learning_rate}
    if "weight_decay" in accepted:
        options["weight_decay"] = settings.weight_decay
    elif settings.weight_decay:
        raise MpoError(f"train.weight_decay={settings.weight_decay} is not used by {settings.optimizer}; set it to 0")
    for name, value in settings.optimizer_options.items():
        if name not in accepted:
            others = ", ".join(other for other in accepted if other not in OWN_FIELDS)
            raise MpoError(
                f"train.optimizer_options.{name}: {settings.optimizer} takes no {name!r}; it takes: {others}"
            )
        options[name] = _of_type(accepted[name], value)
    try:
        return cls(parameters, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise MpoError(
            f"train.optimizer_options={settings.optimizer_options} is refused by {settings.optimizer} ({reason}); change or remove it"
        ) from error


def _of_type(parameter: inspect.Parameter, value: Any) -> Any:
    """The option as its annotation says, a list as a tuple. Raises MpoError if it has another type.

    Torch itself would take foreach="no" as true.
    """
    if parameter.annotation is parameter.empty:
        return value
    adapter = TypeAdapter(parameter.annotation, config=ConfigDict(arbitrary_types_allowed=True, strict=True))
    try:
        return adapter.validate_python(tuple(value) if isinstance(value, list) else value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise MpoError(
            f"train.optimizer_options.{parameter.name}={value!r}: {reason[0].lower()}{reason[1:]}; the default is {parameter.default!r}"
        ) from None


def _adamw_8bit() -> Any:
    try:
        import bitsandbytes  # type: ignore[import-not-found]
    except ImportError:
        raise MpoError(
            "train.optimizer='AdamW8bit' needs bitsandbytes; pip install 'mpo[gpu]', or use 'AdamW'"
        ) from None
    return bitsandbytes.optim.AdamW8bit
