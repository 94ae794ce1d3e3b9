"""From answers to scores: weighted, by dimension, readable.

R_k = sum over the questions of group k of weight x answer; total = sum over all + intercept
(arXiv 2412.21059, section 2.3), both divided by the checklist's divisor. Answers are +1 yes, -1 no, 0 if their gate's
answer is no; a continuous question counts as its probability, a scorer's number as it is.

Shapes: N items, Q questions, D dimensions, S sub-dimensions, K groups of a granularity. An axis with an underscore (_Q)
comes from the caller: the function checks it and says what is wrong.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from PIL import Image

from reward.cache import AnswerCache, answer_key
from reward.checklist import PROMPT_FIELD, Checklist, Question, load_checklist
from reward.errors import ChecklistError, JudgeError, JudgeUnavailableError, MediaError, RewardError
from reward.judges import Judge, load_judge, require_kind
from reward.media import Layout, Media, MediaBatch, MediaLike, digest, read_media
from reward.progress import show_progress

Granularity = Literal["dimension", "subdimension", "question"]
Fail = Callable[[int, RewardError], None]  # records that a row has no score, or raises


@dataclass(frozen=True)
class Scores:
    """The judge's answers about N items, and their scores. A failed item's row is all NaN."""

    checklist: Checklist
    p_yes: Float[np.ndarray, "N Q"]  # in [0, 1]; a scorer's number
    answers: Float[np.ndarray, "N Q"]  # +1, -1, 0 gated off; a continuous question's probability; a scorer's number
    failures: Mapping[int, str] = field(default_factory=dict)  # row -> why it has no score

    @property
    def dimensions(self) -> Float[np.ndarray, "N D"]:
        """In the order of `checklist.dimensions`."""
        return self.by("dimension")

    @property
    def subdimensions(self) -> Float[np.ndarray, "N S"]:
        """In the order of `checklist.subdimension_names`."""
        return self.by("subdimension")

    @property
    def total(self) -> Float[np.ndarray, " N"]:
        return self.contributions.sum(axis=1) + self.checklist.intercept / self.checklist.divisor

    def dimension(self, name: str) -> Float[np.ndarray, " N"]:
        """One dimension's scores, by its name. Raises ChecklistError for an unknown one."""
        names = self.checklist.dimensions
        if name not in names:
            raise ChecklistError(
                f"dimension={name!r} is not in checklist {self.checklist.name!r}; it has: {', '.join(names)}"
            )
        return self.dimensions[:, names.index(name)]

    @property
    def contributions(self) -> Float[np.ndarray, "N Q"]:
        """What each answer adds to the total."""
        return self.answers * self.checklist.weights / self.checklist.divisor

    def by(self, granularity: Granularity | str) -> Float[np.ndarray, "N K"]:
        """The contributions summed within each group of a granularity (dimension, subdimension, question)."""
        _, members = self.checklist.groups(granularity)
        # Not a matrix product: BLAS sums a row in an order that depends on its place; equal answers must score equal.
        contributions = self.contributions
        sums = [contributions[:, of].sum(axis=1) for of in members]
        return np.stack(sums, axis=1) if sums else np.zeros((len(contributions), 0))  # none: only gates are asked


def score_answers(p_yes: Float[np.ndarray, "N _Q"], checklist: Checklist) -> Scores:
    """Probabilities in [0, 1], and scorers' numbers -> Scores.

    Raises ValueError for a wrong shape, a probability outside, and a number that is not finite.
    """
    p_yes = np.asarray(p_yes, dtype=np.float64)
    if p_yes.ndim != 2 or p_yes.shape[1] != len(checklist.questions):
        raise ValueError(
            f"p_yes has shape {p_yes.shape}; checklist {checklist.name!r} needs (N, {len(checklist.questions)})"
        )
    possible = np.where(checklist.values, np.isfinite(p_yes), (p_yes >= 0) & (p_yes <= 1))
    for row, column in np.argwhere(~possible):
        of, within = ("finite", "numbers") if checklist.values[column] else ("a probability", "within [0, 1]")
        raise ValueError(f"p_yes[{row}, {column}]={p_yes[row, column]} is not {of}; the judge must answer {within}")
    yes = p_yes >= 0.5
    answers = np.where(yes, 1.0, -1.0)
    gated_off = (checklist.gate_index >= 0) & ~yes[:, checklist.gate_index]
    answers[gated_off] = 0.0
    return Scores(checklist, p_yes, np.where(checklist.continuous | checklist.values, p_yes, answers))


