from typing import Any

import pytest
import torch
from diffusers import HeunDiscreteScheduler

from mpo.models.families import denoisers_of, find_family
from mpo.models.guidance import guidance_within, guided_share
from mpo.models.offloading import offload_networks
from tests.helpers.pipelines import SMALL, build, sample
from tests.helpers.recipes import TRAIN_PROMPTS
from tests.helpers.video_pipelines import VIDEO_BUILDERS, build_video, sample_clips

# Variants whose loops are another's are left out; Wan 2.2 A14B has two networks in one loop.
NAMES = (
    "stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "sana", "pixart_sigma", "qwen_image",
    "lumina2", "chroma", pytest.param("flux2_klein", marks=pytest.mark.slow), "cogvideox_2b", "animatediff", "ltx", "wan", "wan_a14b",
)  # fmt: skip
STEPS = 2


def latents_of(pipeline: Any, name: str, guidance: float, shares: tuple[float, float] | None) -> torch.Tensor:
    arguments: Any = {"num_inference_steps": STEPS, "output_type": "latent"}
    with torch.no_grad(), guidance_within(pipeline, shares):
        if name in SMALL:
            return sample(pipeline, TRAIN_PROMPTS[:2], guidance, **arguments).images
        return sample_clips(pipeline, TRAIN_PROMPTS[:2], VIDEO_BUILDERS[name].sizes[0], guidance, **arguments)


def work(pipeline: Any) -> list[int]:
    """A list that is filled with how many rows each forward of the networks computes."""
    rows: list[int] = []
    for network in denoisers_of(pipeline):
        block = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Conv3d | torch.nn.Linear))
        block.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    return rows


@pytest.mark.parametrize("name", NAMES)
def test_guidance_is_as_it_was_within_the_range_and_gone_outside(name):
    """All steps in the range give the pipeline's own latents to the bit; none, those that it gives without guidance."""
    pipeline = build(name) if name in SMALL else build_video(name)
    assert hasattr(find_family(pipeline), "GUIDANCE_PASSES")
    forwards = [network.forward for network in denoisers_of(pipeline)]
    guided, plain = (latents_of(pipeline, name, guidance, None) for guidance in (4.0, 1.0))
    torch.testing.assert_close(latents_of(pipeline, name, 4.0, (0.0, 1.0)), guided, rtol=0, atol=0)
    torch.testing.assert_close(latents_of(pipeline, name, 4.0, (0.9, 0.95)), plain, rtol=1e-3, atol=1e-4)
    some = latents_of(pipeline, name, 4.0, (0.5, 1.0))
    assert all((some - other).abs().max() > 1e-4 for other in (guided, plain))
    assert [network.forward for network in denoisers_of(pipeline)] == forwards


@pytest.mark.parametrize("name", ["stable_diffusion", "qwen_image", "wan_a14b"])
def test_a_spared_pass_is_not_computed(name):
    pipeline = build(name) if name in SMALL else build_video(name)
    rows, counts = work(pipeline), []
    for shares in (None, (0.5, 1.0)):
        latents_of(pipeline, name, 4.0, shares)
        counts.append(sum(rows))
        rows.clear()
    assert counts[1] / counts[0] == pytest.approx(0.75)  # 1 of 2 steps has one pass instead of two


@pytest.mark.parametrize(("shares", "share"), [(None, 1.0), ((0.0, 0.6), 0.6), ((0.2, 0.55), 0.4), ((0.98, 1.0), 0.0)])
def test_the_guided_share_by_hand(shares, share):
    """Of ten steps, at 0.0 to 0.9: 0.2 to 0.5 are within [0.2, 0.55)."""
    assert guided_share(10, shares) == pytest.approx(share)


def test_a_range_is_of_calls_where_a_step_has_two():
    """Heun's asks twice in all steps but the last: of its three calls the first two have both passes."""
    pipeline = build("stable_diffusion")
    pipeline.scheduler = HeunDiscreteScheduler.from_config(pipeline.scheduler.config)
    rows = work(pipeline)
    latents_of(pipeline, "stable_diffusion", 4.0, (0.0, 0.5))
    assert rows == [4, 4, 2]


@pytest.mark.parametrize("name", ["stable_diffusion", "qwen_image"])
def test_a_network_that_waits_in_the_machines_memory_is_guided_the_same(name):
    """Its hooks come off and go on again after each call, and with them what runs in the place of its forward."""
    pipeline = build(name)
    expected = latents_of(pipeline, name, 4.0, (0.0, 0.5))
    offload_networks(pipeline, "cpu:0")
    rows = work(pipeline)
    for _ in range(2):
        torch.testing.assert_close(latents_of(pipeline, name, 4.0, (0.0, 0.5)), expected, rtol=0, atol=0)
        assert sum(rows) == 3 * 2
        rows.clear()
