"""VQAScore (arXiv 2404.01291, equation 1): the probability of "Yes" to whether a picture shows what its prompt says.

Out of the whole vocabulary, where the vision-language judge takes it out of yes and no. Asked in the published words, so
it answers whatever question of a checklist asks about the prompt and counts as a probability, and no other.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from reward.checklist import PROMPT_FIELD, Kind, Question
from reward.errors import JudgeError
from reward.judges.loading import BUILDING_ERRORS, loading_options
from reward.judges.loading import build_without_weights as build_vlm
from reward.judges.options import Dtype, Quantization, VlmOptions, VqaScoreOptions, check_options
from reward.judges.scorers import clip_flant5
from reward.judges.scorers.published import loading_error
from reward.judges.vlm import VLMJudge
from reward.judges.vlm import kinds_without_weights as kinds_of_vlm
from reward.media import Media

QUESTION = 'Does this figure show "{prompt}"? Please answer yes or no.'
ANSWER = "Yes"


class VQAScore:
    """Of a CLIP-FlanT5, or of any vision-language model that `VLMJudge` takes. See `reward.judges.options.VqaScoreOptions`.

    A CLIP-FlanT5 looks at pictures; its score is the geometric mean over the answer's tokens, "Yes" and the end, as
    published. A vision-language model may also look at clips.
    """

    def __init__(
        self,
        model: str = "zhiqiulin/clip-flant5-xxl",
        *,
        processor: str | None = None,
        revision: str | None = None,
        dtype: Dtype = "auto",
        device_map: Any = None,
        quantization: Quantization | None = None,
        num_frames: int = 16,
        batch_size: int = 1,
    ):
        """Raises JudgeError if an option is invalid or the model cannot be loaded."""
        settings = {"revision": revision, "dtype": dtype, "device_map": device_map, "quantization": quantization}
        given = {"model": model, "processor": processor, "num_frames": num_frames, "batch_size": batch_size, **settings}
        options = check_options("vqascore", given)
        assert isinstance(options, VqaScoreOptions)
        self.batch_size = batch_size
        self._model: _VisionLanguage | clip_flant5.CLIPFlanT5
        if is_clip_flant5(options):
            for name, value in (
                ("quantization", quantization),
                ("num_frames", None if num_frames == 16 else num_frames),
            ):
                if value is not None:
                    raise JudgeError(
                        f"judge 'vqascore': {name}={value!r} is not possible with a CLIP-FlanT5; leave it out"
                    )
            loading = loading_options(device_map, None, dtype=dtype)
            try:
                self._model = clip_flant5.CLIPFlanT5(
                    options.model, processor=options.processor, revision=revision, **loading
                )
            except BUILDING_ERRORS as error:
                raise loading_error(options.model, error, "a folder or hub id of a CLIP-FlanT5 as published") from error
        else:
            if processor is not None:
                raise JudgeError(
                    f"judge 'vqascore': processor={processor!r} is not possible with a vision-language model; leave it out"
                )
            self._model = _VisionLanguage(
                options.model,
                mode="sequential",
                template="{question}",
                num_frames=num_frames,
                batch_size=batch_size,
                **settings,
            )
        self.kinds = self._model.kinds
        self.sampling = self._model.sampling

    @property
    def fingerprint(self) -> str:
        """Digest over the model's own and the words."""
        sha = hashlib.sha256(f"{self._model.fingerprint}\0{QUESTION}\0{ANSWER}".encode())
        return f"vqascore:{sha.hexdigest()[:16]}"

    def can_answer(self, question: Question, kind: Kind) -> bool:
        """Whether the question asks about the prompt and counts as a probability."""
        return question.continuous and PROMPT_FIELD in question.text

    def require(self, questions: Sequence[Question], kind: Kind) -> None:
        """Raises JudgeError naming the first question that it cannot answer."""
        for question in questions:
            if not self.can_answer(question, kind):
                raise JudgeError(
                    f'question {question.id!r} cannot be answered by vqascore, which only says how well an item shows its prompt; leave it out (questions="answerable"), or ask the vlm judge'
                )

    def require_prompts(self, prompts: Sequence[str], kind: Kind) -> None:
        """Raises JudgeError naming the first prompt that holds one of the model's control tokens."""
        self._model.require_prompts(prompts, kind)

    def answer(self, media: Sequence[Media], prompts: Sequence[str], questions: Sequence[Question]) -> np.ndarray:
        """(N, Q) float64 in [0, 1]: the same for each question. Raises JudgeError for one that is NaN."""
        self.require_prompts(prompts, self.kinds[0])
        asked = [QUESTION.replace(PROMPT_FIELD, prompt) for prompt in prompts]
        probabilities = np.empty(len(media))
        for rows in self._batches(media):
            batch, words = [media[row] for row in rows], [asked[row] for row in rows]
            found = self._model.probabilities(batch, words, ANSWER)  # type: ignore[arg-type]
            probabilities[rows] = found.double().cpu().numpy()
        for row in np.flatnonzero(~np.isfinite(probabilities)).tolist():
            raise JudgeError(
                f"vqascore of prompt {prompts[row]!r} is {probabilities[row]}, which is no probability; load the model with dtype='float32', or replace the item"
            )
        return np.repeat(probabilities[:, None], len(questions), axis=1)

    def _batches(self, media: Sequence[Media]) -> list[list[int]]:
        if isinstance(self._model, _VisionLanguage):
            return list(self._model._batches(media))
        return [
            list(range(len(media))[start : start + self.batch_size]) for start in range(0, len(media), self.batch_size)
        ]


class _VisionLanguage(VLMJudge):
    """The models of the vision-language judge, asked for one token."""

    @torch.inference_mode()
    def probabilities(self, media: Sequence[Media], questions: Sequence[str], answer: str) -> torch.Tensor:
        """(N,) float32: of the token that the answer is, out of all. Raises JudgeError if the answer is several."""
        ids = self.processor.tokenizer.encode(answer, add_special_tokens=False)
        if len(ids) != 1:
            raise JudgeError(
                f"the tokenizer of {type(self.model).__name__} spells {answer!r} in {len(ids)} tokens; use a model that has one for it"
            )
        texts = [self._text(item, question) for item, question in zip(media, questions, strict=True)]
        logits = self.model(**self._inputs(media, texts), logits_to_keep=1).logits[:, -1]
        return logits.float().softmax(-1)[:, ids[0]]


def is_clip_flant5(options: VqaScoreOptions) -> bool:
    """By its config.json; if that cannot be read, False, and loading tells."""
    if options.model == VqaScoreOptions().model:
        return True
    try:
        return clip_flant5.read_config(options.model, options.revision).get("model_type") == clip_flant5.MODEL_TYPE
    except BUILDING_ERRORS:
        return False


def kinds_without_weights(options: VqaScoreOptions) -> tuple[Kind, ...] | None:
    """What it will look at; None = unknown, as `reward.judges.vlm.kinds_without_weights`."""
    if is_clip_flant5(options):
        return clip_flant5.CLIPFlanT5.kinds
    return kinds_of_vlm(VlmOptions(model=options.model, revision=options.revision))


def build_without_weights(options: VqaScoreOptions) -> torch.nn.Module:
    """The network on the device in force."""
    if is_clip_flant5(options):
        return clip_flant5.build_without_weights(options.model, options.revision)
    return build_vlm(VlmOptions(model=options.model, revision=options.revision))
