"""Scorers: judges that answer no question, but give numbers of their own, such as PickScore. Imports no torch."""

from collections.abc import Sequence

import numpy as np

from reward.checklist import Checklist, Kind, Question, SubDimension
from reward.errors import JudgeError
from reward.media import Media


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
    batch_size: int

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

    def numbers(self, media: Sequence[Media], prompts: Sequence[str]) -> np.ndarray:
        """(N, K) float64: all K numbers of the checklist, in its order, for at most `batch_size` items and their prompts."""
        raise NotImplementedError

    def answer(self, media: Sequence[Media], prompts: Sequence[str], questions: Sequence[Question]) -> np.ndarray:
        """(N, Q) float64: the numbers that are asked for. Raises JudgeError for one that is NaN or infinite."""
        numbers = np.empty((len(media), len(self.checklist.questions)))
        for start in range(0, len(media), self.batch_size):
            batch = slice(start, start + self.batch_size)
            numbers[batch] = self.numbers(media[batch], prompts[batch])
        for row, column in np.argwhere(~np.isfinite(numbers)):
            raise JudgeError(
                f"{self.checklist.question_ids[column]} of prompt {prompts[row]!r} is {numbers[row, column]}, which is no score; load the scorer with dtype='float32', or replace the item"
            )
        return numbers[:, [self.checklist.question_ids.index(question.id) for question in questions]]
