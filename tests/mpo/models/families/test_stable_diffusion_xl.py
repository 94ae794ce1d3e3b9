import torch

from mpo.models.families import find_family
from tests.helpers.pipelines import build
from tests.helpers.recipes import (
    TRAIN_PROMPTS,
)


def test_sdxl_takes_the_pictures_size_as_a_condition():
    pipeline = build("stable_diffusion_xl")
    family = find_family(pipeline)
    seen = []
    pipeline.unet.register_forward_hook(
        lambda m, a, kwargs, o: seen.append(kwargs["added_cond_kwargs"]["time_ids"]), with_kwargs=True
    )
    with torch.no_grad():
        pipeline(TRAIN_PROMPTS[0], width=48, height=32, num_inference_steps=1, guidance_scale=1.0)
        family.predict(
            pipeline, torch.zeros(1, 4, 16, 24), torch.tensor([5]), family.encode_prompts(pipeline, TRAIN_PROMPTS[:1])
        )
    assert seen[1].tolist() == seen[0].tolist() == [[32, 48, 0, 0, 32, 48]]
