"""Scorers: judges that answer no question, but give numbers of their own, such as PickScore. Imports no torch."""

from collections.abc import Sequence

from reward.checklist import Checklist, Kind, Question, SubDimension
from reward.errors import JudgeError


def number(name: str, *, kind: Kind, title: str, **titles: str) -> Checklist:
    """A scorer's checklist: one number, named like the scorer, or several, each a dimension `name_part`.

    >>> number("pickscore", kind="image", title="PickScore")
    >>> number("videoreward", kind="video", title="VideoReward", visual="visual quality", motion="motion")
    """
    words = {f"{name}_{part}": f"{title}, {of}" for part, of in titles.items()} or {name: title}
    return Checklist(
        name=name,
        version=1,
        kind=kind,
        subdimensions=tuple(
            SubDimension(
                name=each,
                dimension=each,
                questions=(Question(id=each, text=f'{text}, for "{{prompt}}"', weight=1.0, value=True),),
            )
            for each, text in words.items()
        ),
    )


CHECKLISTS: dict[str, Checklist] = {
    "clip-score": number("clip_score", kind="image", title="CLIP score"),
    "pickscore": number("pickscore", kind="image", title="PickScore"),
    "hpsv3": number("hpsv3", kind="image", title="HPSv3"),
    "imagereward": number("imagereward", kind="image", title="ImageReward"),
    "videoreward": number(
        "videoreward",
        kind="video",
        title="VideoReward",
        visual="visual quality",
        motion="motion quality",
        alignment="text alignment",
    ),
}  # by the judge's name


class Scorer:
    """What all scorers share: they give the numbers of their own checklist, and nothing else."""

    checklist: Checklist  # of a subclass: its numbers, each a question with value=True

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return (self.checklist.kind,)

    def can_answer(self, question: Question, kind: Kind) -> bool:
        return question.value and kind == self.checklist.kind and question.id in self.checklist.question_ids

    def require(self, questions: Sequence[Question], kind: Kind) -> None:
        for question in questions:
            if not self.can_answer(question, kind):
                raise JudgeError(
                    f"question {question.id!r} cannot be answered by a scorer, which gives {', '.join(self.checklist.question_ids)} alone; ask another judge, or leave the question out"
                )

    def require_prompts(self, prompts: Sequence[str], kind: Kind) -> None:
        pass
