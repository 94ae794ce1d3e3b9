"""Checklists: dimension -> sub-dimension -> ordered yes/no questions, each with a weight.

A checklist is data (YAML beside this file, or the user's own); this module types and checks it.
Source of the hierarchy: VisionReward, arXiv 2412.21059, section 2 and its published question files.

Shapes: N items, Q questions, K groups of a granularity.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from reward.errors import ChecklistError
from reward.settings import read_yaml

BUILT_IN = ("image", "video", "video-measured")
OFFICIAL = ("official:image", "official:image-full", "official:video")
PROMPT_FIELD = "{prompt}"
ANSWERS = {1.0: "yes", -1.0: "no", 0.0: "does not apply"}
Kind = Literal["image", "video"]


class Question(BaseModel):
    """One yes/no question, or one of a scorer's numbers. `text` may hold "{prompt}", which stands for the item's prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    text: str = Field(min_length=1)
    weight: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)  # a better level may not lower the score
    gate: bool = False  # a gate carries no weight: it says whether other questions apply
    gate_id: str | None = None  # None = applies always
    continuous: bool = False  # its probability itself counts, not the +1/-1 answer (as VQAScore, arXiv 2404.01291)
    value: bool = False  # not asked: a scorer's number of this id, any real one, which counts as it is

    @property
    def is_number(self) -> bool:
        """Whether its answer is any number, not yes or no."""
        return self.continuous or self.value

    def words(self, answer: float, *, decimals: int) -> str:
        """An answer (+1, -1, 0, or a number) as a person reads it."""
        return f"{answer:.{decimals}f}" if self.is_number else ANSWERS[answer]

    def ask(self, prompt: str) -> str:
        """The question's words for one item. The prompt is inserted literally, braces and quotes included."""
        return self.text.replace(PROMPT_FIELD, prompt)

    @model_validator(mode="after")
    def _gate_has_no_weight(self) -> "Question":
        if self.gate and (self.weight or self.gate_id or self.continuous):
            raise ValueError(f"question {self.id!r} is a gate, which has no weight, gate_id or continuous; remove them")
        if self.value and (self.gate or self.gate_id or self.continuous):
            raise ValueError(f"question {self.id!r} is a value, which has no gate, gate_id or continuous; remove them")
        return self


