"""Noise: at which level each draw of the training stream is, and what it makes of latents.

Diffusion models (DDPM's arithmetic) have whole timesteps; flow models have x_s = (1 - s) x + s noise, s in (0, 1),
and timestep 1000 s (arXiv 2403.03206, section 2).
"""

from typing import Any

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from jaxtyping import Float
from torch import Tensor

from mpo import MpoError
from mpo.recipe import Train


def is_flow(scheduler: Any) -> bool:
    """Whether the pipeline's scheduler samples a flow: FlowMatch..., or DPM-Solver and others on flow sigmas."""
    config = scheduler.config
    return (
        type(scheduler).__name__.startswith("FlowMatch")
        or bool(config.get("use_flow_sigmas"))
        or config.get("prediction_type") == "flow_prediction"
    )


def check_scheduler(scheduler: Any, settings: Train) -> None:
    """Raises MpoError for a scheduler whose noise cannot be trained on, and for settings that it has no use for."""
    if is_flow(scheduler):
        return
    name, config = type(scheduler).__name__, scheduler.config
    if "sigma_data" in config or "beta_start" not in config:  # EDM scales what the network sees, and predicts otherwise
        raise MpoError(
            f"the model's scheduler {name} has no schedule of betas; use a model with epsilon or v_prediction"
        )
    if config.prediction_type not in ("epsilon", "v_prediction"):
        raise MpoError(
            f"scheduler prediction_type={config.prediction_type!r} cannot be trained; use a model with epsilon or v_prediction"
        )
    if settings.timestep_shift != 1:
        raise MpoError(f"train.timestep_shift={settings.timestep_shift} is used by flow models alone; remove it")


def num_train_timesteps(scheduler: Any) -> int:
    return scheduler.config.num_train_timesteps


def draw_timestep(settings: Train, scheduler: Any, generator: torch.Generator) -> int | float:
    """A whole timestep in [0, T), or for a flow a real one in [0, T].

    `timestep_range` gives the shares of the schedule that are trained. A flow's share s is moved by `timestep_shift`
    a to a s / (1 + (a - 1) s) (arXiv 2403.03206, eq. 23).
    """
    total = num_train_timesteps(scheduler)
    logit = torch.zeros(())
    if settings.timestep_sampling == "logit_normal":
        logit = settings.timestep_mean + settings.timestep_std * torch.randn((), generator=generator)
    if is_flow(scheduler):
        low, high = settings.timestep_range
        share = (
            torch.sigmoid(logit)
            if settings.timestep_sampling == "logit_normal"
            else torch.rand((), generator=generator)
        )
        s = low + (high - low) * float(share)
        s = settings.timestep_shift * s / (1 + (settings.timestep_shift - 1) * s)
        return total * s
    first, last = (round(share * total) for share in settings.timestep_range)
    last = max(last, first + 1)
    if settings.timestep_sampling == "uniform":
        return int(torch.randint(first, last, (), generator=generator))
    return min(int(first + torch.sigmoid(logit) * (last - first)), last - 1)


def diffusion_noise(
    pipeline: Any, latents: Float[Tensor, "B ..."], noise: Float[Tensor, "B ..."], timesteps: Tensor
) -> tuple[Float[Tensor, "B ..."], Float[Tensor, "B ..."]]:
    """Latents, noise, timesteps (B,) -> noisy latents and the target: the noise, or v. Raises MpoError for others."""
    # The pipeline's scheduler may be one that only samples; DDPM's arithmetic is the same for all of them.
    scheduler: Any = DDPMScheduler.from_config(pipeline.scheduler.config)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    match scheduler.config.prediction_type:
        case "epsilon":
            return noisy, noise
        case "v_prediction":
            return noisy, scheduler.get_velocity(latents, noise, timesteps)
        case other:
            raise AssertionError(other)  # refused by check_scheduler


def flow_noise(
    pipeline: Any, latents: Float[Tensor, "B ..."], noise: Float[Tensor, "B ..."], timesteps: Tensor
) -> tuple[Float[Tensor, "B ..."], Float[Tensor, "B ..."]]:
    """Latents, noise, timesteps (B,) in [0, T] -> (1 - s) latents + s noise, and the velocity noise - latents."""
    s = _flow_share(pipeline.scheduler, timesteps).view(-1, *[1] * (latents.dim() - 1)).to(latents)
    return (1 - s) * latents + s * noise, noise - latents


def _flow_share(scheduler: Any, timesteps: Tensor) -> Tensor:
    return timesteps / num_train_timesteps(scheduler)


def error_weights(scheduler: Any, timesteps: Tensor, settings: Train) -> Float[Tensor, " B"]:
    """Weights of denoising errors at their timesteps (B,)."""
    if settings.error_weighting == "none":
        return torch.ones_like(timesteps, dtype=torch.float32)
    if is_flow(scheduler):
        s = _flow_share(scheduler, timesteps).float()
        snr, prediction_type = ((1 - s) / s).square(), "flow"
    else:
        snr = compute_snr(scheduler, timesteps)
        prediction_type = scheduler.config.prediction_type
    return min_snr_weight(snr, gamma=settings.snr_gamma, prediction_type=prediction_type)


def min_snr_weight(snr: Float[Tensor, " B"], *, gamma: float, prediction_type: str) -> Float[Tensor, " B"]:
    """Min-SNR weights of denoising errors (arXiv 2303.09556, eq. 8): min(snr, gamma) times what turns them to errors in x_0.

    That is 1 / snr for "epsilon" and 1 / (snr + 1) for "v_prediction". For "flow", x_0 = x_s - s v and
    s = 1 / (1 + sqrt(snr)), so s^2.
    """
    capped = snr.clamp(max=gamma)
    match prediction_type:
        case "epsilon":
            return capped / snr
        case "v_prediction":
            return capped / (snr + 1)
        case "flow":
            return capped / (1 + snr.sqrt()).square()
        case other:
            raise ValueError(
                f"prediction_type={other!r} has no min-SNR weight; use 'epsilon', 'v_prediction' or 'flow'"
            )
