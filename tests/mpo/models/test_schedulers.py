import inspect
from typing import Any

import pytest
import torch

from mpo import MpoError
from mpo.models.families import find_family
from mpo.models.noise import is_flow
from mpo.models.schedulers import build_scheduler, scheduler_in_place
from tests.helpers.pipelines import SMALL, build, sample
from tests.helpers.recipes import TRAIN_PROMPTS
from tests.helpers.video_pipelines import VIDEO_BUILDERS, build_video, sample_clips

OTHERS = (
    "UniPCMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "DDIMScheduler",
)
# Which of them fit. Those of CogVideoX alone shift its betas (snr_shift_scale); its pipeline's own loop knows their steps.
FITS = {
    "stable_diffusion": OTHERS,
    "stable_diffusion_v": OTHERS,
    "stable_diffusion_xl": OTHERS,
    "pixart_sigma": OTHERS,
    **dict.fromkeys(("stable_diffusion_3", "sana", "wan", "wan_euler"), OTHERS[:2]),
    **dict.fromkeys(("flux", "qwen_image", "chroma", "lumina2", "ltx", "hunyuan_video"), OTHERS[:1]),
    **dict.fromkeys(("z_image", "cogview4", "cogvideox_2b"), ()),
}


def small(name: str) -> Any:
    return build(name) if name in SMALL else build_video(name)


@pytest.mark.parametrize("name", FITS)
@torch.no_grad()
def test_what_fits_samples_in_the_pipeline_and_what_does_not_is_refused(name):
    pipeline = small(name)
    own, fitting = pipeline.scheduler, []
    for other in OTHERS:
        try:
            build_scheduler(own, other, find_family(pipeline))
        except MpoError:
            continue
        fitting.append(other)
        if fitting[:-1] and name not in ("stable_diffusion", "wan"):
            continue  # one of a family will do
        with scheduler_in_place(pipeline, other):
            assert type(pipeline.scheduler).__name__ == other
            if name in SMALL:
                made = sample(pipeline, TRAIN_PROMPTS[:1], output_type="latent").images
            else:
                made = sample_clips(pipeline, TRAIN_PROMPTS[:1], VIDEO_BUILDERS[name].sizes[0], output_type="latent")
            assert made.isfinite().all()
        assert pipeline.scheduler is own
    assert tuple(fitting) == FITS[name]


@pytest.mark.parametrize("name", [name for name, others in FITS.items() if others])
def test_a_perfect_prediction_leads_to_the_latents(name):
    """By each sampler that fits, in six steps: it reads the network's answer and the noise as the model means them, and clips nothing."""
    pipeline = small(name)
    own, family = pipeline.scheduler, find_family(pipeline)
    shape = (1, 4, 8, 8)
    latents, noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    for other in FITS[name]:
        scheduler = build_scheduler(own, other, family)
        assert not is_flow(own) or is_flow(scheduler)
        mu = (
            {"mu": 0.8}
            if "mu" in inspect.signature(scheduler.set_timesteps).parameters
            and scheduler.config.get("use_dynamic_shifting")
            else {}
        )
        scheduler.set_timesteps(6, **mu)
        x = noise if is_flow(own) else scheduler.add_noise(latents, noise, scheduler.timesteps[:1])
        for t in scheduler.timesteps:
            if is_flow(own):
                answer = noise - latents
                share = scheduler.sigmas[scheduler.step_index or 0]
                assert float(t) == pytest.approx(1000 * float(share), abs=1.01)
            else:
                a = own.alphas_cumprod[t.long()]
                v = a**0.5 * noise - (1 - a) ** 0.5 * latents
                answer = noise if own.config.prediction_type == "epsilon" else v
            scheduler.scale_model_input(x, t)  # some count their steps there
            x = scheduler.step(answer, t, x).prev_sample
        error = (
            0.15 if other == "DDIMScheduler" else 1e-2
        )  # its last step ends at the first beta, if the model's own does
        torch.testing.assert_close(x, latents, rtol=0, atol=error)


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("stable_diffusion", "DPMSolverMultistep", "no scheduler of diffusers; did you mean 'DPMSolverMultistepScheduler'"),
        ("stable_diffusion", "UNet2DConditionModel", "no scheduler of diffusers"),
        ("stable_diffusion", "FlowMatchEulerDiscreteScheduler", "scheduler is DDIMScheduler, which learnt a schedule of bet"),
        ("stable_diffusion", "EDMEulerScheduler", "does not fit"),
        ("stable_diffusion_3", "DDIMScheduler", "samples no flow"),
        ("flux", "FlowMatchHeunDiscreteScheduler", "cannot shift timesteps by resolution"),
        ("flux", "DPMSolverMultistepScheduler", "does not run in this model's pipeline"),
        ("cogvideox_2b", "UniPCMultistepScheduler", "ignores snr_shift_scale=3.0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(name, other, message):
    pipeline = small(name)
    with pytest.raises(MpoError, match=message):
        build_scheduler(pipeline.scheduler, other, find_family(pipeline))


def test_zero_terminal_snr_is_not_lost():
    """A sampler without it would begin at noise that still holds some of the picture."""
    own = build("stable_diffusion_v").scheduler
    zero = type(own).from_config(own.config, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    family = find_family(build("stable_diffusion_v"))
    assert build_scheduler(zero, "UniPCMultistepScheduler", family).config.rescale_betas_zero_snr
    with pytest.raises(MpoError, match="ignores rescale_betas_zero_snr=True"):
        build_scheduler(zero, "HeunDiscreteScheduler", family)