class SubDimension(BaseModel):
    """A named part of a dimension with its questions, strictest first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    dimension: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    questions: tuple[Question, ...] = Field(min_length=1)

    @field_validator("dimension")
    @classmethod
    def _is_not_the_total(cls, name: str) -> str:
        if name == "total":
            raise ValueError("'total' is the score of all dimensions together; give this dimension another name")
        return name


@dataclass(frozen=True)
class Inconsistency:
    """A judge contradicts itself: it calls an item perfectly sharp, yet not sharp."""

    row: int
    stricter_id: str  # answered yes
    laxer_id: str  # answered no
    p_stricter: float
    p_laxer: float


class Checklist(BaseModel):
    """An ordered list of questions with their weights. The order is the column order of every (N, Q) array."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int
    kind: Kind
    intercept: float = Field(default=0.0, allow_inf_nan=False)
    divisor: float = Field(
        default=1.0, gt=0.0, allow_inf_nan=False
    )  # the weighted sum is divided by it: 29 makes a mean of 29 questions
    subdimensions: tuple[SubDimension, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ids_agree(self) -> "Checklist":
        ids = [question.id for question in self.questions]
        repeated = sorted({i for i in ids if ids.count(i) > 1})
        if repeated:
            raise ValueError(f"question ids {repeated} occur more than once; give each question its own id")
        gates = {question.id for question in self.questions if question.gate}
        for question in self.questions:
            if question.gate_id is not None and question.gate_id not in gates:
                raise ValueError(
                    f"question {question.id!r} names gate_id={question.gate_id!r}, which is not a gate; gates: {sorted(gates)}"
                )
        return self

    def __iter__(self) -> Iterator[Question]:  # type: ignore[override]
        return iter(self.questions)

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        return tuple(question for sub in self.subdimensions for question in sub.questions)

    @cached_property
    def question_ids(self) -> tuple[str, ...]:
        return tuple(question.id for question in self.questions)

    @cached_property
    def weights(self) -> Float[np.ndarray, " Q"]:
        """At least 0; a gate's is 0."""
        return np.array([question.weight for question in self.questions])

    @cached_property
    def continuous(self) -> Bool[np.ndarray, " Q"]:
        """Whether a question's probability counts, not its yes or no."""
        return np.array([question.continuous for question in self.questions])

    @cached_property
    def values(self) -> Bool[np.ndarray, " Q"]:
        """Whether a question is a scorer's number."""
        return np.array([question.value for question in self.questions])

    @cached_property
    def gate_index(self) -> Int[np.ndarray, " Q"]:
        """The column of each question's gate, -1 if it has none."""
        column = {question_id: i for i, question_id in enumerate(self.question_ids)}
        return np.array([column[q.gate_id] if q.gate_id else -1 for q in self.questions])

    @cached_property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the dimensions that hold a question other than a gate, in order of first appearance."""
        return tuple(dict.fromkeys(d for d, q in zip(self._dimension_of, self.questions, strict=True) if not q.gate))

    @cached_property
    def subdimension_names(self) -> tuple[str, ...]:
        """Names of the sub-dimensions that hold a question other than a gate, in order of first appearance."""
        return tuple(dict.fromkeys(s for s, q in zip(self._subdimension_of, self.questions, strict=True) if not q.gate))

    def groups(
        self, granularity: Literal["dimension", "subdimension", "question"] | str
    ) -> tuple[tuple[str, ...], Bool[np.ndarray, "K Q"]]:
        """Names of the groups at a granularity, and which questions are in each; gates are in none."""
        match granularity:
            case "dimension":
                names, of = self.dimensions, self._dimension_of
            case "subdimension":
                names, of = self.subdimension_names, self._subdimension_of
            case "question":
                names, of = tuple(q.id for q in self.questions if not q.gate), self.question_ids
            case _:
                raise ChecklistError(f"granularity={granularity!r} is unknown; use dimension, subdimension or question")
        scored = np.array([not q.gate for q in self.questions])
        members = np.array([[o == name for o in of] for name in names], dtype=bool).reshape(len(names), len(scored))
        return names, members & scored

    def only(self, question_ids: Collection[str]) -> "Checklist":
        """This checklist with only some of its questions, in order. Gates of kept questions must be kept."""
        unknown = sorted(set(question_ids) - set(self.question_ids))
        if unknown:
            raise ChecklistError(
                f"questions {unknown} are not in checklist {self.name!r}; it has: {', '.join(self.question_ids)}"
            )
        kept = []
        for sub in self.subdimensions:
            questions = tuple(q for q in sub.questions if q.id in question_ids)
            if questions:
                kept.append(SubDimension(name=sub.name, dimension=sub.dimension, questions=questions))
        if not kept:
            raise ChecklistError(
                f"no question of checklist {self.name!r} is left; name at least one of: {', '.join(self.question_ids)}"
            )
        return _validated({**self.model_dump(exclude={"subdimensions"}), "subdimensions": kept}, source=self.name)

    def weighted(
        self, weights: Mapping[str, float] | Sequence[float] | np.ndarray, *, name: str, version: int = 1
    ) -> "Checklist":
        """This checklist with other weights: Q of them in order, or by question id (0 for a question that is not named).

        The weights are used as they are: intercept 0, divisor 1. Raises ChecklistError for a wrong length, an unknown
        question, and a weight that is negative or on a gate.
        """
        if not isinstance(weights, Mapping):
            if len(weights) != len(self.questions):
                raise ChecklistError(
                    f"{len(weights)} weights for the {len(self.questions)} questions of checklist {self.name!r}; give one for each, gates included (0)"
                )
            weights = dict(zip(self.question_ids, map(float, weights), strict=True))
        unknown = sorted(set(weights) - set(self.question_ids))
        if unknown:
            raise ChecklistError(
                f"weights name questions {unknown}, which are not in checklist {self.name!r}; remove them"
            )
        fields = self.model_dump() | {"name": name, "version": version, "intercept": 0.0, "divisor": 1.0}
        for sub in fields["subdimensions"]:
            for question in sub["questions"]:
                question["weight"] = float(weights.get(question["id"], 0.0))
        return _validated(fields, source=name)

    def consistency(self, p_yes: Float[np.ndarray, "N Q"]) -> list[Inconsistency]:
        """Cases where, within a sub-dimension, a stricter level is answered yes and a laxer one no.

        p_yes: in [0, 1]. Questions that a gate turns off are skipped.
        """
        yes = np.asarray(p_yes) >= 0.5
        applies = (self.gate_index < 0) | yes[:, self.gate_index]
        column = {question_id: i for i, question_id in enumerate(self.question_ids)}
        found = []
        for sub in self.subdimensions:
            levels = [column[q.id] for q in sub.questions if not (q.gate or q.is_number)]
            for stricter, laxer in combinations(levels, 2):
                rows = np.flatnonzero(yes[:, stricter] & ~yes[:, laxer] & applies[:, stricter] & applies[:, laxer])
                ids = self.question_ids[stricter], self.question_ids[laxer]
                found += [Inconsistency(int(r), *ids, float(p_yes[r, stricter]), float(p_yes[r, laxer])) for r in rows]
        return sorted(found, key=lambda each: each.row)

    @cached_property
    def questions_fingerprint(self) -> str:
        """Digest over only the questions' ids and words: what a judge's answers depend on."""
        words = "\0".join(f"{question.id}\0{question.text}" for question in self.questions)
        return hashlib.sha256(words.encode()).hexdigest()[:12]

    @cached_property
    def fingerprint(self) -> str:
        """`name@version:digest`, the digest over questions and weights: equal text and numbers, equal fingerprint."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]
        return f"{self.name}@{self.version}:{digest}"

    @property
    def metadata(self) -> dict[str, str]:
        """What a table of scores says about the questions asked."""
        return {
            "checklist": self.fingerprint,
            "questions": ",".join(self.question_ids),
            "asked": self.model_dump_json(exclude_defaults=True),
            "dimensions": ",".join(self.dimensions),
        }

    @cached_property
    def _dimension_of(self) -> tuple[str, ...]:
        return tuple(sub.dimension for sub in self.subdimensions for _ in sub.questions)

    @cached_property
    def _subdimension_of(self) -> tuple[str, ...]:
        return tuple(sub.name for sub in self.subdimensions for _ in sub.questions)


def load_checklist(name: str | Path) -> Checklist:
    """A checklist by name, or one of the user's own from a YAML file (`checklists/schema.json` describes it).

    `image`, `video`: built in, with the published weights; `video-measured`: what the measured judge answers of `video`,
    with weights learnt from drawn clips. `official:image`, `official:image-full`, `official:video`: the published words, fetched
    once from their public repository, or read from a folder: `official:image@FOLDER` (see `reward.official`).
    Raises ChecklistError if the file is missing, is not YAML, or does not fit the types above.
    """
    if isinstance(name, str) and name.startswith("official:"):
        from reward.official import load_official

        published, _, folder = name.partition("@")
        return load_official(published, Path(folder) if folder else None)
    if name in BUILT_IN:
        text, source = resources.files("reward.checklists").joinpath(f"{name}.yaml").read_text("utf-8"), str(name)
    else:
        path = Path(name)
        if not path.exists():
            raise ChecklistError(
                f"checklist={str(name)!r} is neither known ({', '.join((*BUILT_IN, *OFFICIAL))}) nor a file; give one of these"
            )
        try:
            text, source = path.read_text("utf-8"), str(path)
        except UnicodeDecodeError as error:
            raise ChecklistError(f"checklist {path} is not UTF-8 text; give a YAML file") from error
        except OSError as error:
            raise ChecklistError(f"checklist {path} cannot be read ({error.strerror}); give a YAML file") from error
    try:
        fields = read_yaml(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ChecklistError(f"checklist {source} is not YAML: {reason}; correct the file") from error
    if not isinstance(fields, Mapping):
        raise ChecklistError(f"checklist {source} is not a mapping; it needs name, version, kind and subdimensions")
    return _validated(fields, source=source)


def save_checklist(checklist: Checklist, file: str | Path) -> None:
    """Writes the YAML that `load_checklist` reads, without values that equal their default."""
    fields = checklist.model_dump(mode="json", exclude_defaults=True)
    Path(file).write_text(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120), "utf-8")


def _validated(fields: Mapping, *, source: str) -> Checklist:
    try:
        return Checklist.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the checklist"
        reason = " ".join(first["msg"].removeprefix("Value error, ").split())
        raise ChecklistError(f"checklist {source}: {place}: {reason}") from error
