"""What all rewards share: items and prompts in, readable scores out.

Shapes: N items, Q questions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from reward.checklist import PROMPT_FIELD, Checklist
from reward.errors import ChecklistError, RewardError
from reward.media import Layout, MediaBatch, MediaLike
from reward.progress import show_progress
from reward.score import Comparison, Contribution, Scores, score_answers

Fail = Callable[[int, RewardError], None]  # records that a row has no score, or raises


@dataclass(frozen=True)
class Items:
    """N pictures or clips and their prompts, as they were given. See `Reward.score`."""

    media: MediaBatch
    prompts: Sequence[Any]
    layout: Layout
    fps: float


class Reward(ABC):
    """What rewards share, be it one judge (`VisionReward`) or several (`JointReward`)."""

    checklist: Checklist  # what is asked

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Changes whenever an answer could."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """How many items are judged at once, at best."""

    @abstractmethod
    def only(self, question_ids: Collection[str]) -> "Reward":
        """This reward with only some of its questions. Raises ChecklistError as `Checklist.only` does."""

    @abstractmethod
    def require_prompts(self, prompts: Sequence[str]) -> None:
        """Raises JudgeError naming the first prompt that a judge cannot use."""

    @abstractmethod
    def ask(self, rows: Sequence[int], items: Items, fail: Fail, advance: Callable[[], None]) -> np.ndarray:
        """(N, Q) answers about some rows of N items; NaN for the other rows, and for those that `fail` was told of.

        advance is called after each row that has its answers.
        """

    def without_alignment(self) -> "Reward":
        """This reward without the questions about the prompt, so that no prompt is needed.

        Totals lack alignment, so compare them only with one another. Raises ChecklistError if no question is left.
        """
        kept = [q.id for q in self.checklist if PROMPT_FIELD not in q.text]
        if not kept:
            raise ChecklistError(
                f"every question of checklist {self.checklist.name!r} asks about the prompt; give prompts"
            )
        return self.only(kept)

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

            p_yes = self.ask(range(len(media)), Items(media, prompts, layout, fps), fail, advance)

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


def _nothing() -> None:
    pass
