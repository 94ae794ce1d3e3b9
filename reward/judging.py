"""Who answers which questions: one judge of a recipe or of a file for `--judge`, typed. Loads no weights unless told."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from reward.cache import AnswerCache
from reward.checklist import Checklist, load_checklist
from reward.errors import ChecklistError, JudgeError
from reward.joint import JointReward, join_checklists
from reward.judges import check_kind, load_judge, own_checklist
from reward.reward import Reward
from reward.settings import read_yaml
from reward.vision_reward import VisionReward


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # YAML has lists where a frozen record has tuples


class Judging(BaseModel):
    """Who answers which questions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str  # measured, vlm, cogvlm2, server, a scorer such as pickscore, or your own as module:Class
    checklist: str | None = None  # None = the scorer's own
    questions: Annotated[Literal["all", "answerable"] | tuple[str, ...], BeforeValidator(_tuple)] = "all"
    options: dict[str, Any] = Field(default_factory=dict)  # of the judge, such as model: Qwen/Qwen2.5-VL-3B-Instruct
    weight: Annotated[float, Field(gt=0)] = 1.0  # how much its scores count in the total of several judges


def checklist_of(judging: Judging) -> Checklist:
    """What this judge may be asked. Raises JudgeError for a judge of questions without a checklist."""
    if judging.checklist is not None:
        return load_checklist(judging.checklist)
    own = own_checklist(judging.name, judging.options)
    if own is None:
        raise JudgeError(
            f"judge {judging.name!r} has no checklist of its own; name one, such as checklist: image (only scorers bring their own)"
        )
    return own


def checklist_of_all(judgings: Sequence[Judging]) -> Checklist:
    """What these judges may be asked, joined as `JointReward` does. Raises ChecklistError for one that cannot add a question."""
    kept, taken, answered = [], set[str](), set[str]()
    for judging in judgings:
        checklist = checklist_of(judging)
        named = set(checklist.question_ids if isinstance(judging.questions, str) else judging.questions)
        if named <= answered:
            raise ChecklistError(
                f"judge {judging.name!r} adds nothing: those before it answer all of its questions; remove it, or name its questions"
            )
        if named - taken:
            kept.append((checklist.only(named - taken), judging.weight))
        taken |= named
        answered |= (
            named if judging.questions != "answerable" else set()
        )  # which ones, the judge says once it is loaded
    return join_checklists([each for each, _ in kept], [weight for _, weight in kept])


def judges_in_words(judgings: Sequence[Judging]) -> str:
    """In Markdown, such as "`vlm` and `pickscore` judges"."""
    names = [f"`{each.name}`" for each in judgings]
    return f"{' and '.join([', '.join(names[:-1]), names[-1]] if len(names) > 1 else names)} judge{'s' if len(names) > 1 else ''}"


def check_judges(judgings: Sequence[Judging]) -> None:
    """Raises JudgeError or ChecklistError for what can be known to be wrong before weights are loaded."""
    for judging in judgings:
        check_kind(judging.name, judging.options, checklist_of(judging))


def load_reward(judgings: Sequence[Judging], *, cache: str | Path | AnswerCache | None = None) -> Reward:
    """The judges, loaded, as one reward. Raises as `VisionReward` and `JointReward` do."""
    rewards = [
        VisionReward(load_judge(each.name, **each.options), checklist_of(each), questions=each.questions, cache=cache)
        for each in judgings
    ]
    if len(rewards) == 1 and judgings[0].weight == 1.0:
        return rewards[0]
    return JointReward(rewards, weights=[each.weight for each in judgings])


def read_judges(file: Path) -> tuple[Judging, ...]:
    """The judges of a YAML file: a list as a recipe's `judge` has it. Raises JudgeError."""
    try:
        fields = read_yaml(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise JudgeError(
            f"judge={str(file)!r} cannot be read ({' '.join(str(error).split())}); give a YAML file"
        ) from error
    try:
        return TypeAdapter(tuple[Judging, ...]).validate_python(
            tuple([fields] if isinstance(fields, Mapping) else fields or ())
        )
    except (TypeError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise JudgeError(
            f"judge={str(file)!r}: {place}: {first['msg']}; it is a list of name, checklist, questions, options, weight"
        ) from None
