"""Judges answer questions about pictures and clips. A judge raises on a question that it cannot answer; it never guesses."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from reward.checklist import Checklist, Kind, Question
from reward.errors import JudgeError
from reward.judges.options import CogVLM2Options, VlmOptions, VqaScoreOptions, check_options
from reward.judges.own import is_own, own_judge
from reward.judges.scorers import CHECKLISTS
from reward.media import Media, Sampling


@runtime_checkable
class Judge(Protocol):
    """What every judge offers."""

    @property
    def kinds(self) -> Sequence[Kind]:
        """The kinds of media that it can look at."""
        ...

    @property
    def sampling(self) -> Sampling:
        """Which frames of a clip it looks at."""
        ...

    @property
    def batch_size(self) -> int:
        """How many items to give it at once, at best."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever an answer could."""
        ...

    def can_answer(self, question: Question, kind: Kind) -> bool:
        """Whether the judge has an answer to this question about any item of this kind."""
        ...

    def require(self, questions: Sequence[Question], kind: Kind) -> None:
        """Raises JudgeError naming the questions that this judge cannot answer about items of this kind."""
        ...

    def require_prompts(self, prompts: Sequence[str], kind: Kind) -> None:
        """Raises JudgeError naming the first prompt that this judge cannot use with items of this kind."""
        ...

    def answer(self, media: Sequence[Media], prompts: Sequence[str], questions: Sequence[Question]) -> np.ndarray:
        """(N, Q) float64: the probability of yes out of yes and no, for N pictures or clips and Q questions."""
        ...


class AnswersAnything:
    """For judges that can be asked any question. A scorer's number is no question."""

    def can_answer(self, question: Question, kind: Kind) -> bool:
        return not question.value

    def require(self, questions: Sequence[Question], kind: Kind) -> None:
        for question in questions:
            if question.value:
                raise JudgeError(
                    f"question {question.id!r} is a scorer's number, which this judge does not give; ask that scorer for it"
                )

    def require_prompts(self, prompts: Sequence[str], kind: Kind) -> None:
        pass


def load_judge(name: str, **options: Any) -> Judge:
    """A judge by name: `measured`, `vlm`, `cogvlm2`, `server`, a scorer (`clip-score`, `pickscore`, `hpsv3`,
    `imagereward`, `videoreward`, `vqascore`), or one of your own; options are those of its class.

    >>> load_judge("vlm", model="Qwen/Qwen2.5-VL-3B-Instruct", dtype="bfloat16", device_map="auto")
    >>> load_judge("server", base_urls=["http://localhost:8000/v1"], model="Qwen/Qwen2.5-VL-7B-Instruct")
    >>> load_judge("my_module:MyJudge", threshold=0.5)

    Raises JudgeError for an unknown judge, a wrong option (see `reward.judges.options`), and if the judge cannot be
    loaded or reached.
    """
    return find_judge(name, options)(**options)


def find_judge(name: str, options: Mapping[str, Any]) -> Callable[..., Judge]:
    """The class of a judge, its options checked. Loads no weights. Raises JudgeError as `check_options` does."""
    if is_own(name):
        return own_judge(name, options)
    check_options(name, options)
    match name:  # each case imports only what it needs
        case "measured":
            from reward.judges.measured import MeasuredJudge as Class
        case "vlm":
            from reward.judges.vlm import VLMJudge as Class
        case "cogvlm2":
            from reward.judges.cogvlm2 import CogVLM2Judge as Class
        case "clip-score":
            from reward.judges.scorers.clip import ClipScore as Class
        case "pickscore":
            from reward.judges.scorers.clip import PickScore as Class
        case "hpsv3":
            from reward.judges.scorers.hpsv3 import HPSv3 as Class
        case "imagereward":
            from reward.judges.scorers.imagereward import ImageReward as Class
        case "videoreward":
            from reward.judges.scorers.videoreward import VideoReward as Class
        case "vqascore":
            from reward.judges.scorers.vqascore import VQAScore as Class
        case _:
            try:
                from reward.judges.server import ServerJudge as Class
            except ModuleNotFoundError as error:
                if error.name != "openai":
                    raise
                raise JudgeError("judge='server' needs openai; pip install 'mpo[server]'") from None
    return Class


def own_checklist(name: str, options: Mapping[str, Any]) -> Checklist | None:
    """The checklist that a judge brings, its numbers if it is a scorer; None = it is to be given one. Loads no weights."""
    if name in CHECKLISTS:
        return CHECKLISTS[name]
    checklist = getattr(own_judge(name, options), "checklist", None) if is_own(name) else None
    return checklist if isinstance(checklist, Checklist) else None  # not a property, which tells once it is loaded


def suggested_checklist(kind: Kind, judge: str) -> str:
    """The built-in checklist of a kind that suits a judge: one that it answers whole, if there is one."""
    return "video-measured" if (kind, judge) == ("video", "measured") else kind


def require_kind(kinds: Sequence[Kind], checklist: Checklist, *, judge: str = "this judge") -> None:
    """Raises JudgeError if a judge that looks at these kinds cannot look at what a checklist is about. judge: its words."""
    kind = checklist.kind
    if kind not in kinds:
        place = ", with a place for them in its chat template" if kind == "video" else ""
        raise JudgeError(
            f"checklist {checklist.name!r} is about {kind}s; {judge} takes {' and '.join(kinds)}s only; use a judge or model that takes {kind}s{place}"
        )


def check_kind(name: str, options: Mapping[str, Any], checklist: Checklist) -> None:
    """`require_kind` of a judge that is not loaded yet, so that nothing is made for a judge that cannot look at it.

    Raises JudgeError as `find_judge` does, too. A vision-language model shows in its configuration and processor whether
    it takes clips; if they cannot be read, as without the hub, nothing is raised, and loading it tells.
    """
    judge_class: Any = find_judge(name, options)
    own = own_checklist(name, options)
    if own is not None:
        require_kind((own.kind,), checklist, judge=f"judge {name!r}")
        return
    if is_own(name):
        if isinstance(judge_class.kinds, (tuple, list)):  # not a property, which tells once it is loaded
            require_kind(judge_class.kinds, checklist, judge=f"judge {name!r}")
        return
    checked = check_options(name, options)
    match checked:
        case VlmOptions():
            if checklist.kind == "image":  # all of them take pictures
                return
            from reward.judges.vlm import kinds_without_weights

            kinds = kinds_without_weights(checked)
        case CogVLM2Options():
            kinds = (checked.kind,)
        case VqaScoreOptions():
            if checklist.kind == "image":
                return
            from reward.judges.scorers.vqascore import kinds_without_weights as kinds_of_vqascore

            kinds = kinds_of_vqascore(checked)
        case _:
            kinds = judge_class.kinds
    if kinds is not None:
        given = [f"{each}={getattr(checked, each)!r}" for each in ("model", "kind") if getattr(checked, each, None)]
        require_kind(kinds, checklist, judge=f"judge {name!r}{' with ' if given else ''}{', '.join(given)}")
