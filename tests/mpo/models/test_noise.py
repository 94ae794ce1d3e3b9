"""Noise against every scheduler of diffusers: which are refused, and that ours is theirs for the others."""

import inspect
import math
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    UniPCMultistepScheduler,
)
from diffusers.pipelines.qwenimage.pipeline_qwenimage import calculate_shift
from diffusers.training_utils import compute_snr
from hypothesis import given
from hypothesis import strategies as st

from mpo import MpoError
from mpo.models.families import mu_of_tokens
from mpo.models.noise import (
    check_scheduler,
    diffusion_noise,
    draw_timestep,
    error_weights,
    flow_noise,
    is_flow,
    min_snr_weight,
    timestep_shift,
)
from tests.helpers.recipes import settings_of


def test_min_snr_weights():
    snr = torch.tensor([0.5, 5.0, 50.0])
    torch.testing.assert_close(min_snr_weight(snr, gamma=5.0, prediction_type="epsilon"), torch.tensor([1.0, 1.0, 0.1]))
    expected = torch.tensor([0.5 / 1.5, 5 / 6, 5 / 51])
    torch.testing.assert_close(min_snr_weight(snr, gamma=5.0, prediction_type="v_prediction"), expected)


pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")  # KDPM2 and numpy 2

# Their own noise is the paper's formula; the others are samplers, whose own goes by the sigmas of their last sampling.
WITH_OWN_NOISE = (
    "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler", "DDIMParallelScheduler", "DDIMScheduler", "DDPMParallelScheduler",
    "DDPMScheduler", "LCMScheduler", "TCDScheduler",
)  # fmt: skip
SAMPLERS = (
    "DDIMInverseScheduler", "DEISMultistepScheduler", "DPMSolverMultistepInverseScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "LMSDiscreteScheduler", "PNDMScheduler",
    "SASolverScheduler", "UnCLIPScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler")


def every_scheduler() -> dict[str, Any]:
    """By name, with its defaults. Those that cannot be made so are for other things than latents."""
    made = {}
    for name in dir(diffusers.schedulers):
        cls = getattr(diffusers.schedulers, name)
        if not inspect.isclass(cls) or not issubclass(cls, diffusers.SchedulerMixin) or cls is diffusers.SchedulerMixin:
            continue
        required = [p for p in list(inspect.signature(cls.__init__).parameters.values())[1:] if p.default is p.empty]
        if not [p for p in required if p.kind is p.POSITIONAL_OR_KEYWORD]:
            made[name] = cls()
    return made


def variants(name: str) -> list[Any]:
    """A scheduler as Stable Diffusion configures it, and with what changes its alphas."""
    cls = getattr(diffusers, name)
    known = inspect.signature(cls.__init__).parameters
    if "beta_start" not in known:
        return [cls()]
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    several: list[dict[str, Any]] = [{}]
    if "rescale_betas_zero_snr" in known:
        several.append({"rescale_betas_zero_snr": True})
    if "snr_shift_scale" in known:
        several.append({"rescale_betas_zero_snr": True, "snr_shift_scale": 1.0})
    return [cls(**schedule, **changes) for changes in several]


