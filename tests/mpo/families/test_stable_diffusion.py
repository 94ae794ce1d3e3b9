from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny, DDPMScheduler

from mpo import MpoError
from mpo.families import find_family, stable_diffusion
from tests.conftest import TRAIN_PROMPTS, build_pipeline


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@torch.no_grad()
def test_predict_equals_the_pipelines_own_loop(prediction_type):
    pipeline = build_pipeline(prediction_type)
    family = find_family(pipeline)
    seen = []
    hook = pipeline.unet.register_forward_hook(
        lambda m, args, kwargs, out: seen.append((args, kwargs, out[0])), with_kwargs=True
    )
    pipeline(TRAIN_PROMPTS, num_inference_steps=3, guidance_scale=1.0, generator=torch.Generator().manual_seed(0))
    hook.remove()
    conditioning = family.encode_prompts(pipeline, TRAIN_PROMPTS)
    assert len(seen) == 3
    for (latents, timestep), kwargs, prediction in seen:
        torch.testing.assert_close(
            conditioning["encoder_hidden_states"], kwargs["encoder_hidden_states"], rtol=0, atol=0
        )
        ours = family.predict(pipeline, latents, timestep.repeat(len(latents)), conditioning)
        torch.testing.assert_close(ours, prediction, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_perfect_prediction_leads_back_to_the_latents():
    latents, noise = torch.randn(2, 2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([10, 700])
    for prediction_type in ("epsilon", "v_prediction"):
        pipeline = build_pipeline(prediction_type)
        noisy, target = stable_diffusion.add_noise(pipeline, latents, noise, timesteps)
        torch.testing.assert_close(noisy, pipeline.scheduler.add_noise(latents, noise, timesteps))
        scheduler: Any = DDPMScheduler.from_config(pipeline.scheduler.config)
        for k in range(2):
            step = scheduler.step(
                target[k : k + 1], int(timesteps[k]), noisy[k : k + 1], generator=torch.Generator().manual_seed(0)
            )
            torch.testing.assert_close(step.pred_original_sample, latents[k : k + 1], rtol=1e-3, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("tiny", [False, True])
def test_encode_media_is_the_inverse_that_the_decoder_expects(tiny):
    pipeline: Any = build_pipeline()
    if tiny:
        channels = (8, 8)
        pipeline.vae = AutoencoderTiny(
            encoder_block_out_channels=channels, decoder_block_out_channels=channels, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), scaling_factor=0.7
        )  # fmt: skip
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    latents = stable_diffusion.encode_media(pipeline, pixels)
    encoded = pipeline.vae.encode(pipeline.image_processor.normalize(pixels))
    expected = encoded.latents if tiny else encoded.latent_dist.mean
    torch.testing.assert_close(latents / pipeline.vae.config.scaling_factor, expected)


def test_unknown_families_and_predictions_are_named():
    class NovelPipeline:
        pass

    with pytest.raises(MpoError, match=r"NovelPipeline.*StableDiffusionPipeline, StableDiffusionXLPipeline"):
        find_family(NovelPipeline())
    pipeline = build_pipeline("sample")
    with pytest.raises(MpoError, match="'sample'"):
        stable_diffusion.add_noise(pipeline, torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), torch.tensor([1]))
