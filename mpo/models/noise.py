"""Noise: its level for each draw of the training stream, and what it does to latents.

Diffusion models have whole timesteps t and x_t = sqrt(a_t) x + sqrt(1 - a_t) noise, where a_t is the scheduler's own
`alphas_cumprod` (arXiv 2006.11239, eq. 4). Flow models have x_s = (1 - s) x + s noise, s in [0, 1], and timestep 1000 s
(arXiv 2403.03206, section 2).
"""

# B items; chw: the axes of one item's latents

import math
from typing import Any

import torch
from jaxtyping import Float, Int, Real
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


def check_scheduler(scheduler: Any, settings: Train, *, knows_mu: bool) -> None:
    """Raises MpoError for a scheduler whose noise cannot be trained on, and for settings that it does not use.

    knows_mu: whether the family says how far a scheduler shifts that shifts by resolution.
    """
    name, config = type(scheduler).__name__, scheduler.config
    if is_flow(scheduler):
        _check_flow(name, config, settings, knows_mu)
        return
    # EDM has only a schedule of sigmas: it scales the network's input, and predicts something else.
    if "sigma_data" in config or not hasattr(scheduler, "alphas_cumprod"):
        raise MpoError(
            f"the model's scheduler {name} has no schedule of betas; use a model with epsilon or v_prediction"
        )
    if config.get("prediction_type") not in ("epsilon", "v_prediction"):
        raise MpoError(
            f"the model's scheduler {name} with prediction_type={config.get('prediction_type')!r} cannot be trained; use a model with epsilon or v_prediction"
        )
    if settings.timestep_shift is not None:
        raise MpoError(f"train.timestep_shift={settings.timestep_shift} is used by flow models alone; remove it")


def _check_flow(name: str, config: Any, settings: Train, knows_mu: bool) -> None:
    if ("shift" not in config and "flow_shift" not in config) or "stages" in config or config.get("invert_sigmas"):
        raise MpoError(
            f"the model's scheduler {name} has flow sigmas of its own kind, which cannot be trained; use a model with FlowMatchEulerDiscreteScheduler"
        )
    if config.get("use_dynamic_shifting") and settings.timestep_shift is None and not knows_mu:
        raise MpoError(
            f"the model's scheduler {name} shifts timesteps by resolution (use_dynamic_shifting), which this model's pipeline does not; set train.timestep_shift"
        )


def num_train_timesteps(scheduler: Any) -> int:
    return scheduler.config.num_train_timesteps


def timestep_shift(settings: Train, scheduler: Any, mu: float | None) -> float:
    """The factor a that moves a flow's share s to a s / (1 + (a - 1) s): the recipe's, else what the scheduler samples with.

    mu: of the latents' shape, as `families.shift_mu` gives it; schedulers that shift by resolution need it.
    This ignores what depends on the number of sampling steps: `shift_terminal`, Karras and other spacings.
    """
    return sampling_shift(scheduler, mu) if settings.timestep_shift is None else settings.timestep_shift


def sampling_shift(scheduler: Any, mu: float | None) -> float:
    """The factor that the scheduler samples with, as in `timestep_shift`."""
    config = scheduler.config
    if not config.get("use_dynamic_shifting"):
        return float(config["shift"] if "shift" in config else config["flow_shift"])
    assert mu is not None  # refused by check_scheduler
    return mu if config.get("time_shift_type") == "linear" else math.exp(mu)


def trained_range(
    settings: Train, scheduler: Any, expert: str | None, boundary_ratio: float | None
) -> tuple[float, float]:
    """`timestep_range`, narrowed to that of the expert: "high" works on timesteps from `boundary_ratio` x T on, "low" below.

    A flow's boundary is that of the shifted share. Raises MpoError if the recipe asks for noise that the expert never sees.
    """
    if expert is None or boundary_ratio is None:
        return settings.timestep_range
    a = timestep_shift(settings, scheduler, None)
    share = boundary_ratio / (a - (a - 1) * boundary_ratio)
    first, last = (share, 1.0) if expert == "high" else (0.0, share)
    low, high = settings.timestep_range
    if (low, high) == (0.0, 1.0):
        return first, last
    if low < first - 0.001 or high > last + 0.001:
        raise MpoError(
            f"train.timestep_range={[low, high]}: the expert {expert!r} works within {[round(first, 3), round(last, 3)]} alone; use that, or remove timestep_range"
        )
    return max(low, first), min(high, last)


