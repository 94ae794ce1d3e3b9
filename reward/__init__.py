"""Readable scores for pictures: a judge answers a checklist, learnt weights add the answers up."""

from reward.checklist import Checklist, ChecklistError, Question, load_checklist
from reward.judges import Judge, JudgeError, load_judge
from reward.score import Scores, VisionReward, score_answers

__all__ = [
    "Checklist",
    "ChecklistError",
    "Judge",
    "JudgeError",
    "Question",
    "Scores",
    "VisionReward",
    "load_checklist",
    "load_judge",
    "score_answers",
]
