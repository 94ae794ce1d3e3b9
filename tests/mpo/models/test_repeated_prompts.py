from typing import Any

import pytest
import torch

from mpo.models.repeated_prompts import prompts_read_once
from tests.helpers.pipelines import SMALL, build, sample
from tests.helpers.recipes import TRAIN_PROMPTS
from tests.helpers.video_pipelines import VIDEO_BUILDERS, build_video, sample_clips

PROMPTS = [TRAIN_PROMPTS[0], TRAIN_PROMPTS[0], TRAIN_PROMPTS[1] + " and a green heart", TRAIN_PROMPTS[0]]
# Those whose pipelines read prompts in other ways: CLIP, two, three, T5 with a mask, language models.
NAMES = ("stable_diffusion", "stable_diffusion_3", "flux", "qwen_image", "lumina2", "hunyuan_video")


def draw(pipeline: Any, name: str, prompts: list[str], guidance: float) -> torch.Tensor:
    generators = [torch.Generator().manual_seed(k) for k in range(len(prompts))]
    arguments: Any = {"num_inference_steps": 1, "output_type": "latent", "generator": generators}
    if name in SMALL:
        return sample(pipeline, prompts, guidance, **arguments).images
    return sample_clips(pipeline, prompts, VIDEO_BUILDERS[name].sizes[0], guidance, **arguments)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_equal_prompts_are_read_once_and_pictures_stay_as_they_are(name):
    pipeline = build(name) if name in SMALL else build_video(name)
    rows: list[int] = []
    for part, module in pipeline.components.items():
        if part.startswith("text_encoder") and module is not None:
            layer = next(m for m in module.modules() if isinstance(m, torch.nn.Embedding))
            layer.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    guidance = 1.0 if name == "hunyuan_video" else 3.0
    before = draw(pipeline, name, PROMPTS, guidance)
    seen, _ = rows.copy(), rows.clear()
    with prompts_read_once(pipeline):
        once = draw(pipeline, name, PROMPTS, guidance)
        different = draw(pipeline, name, TRAIN_PROMPTS[:2], guidance)
    torch.testing.assert_close(once, before, rtol=1e-5, atol=1e-5)
    assert max(seen) == 4
    assert max(rows) == 2
    torch.testing.assert_close(draw(pipeline, name, TRAIN_PROMPTS[:2], guidance), different, rtol=1e-5, atol=1e-5)
    rows.clear()
    draw(pipeline, name, PROMPTS, guidance)  # no hook is left
    assert rows == seen
