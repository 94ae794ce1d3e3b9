"""The served reward as a reward model of Flow-Factory. Put this file and served_reward.py where its Python finds them.

In its configuration, with `reward serve` running and its address in $VISIONREWARD_URL:

    rewards:
      - name: visionreward
        reward_model: flow_factory_reward.VisionRewardModel
"""

import os
from typing import Any

from flow_factory.rewards import PointwiseRewardModel, RewardModelOutput
from served_reward import ask


class VisionRewardModel(PointwiseRewardModel):
    """Totals as rewards; each dimension in extra_info. Pictures, or clips as lists of pictures."""

    required_fields = ("prompt", "image")
    use_tensor_inputs = False

    def __call__(self, prompt: list[str], image: Any = None, video: Any = None, **_: Any) -> RewardModelOutput:
        results = ask(os.environ["VISIONREWARD_URL"], image if image is not None else video, prompt)
        names = results[0]["dimensions"] if results else {}
        dimensions = {name: [each["dimensions"][name] for each in results] for name in names}
        return RewardModelOutput(rewards=[each["total"] for each in results], extra_info=dimensions)
