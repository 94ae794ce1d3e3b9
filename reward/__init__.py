"""Readable scores for pictures: a judge answers a checklist, learnt weights add the answers up."""

from reward.checklist import Checklist, Question, load_checklist
from reward.errors import ChecklistError, JudgeError, MediaError, RewardError
from reward.judges import Judge, load_judge
from reward.score import Scores, VisionReward, score_answers

__all__ = [
    "Checklist",
    "ChecklistError",
    "Judge",
    "JudgeError",
    "MediaError",
    "Question",
    "RewardError",
    "Scores",
    "VisionReward",
    "load_checklist",
    "load_judge",
    "score_answers",
]
