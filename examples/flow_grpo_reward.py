"""The reward in trainers that follow ddpo-pytorch and flow_grpo: `f(images, prompts, metadata) -> (scores, info)`.

    python examples/flow_grpo_reward.py

In flow_grpo, add an entry to the table of score functions in flow_grpo/rewards.py:
    "visionreward": visionreward_score
and in a config: config.reward_fn = {"visionreward": 1.0}. In ddpo-pytorch, name it as config.reward_fn.
"""

from collections.abc import Callable

import numpy as np
import torch

from reward import VisionReward


def visionreward_score(device: str | None = None) -> Callable:
    """A factory, as these trainers want it: the judge is loaded once, not in every call."""
    del device  # the measured judge runs on the CPU; for a VLM: load_judge("vlm", model=…, device_map=device)
    return VisionReward("measured", "image", questions="answerable").as_reward_function()


def main() -> np.ndarray:
    reward_function = visionreward_score()
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    prompts = ("a red circle", "a blue star", "a green square")
    metadata = ({}, {}, {})
    scores, info = reward_function(images, prompts, metadata, only_strict=True)
    rewards = torch.as_tensor(scores).float()  # what the trainers do with it
    assert rewards.shape == (3,)
    print("rewards", rewards.tolist())
    print("dimensions", {name: np.round(values, 3).tolist() for name, values in info.items()})
    return scores


if __name__ == "__main__":
    main()
