"""One judge and its checklist: reading, asking, keeping the answers, and what becomes of an item that fails."""

import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reward.cache import AnswerCache, answer_key
from reward.checklist import PROMPT_FIELD, Checklist, load_checklist
from reward.errors import ChecklistError, JudgeError, JudgeUnavailableError, MediaError, RewardError
from reward.judges import Judge, load_judge, require_kind
from reward.media import Media, digest, read_media
from reward.reward import Fail, Items, Reward


class VisionReward(Reward):
    """A judge and a checklist: `score(media, prompts)`.

    >>> reward = VisionReward("measured", "image", questions="answerable")
    >>> reward.score(["cat.png"], ["a red circle on a white background"]).total
    """

    def __init__(
        self,
        judge: str | Judge,
        checklist: str | Path | Checklist | None = None,
        *,
        questions: str | Sequence[str] = "all",
        cache: str | Path | AnswerCache | None = None,
    ):
        """checklist: None = the scorer's own, of a judge that is one, else "image".
        questions: "all", "answerable" (those that the judge says it can answer) or a list of question ids.

        cache: folder that keeps answers (see `reward.cache`); None = nothing is kept.

        Raises RewardError (JudgeError, ChecklistError, CacheError) for an unknown judge, checklist or question, a
        question that the judge cannot answer, a kind of media that it cannot look at, and a cache that cannot be used.
        """
        self.judge = load_judge(judge) if isinstance(judge, str) else judge
        named = (getattr(self.judge, "checklist", None) or "image") if checklist is None else checklist
        whole = named if isinstance(named, Checklist) else load_checklist(named)
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

    @property
    def fingerprint(self) -> str:
        return self.judge.fingerprint

    @property
    def batch_size(self) -> int:
        return self.judge.batch_size

    def only(self, question_ids: Collection[str]) -> "VisionReward":
        return VisionReward(self.judge, self.checklist.only(question_ids), cache=self.cache)

    def require_prompts(self, prompts: Sequence[str]) -> None:
        if self._asks_prompt:
            self.judge.require_prompts(prompts, self.checklist.kind)

    def ask(self, rows: Sequence[int], items: Items, fail: Fail, advance: Callable[[], None]) -> np.ndarray:
        p_yes = np.full((len(items.media), len(self.checklist.questions)), np.nan)

        # Earlier answers come from the cache.
        keys = self._checked_keys(rows, items, fail)
        kept = self.cache.get(list(keys.values())) if self.cache else {}
        for row in (row for row, key in keys.items() if key in kept):
            p_yes[row] = kept[keys[row]]
            advance()

        # The rest is read and judged, a batch at a time.
        waiting = [row for row, key in keys.items() if key not in kept]
        for start in range(0, len(waiting), self.judge.batch_size):
            batch = self._read(waiting[start : start + self.judge.batch_size], items, fail)
            answered = self._judge(batch, items.prompts, fail)
            for row, answer in answered:
                p_yes[row] = answer
                advance()
            if self.cache:
                self.cache.put({keys[row]: p_yes[row] for row, _ in answered})
        return p_yes

    def _checked_keys(self, rows: Sequence[int], items: Items, fail: Fail) -> dict[int, bytes]:
        """The cache's key of each row (empty without a cache); rows with an unusable prompt or file fail."""
        keys: dict[int, bytes] = {}
        judge = self.judge.fingerprint if self.cache else ""
        words = f"{self.checklist.kind}:{self.checklist.questions_fingerprint}"
        for row in rows:
            item, prompt = items.media[row], items.prompts[row]
            try:
                if not isinstance(prompt, str):
                    raise JudgeError(f"its prompt is {prompt!r}; give text")
                if self._asks_prompt and not prompt.strip():
                    raise JudgeError(
                        f"question {self._asks_prompt[0]!r} asks about the prompt, which is empty; give one, or leave the question out (--no-alignment, VisionReward.without_alignment)"
                    )
                content = digest(item, layout=items.layout, fps=items.fps) if self.cache else ""
                keys[row] = answer_key(content, prompt, words, judge) if self.cache else b""
            except RewardError as error:
                fail(row, error)
        return keys

    def _read(self, rows: Sequence[int], items: Items, fail: Fail) -> dict[int, Media]:
        """Row -> what the judge looks at; rows that cannot be read fail."""
        batch: dict[int, Media] = {}
        for row in rows:
            try:
                kind, sampling = self.checklist.kind, self.judge.sampling
                batch[row] = read_media(items.media[row], kind, layout=items.layout, sampling=sampling, fps=items.fps)
            except MediaError as error:
                fail(row, error)
        return batch

    def _judge(self, batch: dict[int, Media], prompts: Sequence[Any], fail: Fail) -> list[tuple[int, np.ndarray]]:
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
