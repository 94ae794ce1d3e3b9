"""Readable scores for pictures and clips: a judge answers a checklist, learnt weights add up the answers."""

from reward.checklist import Checklist, Question, load_checklist, save_checklist
from reward.errors import CacheError, ChecklistError, JudgeError, JudgeUnavailableError, MediaError, RewardError
from reward.joint import JointReward
from reward.judges import Judge, load_judge
from reward.media import Clip
from reward.reward import Reward
from reward.score import Comparison, Contribution, Scores, score_answers
from reward.vision_reward import VisionReward

__all__ = [
    "CacheError",
    "Checklist",
    "ChecklistError",
    "Clip",
    "Comparison",
    "Contribution",
    "JointReward",
    "Judge",
    "JudgeError",
    "JudgeUnavailableError",
    "MediaError",
    "Question",
    "Reward",
    "RewardError",
    "Scores",
    "VisionReward",
    "load_checklist",
    "load_judge",
    "save_checklist",
    "score_answers",
]