def test_each_scheduler_of_diffusers_is_trained_on_or_refused_in_one_line():
    admitted = {*WITH_OWN_NOISE, *SAMPLERS, *FLOWS}
    schedulers = every_scheduler()
    assert admitted <= schedulers.keys()
    for name, scheduler in schedulers.items():
        if name in admitted:
            check_scheduler(scheduler, settings_of(), knows_mu=True)
            continue
        with pytest.raises(MpoError, match=f"^the model's scheduler {name} .*; use a model with") as error:
            check_scheduler(scheduler, settings_of(), knows_mu=True)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [*WITH_OWN_NOISE, *SAMPLERS])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_noise_is_the_papers_formula_on_the_schedulers_own_alphas(name, prediction_type):
    """At all timesteps, in float64; the scheduler's own noise where it has such, CogVideoX's shifted one included."""
    for scheduler in variants(name):
        scheduler.register_to_config(prediction_type=prediction_type)
        t = torch.arange(scheduler.config.num_train_timesteps)
        x, noise = torch.randn(2, len(t), 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        a = scheduler.alphas_cumprod.double().view(-1, 1, 1, 1)
        noisy, target = diffusion_noise(SimpleNamespace(scheduler=scheduler), x, noise, t)
        expected = noise if prediction_type == "epsilon" else a.sqrt() * noise - (1 - a).sqrt() * x
        torch.testing.assert_close(noisy, a.sqrt() * x + (1 - a).sqrt() * noise, rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(target, expected, rtol=1e-14, atol=1e-14)
        if name in WITH_OWN_NOISE:
            own = type(scheduler).from_config(scheduler.config)  # add_noise casts what it holds
            torch.testing.assert_close(noisy, own.add_noise(x, noise, t), rtol=1e-14, atol=1e-14)
            if prediction_type == "v_prediction":
                torch.testing.assert_close(target, own.get_velocity(x, noise, t), rtol=1e-14, atol=1e-14)
        half, _ = diffusion_noise(SimpleNamespace(scheduler=scheduler), x.bfloat16(), noise.bfloat16(), t)
        assert half.dtype == torch.bfloat16
        exact = a.sqrt() * x.bfloat16().double() + (1 - a).sqrt() * noise.bfloat16().double()
        torch.testing.assert_close(half.double(), exact, rtol=2**-8, atol=1e-6)


def test_noise_is_the_same_after_a_sampling():
    """Samplers change state; validation samples in the midst of training."""
    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear")
    inputs = (SimpleNamespace(scheduler=scheduler), torch.ones(2, 3, 4), torch.zeros(2, 3, 4), torch.tensor([3, 700]))
    before, _ = diffusion_noise(*inputs)
    scheduler.set_timesteps(7)
    torch.testing.assert_close(diffusion_noise(*inputs)[0], before, rtol=0, atol=0)


@pytest.mark.parametrize("name", [*WITH_OWN_NOISE, *SAMPLERS])
def test_error_weights_come_from_the_same_alphas(name):
    settings = settings_of(error_weighting="min_snr")
    for scheduler in variants(name):
        for prediction_type in ("epsilon", "v_prediction"):
            scheduler.register_to_config(prediction_type=prediction_type)
            t = torch.arange(scheduler.config.num_train_timesteps)
            weights = error_weights(scheduler, t, settings)
            snr = compute_snr(scheduler, t).double()
            denominator = snr if prediction_type == "epsilon" else snr + 1
            expected = torch.where(
                snr == 0, 1.0 if prediction_type == "epsilon" else 0.0, snr.clamp(max=5) / denominator
            )
            assert weights.dtype == torch.float32
            torch.testing.assert_close(weights.double(), expected, rtol=1e-3, atol=1e-6)


def test_weights_at_both_ends_are_the_limits():
    """Pure noise has a signal-to-noise ratio of 0, a clean picture one of infinity: 0 / 0 and inf / inf."""
    ends = torch.tensor([0.0, 1e-30, 1e30, math.inf])
    expected = {"epsilon": [1.0, 1.0, 0.0, 0.0], "v_prediction": [0.0] * 4, "flow": [0.0] * 4}
    for prediction_type, weights in expected.items():
        at_ends = min_snr_weight(ends, gamma=5.0, prediction_type=prediction_type)
        torch.testing.assert_close(at_ends, torch.tensor(weights))
    settings = settings_of(error_weighting="min_snr")
    flow = error_weights(FlowMatchEulerDiscreteScheduler(), torch.tensor([0.0, 500.0, 1000.0]), settings)
    torch.testing.assert_close(flow, torch.tensor([0.0, 0.25, 0.0]))  # snr 1 at s = 1/2: min(1, 5) s^2
    rescaled = DDIMScheduler(rescale_betas_zero_snr=True)
    assert error_weights(rescaled, torch.tensor([999]), settings).tolist() == [1.0]


@given(snr=st.floats(0, math.inf), gamma=st.floats(0.1, 100), kind=st.sampled_from(["epsilon", "v_prediction", "flow"]))
def test_weights_are_within_0_and_1_or_gamma(snr, gamma, kind):
    weight = min_snr_weight(torch.tensor([snr]), gamma=gamma, prediction_type=kind).item()
    assert 0 <= weight <= max(1.0, gamma)
    assert kind != "epsilon" or weight <= 1


SHARES = np.linspace(0.05, 1.0, 20)[::-1]


def shifted(scheduler: Any, mu: float | None = None, shares: np.ndarray = SHARES) -> list[float]:
    a = timestep_shift(settings_of(), scheduler, mu)
    return [a * s / (1 + (a - 1) * s) for s in shares]


@pytest.mark.parametrize("num_tokens", [256, 1024, 4096])
def test_mu_is_qwens_own_too(num_tokens):
    config = FlowMatchEulerDiscreteScheduler(base_shift=0.4, max_shift=1.3).config
    own = calculate_shift(num_tokens, config.base_image_seq_len, config.max_image_seq_len, 0.4, 1.3)
    assert mu_of_tokens(config, num_tokens) == own


@pytest.mark.parametrize("cls", [FlowMatchEulerDiscreteScheduler, FlowMatchLCMScheduler])
@pytest.mark.parametrize("kind", ["exponential", "linear", None])
@pytest.mark.parametrize("num_tokens", [256, 1024, 4096])
def test_shares_are_shifted_as_set_timesteps_shifts_sigmas(cls, kind, num_tokens):
    fields = {"shift": 3.0} if kind is None else {"use_dynamic_shifting": True, "time_shift_type": kind}
    scheduler = cls(**fields, base_shift=0.4, max_shift=1.3)
    mu = mu_of_tokens(scheduler.config, num_tokens)
    arguments = {} if kind is None else {"mu": mu}
    scheduler.set_timesteps(num_inference_steps=len(SHARES), sigmas=list(SHARES), **arguments)
    assert scheduler.sigmas[:-1].tolist() == pytest.approx(shifted(scheduler, mu), rel=1e-5)


def test_schedulers_that_take_no_sigmas_shift_alike():
    """These make the shares themselves: evenly from 1 down, as their code has it."""
    heun = FlowMatchHeunDiscreteScheduler(shift=3.0)
    ends = heun.sigma_max, heun.sigma_min
    heun.set_timesteps(20)
    sigmas = [float(heun.sigmas[0]), *heun.sigmas[1:-1:2].tolist()]
    assert sigmas == pytest.approx(shifted(heun, shares=np.linspace(*ends, 20)), rel=1e-5)
    fields: Any = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "final_sigmas_type": "zero"}
    for cls, ends in ((DPMSolverMultistepScheduler, (0.999, 0)), (UniPCMultistepScheduler, (1, 0.001))):
        solver = cls(**fields, flow_shift=3.0)
        solver.set_timesteps(20)
        shares = np.linspace(*ends, 21)[:-1]
        assert solver.sigmas[:-1].tolist() == pytest.approx(shifted(solver, shares=shares), rel=1e-3), cls


def test_timesteps_are_drawn_at_the_shift_of_the_resolution():
    """The median of uniform shares, 1/2, goes to a / (1 + a): a = exp(0.5) at 256 tokens, exp(1.15) at 4,096."""
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)

    def median(mu: float | None, **changes: Any) -> float:
        generator = torch.Generator().manual_seed(0)
        settings = settings_of(**changes)
        return float(np.median([draw_timestep(settings, scheduler, generator, mu) for _ in range(1001)]))

    for num_tokens, a in ((256, math.exp(0.5)), (4096, math.exp(1.15))):
        assert median(mu_of_tokens(scheduler.config, num_tokens)) == pytest.approx(1000 * a / (1 + a), abs=25)
    assert median(None, timestep_shift=1.0) == pytest.approx(500, abs=30)  # a number overrides
    assert median(1.15, timestep_shift=9.0) == pytest.approx(900, abs=10)


