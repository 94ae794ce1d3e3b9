"""Readable scores for pictures and clips: a judge answers a checklist, learnt weights add up the answers."""

from reward.checklist import Checklist, Question, load_checklist, save_checklist
from reward.errors import CacheError, ChecklistError, JudgeError, JudgeUnavailableError, MediaError, RewardError
from reward.judges import Judge, load_judge
from reward.media import Clip
from reward.score import Comparison, Contribution, Scores, VisionReward, score_answers

__all__ = [
    "CacheError",
    "Checklist",
    "ChecklistError",
    "Clip",
    "Comparison",
    "Contribution",
    "Judge",
    "JudgeError",
    "JudgeUnavailableError",
    "MediaError",
    "Question",
    "RewardError",
    "Scores",
    "VisionReward",
    "load_checklist",
    "load_judge",
    "save_checklist",
    "score_answers",
]