@dataclass(frozen=True)
class Contribution:
    """One question's part in a score, or in the gap between two."""

    question: Question
    dimension: str
    answer: float  # +1, -1, 0, a continuous question's probability, or a scorer's number
    other_answer: float | None  # the other item's answer in a comparison; None = there is no other
    difference: float  # what the question adds to the total, or to the gap


@dataclass(frozen=True)
class Comparison:
    """Two items for one prompt. Gaps are a's score minus b's."""

    preferred: Literal["a", "b", "tie"]
    margin: float
    dimension_margins: dict[str, float]
    contributions: tuple[Contribution, ...]  # largest first; questions that make no difference are left out


class VisionReward:
    """A judge and a checklist: `score(media, prompts)`.

    >>> reward = VisionReward("measured", "image", questions="answerable")
    >>> reward.score(["cat.png"], ["a red circle on a white background"]).total
    """

    def __init__(
        self,
        judge: str | Judge,
        checklist: str | Path | Checklist = "image",
        *,
        questions: str | Sequence[str] = "all",
        cache: str | Path | AnswerCache | None = None,
    ):
        """`questions`: "all", "answerable" (those that the judge says it can answer) or a list of question ids.

        cache: folder that keeps answers (see `reward.cache`); None = nothing is kept.

        Raises RewardError (JudgeError, ChecklistError, CacheError) for an unknown judge, checklist or question, a
        question that the judge cannot answer, a kind of media that it cannot look at, and a cache that cannot be used.
        """
        whole = checklist if isinstance(checklist, Checklist) else load_checklist(checklist)
        self.judge = load_judge(judge) if isinstance(judge, str) else judge
        require_kind(self.judge.kinds, whole)
        if questions == "all":
            self.checklist = whole
        elif questions == "answerable":
            self.checklist = whole.only([q.id for q in whole if self.judge.can_answer(q, whole.kind)])
        elif isinstance(questions, str):
            raise ChecklistError(
                f"questions={questions!r} is unknown; use 'all', 'answerable' or a list of question ids"
            )
        else:
            self.checklist = whole.only(questions)
        self.judge.require(self.checklist.questions, self.checklist.kind)
        self.cache = AnswerCache(cache) if isinstance(cache, (str, Path)) else cache
        self._asks_prompt = [q.id for q in self.checklist if PROMPT_FIELD in q.text]

    def without_alignment(self) -> "VisionReward":
        """This reward without the questions about the prompt, so that no prompt is needed.

        Totals lack alignment, so compare them only with one another. Raises ChecklistError if no question is left.
        """
        kept = [q.id for q in self.checklist if PROMPT_FIELD not in q.text]
        if not kept:
            raise ChecklistError(
                f"every question of checklist {self.checklist.name!r} asks about the prompt; give prompts"
            )
        return VisionReward(self.judge, self.checklist, questions=kept, cache=self.cache)

    def score(
        self,
        media: MediaBatch,
        prompts: str | Sequence[Any],
        *,
        layout: Layout = "CHW",
        fps: float = 8.0,
        on_error: Literal["raise", "record"] | str = "raise",
        on_item: Callable[[], object] | None = None,
        progress: bool = False,
    ) -> Scores:
        """N pictures or clips and their prompts (one for all, or one each) -> Scores of N rows.

        media: files, PIL images (lists of them as clips), arrays or tensors; `layout` and range: see `reward.media`.
        prompts: strings; anything else fails like an item does.
        fps: frames per second of clips that come as frames. on_item is called after each item. progress: shown on standard
        error (see `reward.progress`).
        Raises MediaError or JudgeError naming the item; with on_error="record" that row is NaN, its reason in
        `Scores.failures`, and the others are scored.
        """
        if isinstance(media, (str, Path, bytes, Image.Image)):
            raise RewardError("media is one item; give a list of them")
        if on_error not in ("raise", "record"):
            raise RewardError(f"on_error={on_error!r} is unknown; use 'raise' or 'record'")
        media = media if hasattr(media, "__len__") else list(media)
        prompts = [prompts] * len(media) if isinstance(prompts, str) else list(prompts)
        if len(media) != len(prompts):
            raise ValueError(f"{len(media)} items but {len(prompts)} prompts; give one prompt for each item")
        p_yes = np.full((len(media), len(self.checklist.questions)), np.nan)
        failures: dict[int, str] = {}
        with show_progress(len(media)) if progress else nullcontext(_nothing) as show:

            def advance() -> None:
                show()
                if on_item:
                    on_item()

            def fail(row: int, error: RewardError) -> None:
                if on_error == "raise":
                    raise type(error)(f"item {row}: {error}") from error
                failures[row] = str(error)
                advance()

            # Earlier answers come from the cache.
            keys = self._checked_keys(media, prompts, fail, layout=layout, fps=fps)
            kept = self.cache.get(list(keys.values())) if self.cache else {}
            for row in (row for row, key in keys.items() if key in kept):
                p_yes[row] = kept[keys[row]]
                advance()

            # The rest is read and judged, a batch at a time.
            waiting = [row for row, key in keys.items() if key not in kept]
            for start in range(0, len(waiting), self.judge.batch_size):
                rows = waiting[start : start + self.judge.batch_size]
                batch = self._read(rows, media, fail, layout=layout, fps=fps)
                for row, answer in self._judge(batch, prompts, fail):
                    p_yes[row] = answer
                    advance()
                if self.cache:
                    self.cache.put({keys[row]: p_yes[row] for row in batch if row not in failures})

        scored = [row for row in range(len(media)) if row not in failures]
        scores = score_answers(p_yes[scored], self.checklist)
        answers = np.full_like(p_yes, np.nan)
        answers[scored] = scores.answers
        return Scores(self.checklist, p_yes, answers, failures)

    def compare(
        self, a: MediaLike, b: MediaLike, prompt: str, *, layout: Layout = "CHW", fps: float = 8.0
    ) -> Comparison:
        """Which of two pictures or clips is better for a prompt, by how much, and because of which answers.

        Raises as `score` does.
        """
        scores = self.score([a, b], [prompt, prompt], layout=layout, fps=fps)
        # The sign of the sum of weight x difference, as in the published comparison, not of two rounded totals.
        gaps = self.checklist.weights * (scores.answers[0] - scores.answers[1]) / self.checklist.divisor
        margin = float(gaps.sum())
        names, members = self.checklist.groups("dimension")
        margins = {name: float(gaps[of].sum()) for name, of in zip(names, members, strict=True)}
        preferred: Literal["a", "b", "tie"] = "tie" if margin == 0 else "a" if margin > 0 else "b"
        return Comparison(preferred, margin, margins, self._contributions(gaps, *scores.answers))

    def explain(
        self, item: MediaLike, prompt: str, *, layout: Layout = "CHW", fps: float = 8.0
    ) -> tuple[Contribution, ...]:
        """What each answer adds to an item's score, largest first. `compare` does the same for two."""
        scores = self.score([item], [prompt], layout=layout, fps=fps)
        return self._contributions(scores.contributions[0], scores.answers[0], None)

    def as_reward_function(self, *, on_error: Literal["raise", "record"] = "raise") -> Callable[..., tuple]:
        """`f(images, prompts, metadata) -> (scores, info)`, the convention of ddpo-pytorch and flow_grpo.

        images: a tensor (N, C, H, W) in [0, 1] or uint8, a NumPy array (N, H, W, C), or a list of PIL images; clips
        have a frame axis behind the first. scores: (N,) float32, NaN for an item that failed with on_error="record".
        info: (N,) float32 for each dimension by name. These trainers also pass metadata, which is ignored.
        """

        def reward_function(images: Any, prompts: Sequence[Any], metadata: Any = None, **_: Any) -> tuple:
            layout: Layout = "HWC" if isinstance(images, np.ndarray) else "CHW"
            scores = self.score(images, list(prompts), layout=layout, on_error=on_error)
            dimensions = scores.dimensions.astype(np.float32).T
            return scores.total.astype(np.float32), dict(zip(self.checklist.dimensions, dimensions, strict=True))

        return reward_function

    def _checked_keys(
        self, media: MediaBatch, prompts: Sequence[Any], fail: Fail, *, layout: Layout, fps: float
    ) -> dict[int, bytes]:
        """The cache's key of each row (empty without a cache); rows with an unusable prompt or file fail."""
        keys: dict[int, bytes] = {}
        judge = self.judge.fingerprint if self.cache else ""
        words = f"{self.checklist.kind}:{self.checklist.questions_fingerprint}"
        for row, (item, prompt) in enumerate(zip(media, prompts, strict=True)):
            try:
                if not isinstance(prompt, str):
                    raise JudgeError(f"its prompt is {prompt!r}; give text")
                if self._asks_prompt and not prompt.strip():
                    raise JudgeError(
                        f"question {self._asks_prompt[0]!r} asks about the prompt, which is empty; give one, or leave the question out (--no-alignment, VisionReward.without_alignment)"
                    )
                content = digest(item, layout=layout, fps=fps) if self.cache else ""
                keys[row] = answer_key(content, prompt, words, judge) if self.cache else b""
            except RewardError as error:
                fail(row, error)
        return keys

    def _read(
        self, rows: Sequence[int], media: MediaBatch, fail: Fail, *, layout: Layout, fps: float
    ) -> dict[int, Media]:
        """Row -> what the judge looks at; rows that cannot be read fail."""
        batch: dict[int, Media] = {}
        for row in rows:
            try:
                kind, sampling = self.checklist.kind, self.judge.sampling
                batch[row] = read_media(media[row], kind, layout=layout, sampling=sampling, fps=fps)
            except MediaError as error:
                fail(row, error)
        return batch

    def _judge(
        self, batch: dict[int, Media], prompts: Sequence[Any], fail: Callable[[int, RewardError], None]
    ) -> list[tuple[int, np.ndarray]]:
        """Rows with their answers. A failed batch is tried again one by one, to find the item; a batch that needs
        too much memory, in halves.
        """
        if not batch:
            return []
        rows = list(batch)
        try:
            texts = [prompts[row] for row in rows]
            return list(zip(rows, self.judge.answer([*batch.values()], texts, self.checklist.questions), strict=True))
        except JudgeUnavailableError:
            raise
        except Exception as error:  # a judge, or its model, may be anybody's code
            if len(rows) == 1:
                fail(rows[0], _judge_error(error))
                return []
            size = (len(rows) + 1) // 2 if _is_out_of_memory(error) else 1
        # Not in the handler: the error keeps the tensors of the failed pass alive.
        _free_memory()
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        return [pair for part in parts for pair in self._judge({row: batch[row] for row in part}, prompts, fail)]

    def _contributions(
        self, differences: np.ndarray, answers: np.ndarray, other_answers: np.ndarray | None
    ) -> tuple[Contribution, ...]:
        dimension_of = [sub.dimension for sub in self.checklist.subdimensions for _ in sub.questions]
        order = np.argsort(-np.abs(differences), kind="stable")
        return tuple(
            Contribution(
                question=self.checklist.questions[i],
                dimension=dimension_of[i],
                answer=float(answers[i]),
                other_answer=None if other_answers is None else float(other_answers[i]),
                difference=float(differences[i]),
            )
            for i in order
            if differences[i]
        )


def _is_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")  # not imported here; without it there is no such error
    return isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError))


def _free_memory() -> None:
    """Frees the GPU memory that PyTorch caches and nothing uses."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _judge_error(error: Exception) -> RewardError:
    """The error in one line, with the original as its cause."""
    if isinstance(error, RewardError):
        return error
    said = " ".join(str(error).split())[:300] or "no message"
    if _is_out_of_memory(error):
        found = JudgeError(
            f"the judge ran out of memory on this item alone ({said}); make the item smaller, or load the judge with less: a smaller num_frames or max_packed_tokens, a shorter dtype, or a quantization"
        )
    else:
        found = JudgeError(f"the judge failed ({type(error).__name__}: {said}); replace the item or report the failure")
    found.__cause__ = error
    return found


def _nothing() -> None:
    pass
