"""The sampler that a recipe names, built from the configuration of the model's own scheduler.

Training keeps the model's own: what changes is in how many steps, and which, noise becomes a picture.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import diffusers
import numpy as np
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from mpo import MpoError
from mpo.models.families import find_family
from mpo.models.noise import is_flow
from reward.errors import did_you_mean, first_line

# Of a schedule of betas: what decides which noise a timestep means. A sampler that ignores one would sample another model.
NOISE = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type",
    "rescale_betas_zero_snr", "snr_shift_scale",
)  # fmt: skip
FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")  # others know flows by `use_flow_sigmas`


@contextmanager
def scheduler_in_place(pipeline: Any, name: str | None) -> Iterator[None]:
    """The pipeline with the sampler of this name; afterwards with its own again. None = its own."""
    own = pipeline.scheduler
    if name is not None:
        pipeline.scheduler = build_scheduler(own, name, find_family(pipeline))
    try:
        yield
    finally:
        pipeline.scheduler = own


def build_scheduler(own: Any, name: str, family: Any) -> Any:
    """The sampler of this name for a model whose scheduler is `own`.

    Raises MpoError if diffusers has none of this name, or if it does not fit the model's noise or its pipeline's loop.
    """
    cls = getattr(diffusers, name, None)
    if not (inspect.isclass(cls) and issubclass(cls, SchedulerMixin)):
        known = [each for each in dir(diffusers) if each.endswith("Scheduler")]
        raise MpoError(f"is no scheduler of diffusers{did_you_mean(name, known)}; use one such as {SUGGESTED}")
    taken = inspect.signature(cls.__init__).parameters
    changes = _flow_settings(own, name, taken) if is_flow(own) else _diffusion_settings(own, name, taken)
    # Names that begin so are diffusers' own, such as which values were defaults; of others that it lacks it would warn each time.
    config = {field: value for field, value in own.config.items() if field in taken or field.startswith("_")}
    try:
        built = cls.from_config(config, **changes)
        _rehearse(cls.from_config(config, **changes), getattr(family, "SCHEDULE_ARGUMENTS", ()))
    except (ImportError, AssertionError, NotImplementedError, TypeError, ValueError) as error:
        reason = first_line(error) or "it refuses the steps that the pipeline gives it"
        remedy = "remove it" if name == SUGGESTED else f"use {SUGGESTED}, or remove it"
        raise MpoError(f"does not run in this model's pipeline ({reason}); {remedy}") from None
    return built


SUGGESTED = "UniPCMultistepScheduler"  # for betas and for flows, also where the pipeline gives sigmas of its own


def _diffusion_settings(own: Any, name: str, taken: Mapping[str, Any]) -> dict[str, Any]:
    """What of the sampler's own defaults must not hold. Raises MpoError if the sampler would read the model's noise, or its network's answer, otherwise."""
    related = {type(own).__name__, *(cls.__name__ for cls in own.compatibles)}
    if name not in related or "sigma_data" in taken:
        raise MpoError(
            f"does not fit a model whose scheduler is {type(own).__name__}, which learnt a schedule of betas; use {SUGGESTED}, or remove it"
        )
    ignored = [field for field in NOISE if _matters(own.config.get(field), field) and field not in taken]
    if ignored:
        raise MpoError(
            f"ignores {ignored[0]}={own.config[ignored[0]]!r} of the model's scheduler {type(own).__name__}, so it would sample at other noise than was learnt; use another, or remove it"
        )
    # diffusers takes the sampler's own default for what is the default of the model's scheduler; the noise must not change so. DDIM,
    # DDPM and others clip what they take for the picture to [-1, 1] unless they are told not to; latents are wider.
    kept = {field: own.config[field] for field in NOISE if field in own.config}
    kept["clip_sample"] = own.config.get("clip_sample", False)
    return {field: value for field, value in kept.items() if field in taken}


def _matters(value: Any, field: str) -> bool:
    return value is not None and value is not False and not (field == "snr_shift_scale" and value == 1)


def _flow_settings(own: Any, name: str, taken: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a sampler one of the model's flow. Raises MpoError if it knows none."""
    if name not in FLOWS and "use_flow_sigmas" not in taken and name != type(own).__name__:
        raise MpoError(f"samples no flow, and this model is one; use {SUGGESTED}, or remove it")
    config = own.config
    if config.get("use_dynamic_shifting") and "use_dynamic_shifting" not in taken:
        raise MpoError(
            f"cannot shift timesteps by resolution, as the model's scheduler {type(own).__name__} does; use {SUGGESTED}, or remove it"
        )
    shift = config.get("shift", config.get("flow_shift", 1.0))
    wanted = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "shift": shift, "flow_shift": shift}
    return {field: value for field, value in wanted.items() if field in taken}


def _rehearse(scheduler: Any, arguments: Sequence[str]) -> None:
    """Set the steps as the pipeline will. Raises what the sampler raises."""
    given: dict[str, Any] = {"num_inference_steps": 4}
    if "sigmas" in arguments:
        given = {"sigmas": np.linspace(1.0, 0.25, 4)}
    if "list of sigmas" in arguments:
        given = {"sigmas": [1.0, 0.75, 0.5, 0.25]}
    if "timesteps" in arguments:
        given["timesteps"] = np.linspace(1000.0, 250.0, 4)
    if "mu" in arguments or scheduler.config.get("use_dynamic_shifting"):
        given["mu"] = 1.0
    scheduler.set_timesteps(device="cpu", **given)
