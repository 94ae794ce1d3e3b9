"""Best of N: draw several pictures with a diffusers pipeline and keep the one that the reward prefers, and say why.

python examples/best_of_n.py [MODEL]      # a folder or hub id; default: the small model that ships here
"""

import sys
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from mpo.models import EMBEDDED
from reward import VisionReward

PROMPT = "a red circle on a white background"
NUM_CANDIDATES = 8


def main(model: str | Path = EMBEDDED, output: Path = Path("best.png")) -> Path:
    pipeline = DiffusionPipeline.from_pretrained(model).to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in range(NUM_CANDIDATES)]
    images = pipeline(
        [PROMPT] * NUM_CANDIDATES, generator=generators, num_inference_steps=12, guidance_scale=2.0
    ).images  # type: ignore[attr-defined]

    reward = VisionReward("measured", "image", questions="answerable")
    total = reward.score(images, PROMPT).total
    best, worst = int(total.argmax()), int(total.argmin())
    images[best].save(output)
    print(f"seed {best} scores {total[best]:.3f}, seed {worst} {total[worst]:.3f}")
    for part in reward.compare(images[best], images[worst], PROMPT).contributions[:5]:
        print(f"  {part.difference:+.3f}  {part.question.ask(PROMPT)}")
    return output


if __name__ == "__main__":
    print(main(*sys.argv[1:2]))
