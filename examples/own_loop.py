"""The reward in a training loop of your own: score what the model drew, look at each dimension, drop what failed.

python examples/own_loop.py
"""

import numpy as np
import torch

from reward import VisionReward


def main() -> np.ndarray:
    # Another judge goes here: load_judge("vlm", model="Qwen/Qwen2.5-VL-3B-Instruct", dtype="bfloat16").
    reward = VisionReward("measured", "image", questions="answerable")
    prompts = ["a red circle on a white background"] * 4
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 64, 64, generator=generator)  # (N, C, H, W) in [0, 1], as a pipeline's output_type="pt"
    images[1] = torch.nan  # a sample that went wrong does not stop a training run

    scores = reward.score(images, prompts, on_error="record")
    for row, reason in scores.failures.items():
        print(f"sample {row} has no score: {reason}")
    for name, values in zip(reward.checklist.dimensions, scores.dimensions.T, strict=True):
        print(f"{name:<12}", np.round(values, 3))
    advantages = scores.total - np.nanmean(scores.total)
    return np.nan_to_num(advantages)  # a failed sample pulls nowhere


if __name__ == "__main__":
    print("advantages  ", np.round(main(), 3))
