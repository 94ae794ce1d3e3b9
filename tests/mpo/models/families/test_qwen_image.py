import numpy as np

from mpo.models.families import sampling_arguments
from tests.helpers.pipelines import build, sample
from tests.helpers.recipes import (
    TRAIN_PROMPTS,
)


def test_qwens_guidance_comes_with_a_negative_prompt():
    pipeline = build("qwen_image")
    arguments = sampling_arguments(pipeline, guidance_scale=4.0, num_prompts=2, size=None)
    assert arguments == {"true_cfg_scale": 4.0, "negative_prompt": [" ", " "]}
    plain = np.asarray(sample(pipeline, TRAIN_PROMPTS[:2], 1.0).images[0], dtype=int)
    guided = np.asarray(sample(pipeline, TRAIN_PROMPTS[:2], 4.0).images[0], dtype=int)
    assert np.abs(plain - guided).max() > 0