@pytest.mark.parametrize(
    ("scheduler", "changes", "knows_mu", "message"),
    [
        (DDPMScheduler(), {"timestep_shift": 1.0}, True, r"timestep_shift=1\.0 is used by flow models alone; remove it"),
        (
            FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), {}, False,
            r"shifts timesteps by resolution .*set train\.timestep_shift",
        ),
        (FlowMatchEulerDiscreteScheduler(invert_sigmas=True), {}, True, "flow sigmas of its own kind"),
        (DDPMScheduler(prediction_type="sample"), {}, True, "prediction_type='sample' cannot be trained"),
    ],
    ids=["shift", "resolution", "inverted", "sample"],
)  # fmt: skip
def test_what_cannot_be_trained_is_one_line(scheduler, changes, knows_mu, message):
    with pytest.raises(MpoError, match=message) as error:
        check_scheduler(scheduler, settings_of(**changes), knows_mu=knows_mu)
    assert "\n" not in str(error.value)


def test_a_given_shift_stands_in_for_one_that_a_family_does_not_say():
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    check_scheduler(scheduler, settings_of(timestep_shift=2.0), knows_mu=False)
    assert timestep_shift(settings_of(timestep_shift=2.0), scheduler, None) == 2.0


def test_latents_may_have_an_axis_of_frames():
    """Noise of clips: every frame of one at the same level."""
    latents, noise = torch.randn(2, 2, 4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    for scheduler, t, f in (
        (CogVideoXDDIMScheduler(), torch.tensor([3, 900]), diffusion_noise),
        (FlowMatchEulerDiscreteScheduler(), torch.tensor([3.0, 900.0]), flow_noise),
    ):
        pipeline = SimpleNamespace(scheduler=scheduler)
        noisy, target = f(pipeline, latents, noise, t)
        assert is_flow(scheduler) == (f is flow_noise)
        for k in range(3):
            frame = f(pipeline, latents[:, :, k], noise[:, :, k], t)
            torch.testing.assert_close(noisy[:, :, k], frame[0])
            torch.testing.assert_close(target[:, :, k], frame[1])
