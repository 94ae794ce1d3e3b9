"""The VLM judge: any vision-language model of transformers, asked the whole checklist behind one look at the picture.

p_yes is the probability of "yes" out of "yes" and "no", in all their spellings, for the token that follows the
question: no text is generated. Text alignment is answered likewise (VQAScore, arXiv 2404.01291).
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.video_utils import VideoMetadata

from reward.checklist import Kind, Question
from reward.errors import JudgeError
from reward.judges import AnswersAnything, at_least_one
from reward.judges.loading import LOADING_ERRORS, TOLERANCE, first_line, loading_options, weights_digest
from reward.judges.packing import Suffixes, batched_logits, can_pack, packed_logits, prefill, shared_length
from reward.judges.yes_no import p_yes, yes_log_odds, yes_no_tokens
from reward.media import Clip, Media, Sampling

Mode = Literal["auto", "packed", "batched", "sequential"]
TEMPLATE = "{question} Answer yes or no."

logger = logging.getLogger(__name__)


class VLMJudge(AnswersAnything):
    """Any `AutoModelForImageTextToText` (Qwen2.5-VL, Qwen3-VL, SmolVLM, InternVL, LLaVA-OneVision …)."""

    def __init__(
        self,
        model: str | os.PathLike | torch.nn.Module,
        *,
        processor: Any = None,
        mode: Mode = "auto",
        template: str = TEMPLATE,
        batch_size: int = 1,
        max_packed_tokens: int = 1024,
        num_frames: int = 16,
        dtype: str | torch.dtype = "auto",
        device_map: Any = None,
        quantization: Literal["4bit", "8bit"] | None = None,
        attn_implementation: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ):
        """A hub id, a folder (of a model, or of an adapter made by `reward tune`), or a loaded model and its processor.

        mode: "packed" (all questions in one pass), "batched" (a row each over shared keys and values), "sequential"
        (a whole pass each; the reference), "auto" = the first of these that, on the first item, agrees with the last.
        template: what is asked, "{question}" standing for the question.
        max_packed_tokens: question tokens in one pass; bounds memory. num_frames: frames of a clip, spread evenly.
        device_map: as in transformers; None = the first GPU if there is one, else the CPU.
        quantization: bitsandbytes; None = none. trust_remote_code: runs code that comes with the model.
        Raises JudgeError where the model cannot be loaded or an option is not possible.
        """
        if mode not in get_args(Mode):
            raise JudgeError(f"mode={mode!r} is unknown; modes: {', '.join(get_args(Mode))}")
        if "{question}" not in template:
            raise JudgeError(f"template={template!r} has no place for the question; put {{question}} into it")
        at_least_one(batch_size=batch_size, max_packed_tokens=max_packed_tokens, num_frames=num_frames)
        if not isinstance(model, (str, os.PathLike)):
            if processor is None:
                raise JudgeError("a loaded model needs its processor: VLMJudge(model, processor=…)")
            whole: Any = model  # of a PEFT model, the network that the adapter has been put into
            self.model = (whole.get_base_model() if hasattr(whole, "get_base_model") else whole).eval()
            self.processor = processor
        else:
            options = loading_options(
                device_map, quantization, dtype=dtype, attn_implementation=attn_implementation, revision=revision
            )
            try:
                self.processor = processor or AutoProcessor.from_pretrained(
                    model, revision=revision or "main", trust_remote_code=trust_remote_code
                )
                loaded = AutoModelForImageTextToText.from_pretrained(
                    model, trust_remote_code=trust_remote_code, **options
                )
            except LOADING_ERRORS as error:
                raise JudgeError(
                    f"model={str(model)!r} cannot be loaded ({first_line(error)}); give a folder or hub id of a vision-language model of transformers"
                ) from error
            self.model = loaded.eval()
        tokenizer = self.processor.tokenizer
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.mode: Mode = mode
        self.template = template
        self.batch_size = batch_size
        self.max_packed_tokens = max_packed_tokens
        self.sampling = Sampling(max_frames=num_frames)
        takes_clips = getattr(self.processor, "video_processor", None) is not None
        self.kinds: tuple[Kind, ...] = ("image", "video") if takes_clips else ("image",)
        self.yes, self.no = yes_no_tokens(tokenizer)

    @property
    def fingerprint(self) -> str:
        """Digest over configuration, processors, vocabulary, templates, frames and a sample of every weight."""
        config = self.model.config.to_diff_dict()
        for volatile in ("_name_or_path", "architectures", "transformers_version", "dtype"):
            config.pop(volatile, None)
        eyes = [getattr(self.processor, name, None) for name in ("image_processor", "video_processor")]
        settings = [config, *(eye.to_dict() for eye in eyes if eye is not None)]
        words = sorted(self.processor.tokenizer.get_vocab().items())
        parts = (
            json.dumps(settings, sort_keys=True, default=str),
            getattr(self.processor, "chat_template", None),
            words,
            self.template,
            self.sampling,
        )
        sha = hashlib.sha256(repr(parts).encode() + weights_digest(self.model).encode())
        return f"vlm:{sha.hexdigest()[:16]}"

    def require_prompts(self, prompts: Sequence[str]) -> None:
        """Raises JudgeError for a prompt that holds one of the model's control tokens, such as a picture's place."""
        control = set(self.processor.tokenizer.all_special_tokens) | set(self.processor.tokenizer.added_tokens_encoder)
        for prompt in prompts:
            held = sorted(token for token in control if token.strip() and token in prompt)
            if held:
                raise JudgeError(f"prompt {prompt!r} holds the model's control token {held[0]!r}; reword it")

    def answer(self, media: Sequence[Media], prompts: Sequence[str], questions: Sequence[Question]) -> np.ndarray:
        """(N, Q) float64: see `Judge.answer`."""
        self.require_prompts(prompts)
        p = np.empty((len(media), len(questions)))
        for rows in self._batches(media):
            batch = [media[row] for row in rows]
            asked = [[self._text(media[row], question.ask(prompts[row])) for question in questions] for row in rows]
            if self.mode == "auto":
                self.mode = self._try_modes(batch[0], [asked[0][0], asked[0][-1]])
            logits = self._logits(batch, asked, self.mode)
            p[rows] = p_yes(logits, self.yes, self.no, [q.id for q in questions]).double().cpu().numpy()
        return p

    def _batches(self, media: Sequence[Media]) -> Iterator[list[int]]:
        """Rows that can be looked at together: processors cannot be given clips of different lengths at once."""
        rows_of: dict[Any, list[int]] = {}
        for row, item in enumerate(media):
            rows_of.setdefault(item.frames.shape if isinstance(item, Clip) else None, []).append(row)
        for rows in rows_of.values():
            yield from (rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size))

    @torch.inference_mode()
    def _logits(self, media: Sequence[Media], asked: Sequence[Sequence[str]], mode: Mode) -> Tensor:
        """(N, Q, vocab): for the token behind each text, one text for each item and question."""
        if mode == "sequential":
            rows = []
            for item, texts in zip(media, asked, strict=True):
                rows.append(
                    [self.model(**self._inputs([item], [text]), logits_to_keep=1).logits[0, -1] for text in texts]
                )
            return torch.stack([torch.stack(row) for row in rows])
        inputs, suffixes = self._split(media, asked)
        prefix = prefill(self.model, inputs)
        if mode == "packed":
            return packed_logits(self.model, prefix, suffixes, max_tokens=self.max_packed_tokens)
        return batched_logits(self.model, prefix, suffixes, max_tokens=self.max_packed_tokens)

    def _split(self, media: Sequence[Media], asked: Sequence[Sequence[str]]) -> tuple[dict[str, Tensor], Suffixes]:
        """The processor's inputs for what all texts begin with, and the tokens with which each goes on.

        Texts are tokenised whole and cut where they first differ, so that the tokens are those of the sequential way.
        """
        tokenizer = self.processor.tokenizer
        ids = [[tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts] for texts in asked]
        shared = shared_length([tokens for row in ids for tokens in row])
        suffixes = [[tokens[shared:] for tokens in row] for row in ids]
        # Each row carries a question of its own; all rows must end alike to be cut at one place.
        probe, probe_suffix = asked[0][0], suffixes[0][0]
        inputs = self._inputs(media, [probe] * len(media))
        length, cut = inputs["input_ids"].shape[1], len(probe_suffix)
        if inputs["input_ids"][:, length - cut :].tolist() != [probe_suffix] * len(media):
            raise NotImplementedError("the processor's tokens around the picture depend on the question")
        return {
            name: value[:, : length - cut] if value.ndim == 2 and value.shape == inputs["input_ids"].shape else value
            for name, value in inputs.items()
        }, suffixes

    def _inputs(self, media: Sequence[Media], texts: Sequence[str]) -> dict[str, Any]:
        pictures: dict[str, Any]
        if isinstance(media[0], Image.Image):
            pictures = {"images": [[item] for item in media]}
        else:
            least = getattr(self.processor.video_processor, "temporal_patch_size", None) or 1
            clips = [_at_least(item, least) for item in media if isinstance(item, Clip)]
            pictures = {
                "videos": [[clip.frames] for clip in clips],
                "video_metadata": [[_metadata(clip)] for clip in clips],
                "do_sample_frames": False,
            }
        starts_itself = self.processor.tokenizer.bos_token is not None and texts[0].startswith(
            self.processor.tokenizer.bos_token
        )
        try:
            inputs = self.processor(
                text=list(texts),
                **pictures,
                return_tensors="pt",
                padding=True,
                padding_side="left",
                add_special_tokens=not starts_itself,
            )
        except (IndexError, TypeError, ValueError) as error:
            raise JudgeError(
                f"{type(self.processor).__name__} does not take the item ({first_line(error)}); change its size or length"
            ) from error
        # Some processors hand back what the model does not take, such as the sampled frames' metadata.
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        return {
            name: value.to(self.model.device, self.model.dtype if value.is_floating_point() else None)
            for name, value in tensors.items()
        }

    def _text(self, item: Media, question: str) -> str:
        kind = "image" if isinstance(item, Image.Image) else "video"
        words = self.template.replace("{question}", question)
        message = {"role": "user", "content": [{"type": kind}, {"type": "text", "text": words}]}
        try:
            return self.processor.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        except (TypeError, ValueError) as error:
            raise JudgeError(
                f"{type(self.processor).__name__} cannot put a question ({first_line(error)}); use a model with a chat template"
            ) from error

    def _try_modes(self, item: Media, texts: Sequence[str]) -> Mode:
        """The fastest mode that says of one item what the sequential one says."""
        reference = yes_log_odds(self._logits([item], [texts], "sequential"), self.yes, self.no)
        for mode in ("packed", "batched"):
            try:
                if mode == "packed":
                    with torch.inference_mode():
                        if not can_pack(self.model, prefill(self.model, self._split([item], [texts])[0])):
                            continue
                gap = (yes_log_odds(self._logits([item], [texts], mode), self.yes, self.no) - reference).abs().max()
            except torch.OutOfMemoryError:
                raise
            except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
                logger.info("mode %s does not work with %s: %s", mode, type(self.model).__name__, error)
                continue
            if gap <= TOLERANCE[self.model.dtype]:
                return mode
            logger.info("mode %s of %s differs from sequential by %.3g", mode, type(self.model).__name__, gap)
        logger.warning(
            "%s gives other answers behind a shared prefix; its questions are asked one by one, which is slow",
            type(self.model).__name__,
        )
        return "sequential"


def _at_least(clip: Clip, count: int) -> Clip:
    """A clip of fewer frames than a processor takes at a time goes on with its last one."""
    missing = count - len(clip.frames)
    if missing <= 0:
        return clip
    later_s = clip.times_s[-1] + np.arange(1, missing + 1) / clip.fps
    return Clip(np.concatenate([clip.frames, clip.frames[-1:].repeat(missing, 0)]), np.append(clip.times_s, later_s))


def _metadata(clip: Clip) -> VideoMetadata:
    count, height, width = clip.frames.shape[:3]
    return VideoMetadata(
        total_num_frames=count,
        fps=clip.fps,
        width=width,
        height=height,
        duration=count / clip.fps,
        frames_indices=list(range(count)),
    )