def draw_timestep(settings: Train, scheduler: Any, generator: torch.Generator, mu: float | None = None) -> int | float:
    """A whole timestep in [0, T), or for a flow a real one in [0, T].

    `timestep_range` gives the shares of the schedule that are trained. A flow's share is then shifted
    (arXiv 2403.03206, eq. 23); mu is as in `timestep_shift`.
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
        a = timestep_shift(settings, scheduler, mu)
        return total * a * s / (1 + (a - 1) * s)
    first, last = (round(share * total) for share in settings.timestep_range)
    last = max(last, first + 1)
    if settings.timestep_sampling == "uniform":
        return int(torch.randint(first, last, (), generator=generator))
    return min(int(first + torch.sigmoid(logit) * (last - first)), last - 1)


def diffusion_noise(
    pipeline: Any, latents: Float[Tensor, " B *chw"], noise: Float[Tensor, " B *chw"], timesteps: Int[Tensor, " B"]
) -> tuple[Float[Tensor, " B *chw"], Float[Tensor, " B *chw"]]:
    """Noisy latents and the target: the noise, or v = sqrt(a) noise - sqrt(1 - a) latents (arXiv 2202.00512, section 4).

    The scheduler's own `add_noise` is not used: many return another scale, and look up the steps of their last
    sampling. Arithmetic is in float32 at least, the result in the latents' precision.
    """
    scheduler = pipeline.scheduler
    a = _alphas(scheduler, timesteps, latents.dtype).view(-1, *[1] * (latents.dim() - 1))
    signal, spread = a.sqrt(), (1 - a).sqrt()
    noisy = (signal * latents + spread * noise).to(latents.dtype)
    match scheduler.config.prediction_type:
        case "epsilon":
            return noisy, noise
        case "v_prediction":
            return noisy, (signal * noise - spread * latents).to(latents.dtype)
        case other:
            raise AssertionError(other)  # refused by check_scheduler


def _alphas(scheduler: Any, timesteps: Int[Tensor, " B"], dtype: torch.dtype) -> Float[Tensor, " B"]:
    """The scheduler's cumulative products, with its rescaling and shifts, in `dtype` or float32."""
    return scheduler.alphas_cumprod.to(timesteps.device, torch.promote_types(dtype, torch.float32))[timesteps]


def flow_noise(
    pipeline: Any, latents: Float[Tensor, " B *chw"], noise: Float[Tensor, " B *chw"], timesteps: Real[Tensor, " B"]
) -> tuple[Float[Tensor, " B *chw"], Float[Tensor, " B *chw"]]:
    """Timesteps in [0, T] -> (1 - s) latents + s noise, and the velocity noise - latents."""
    s = _flow_share(pipeline.scheduler, timesteps).view(-1, *[1] * (latents.dim() - 1)).to(latents)
    return (1 - s) * latents + s * noise, noise - latents


def _flow_share(scheduler: Any, timesteps: Real[Tensor, " B"]) -> Float[Tensor, " B"]:
    return timesteps / num_train_timesteps(scheduler)


def error_weights(scheduler: Any, timesteps: Real[Tensor, " B"], settings: Train) -> Float[Tensor, " B"]:
    """Weights of denoising errors at their timesteps, in [0, 1], float32."""
    if settings.error_weighting == "none":
        return torch.ones_like(timesteps, dtype=torch.float32)
    if is_flow(scheduler):
        s = _flow_share(scheduler, timesteps).float()
        snr, prediction_type = ((1 - s) / s).square(), "flow"
    else:
        a = _alphas(scheduler, timesteps, torch.float32)
        snr, prediction_type = a / (1 - a), scheduler.config.prediction_type
    return min_snr_weight(snr, gamma=settings.snr_gamma, prediction_type=prediction_type)


def min_snr_weight(snr: Float[Tensor, " B"], *, gamma: float, prediction_type: str) -> Float[Tensor, " B"]:
    """Min-SNR weights of denoising errors (arXiv 2303.09556, eq. 8): min(snr, gamma) times what turns them into errors in x_0.

    That is 1 / snr for "epsilon" and 1 / (snr + 1) for "v_prediction". For "flow", x_0 = x_s - s v and
    s = 1 / (1 + sqrt(snr)), so s^2. snr in [0, inf], both ends included: at 0, pure noise, they are 1, 0 and 0 (as the
    limits are); at inf, no noise, all are 0.
    """
    capped = snr.clamp(max=gamma)
    match prediction_type:
        case "epsilon":
            return (gamma / snr).clamp(max=1)
        case "v_prediction":
            return capped / (snr + 1)
        case "flow":
            return capped / (1 + snr.sqrt()).square()
        case other:
            raise ValueError(
                f"prediction_type={other!r} has no min-SNR weight; use 'epsilon', 'v_prediction' or 'flow'"
            )
