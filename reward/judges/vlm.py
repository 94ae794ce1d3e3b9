"""The VLM judge: any transformers vision-language model, asked the whole checklist after one look at the picture.

p_yes is the probability of "yes" out of "yes" and "no", in all their spellings, for the token that follows the
question: no text is generated. Text alignment is answered the same way (VQAScore, arXiv 2404.01291).
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from reward.checklist import Kind, Question
from reward.errors import JudgeError, first_line
from reward.judges import AnswersAnything
from reward.judges.loading import (
    BUILDING_ERRORS,
    LOADING_ERRORS,
    build_without_weights,
    loading_options,
    weights_digest,
)
from reward.judges.modes import MisfitError, ModeChoice
from reward.judges.options import TEMPLATE, Quantization, VlmMode, VlmOptions, check_options
from reward.judges.packing import Suffixes, batched_logits, copied_logits, misfits, packed_logits, shared_length
from reward.judges.processing import (
    TICKS_PER_S,
    chat_text,
    input_names,
    processor_tensors,
    refuse_control_tokens,
    takes_clips,
)
from reward.judges.yes_no import p_yes, yes_log_odds, yes_no_tokens
from reward.media import Clip, Media, Sampling

MODES = ("packed", "batched", "copied", "sequential")  # the fastest first


class VLMJudge(AnswersAnything):
    """Any `AutoModelForImageTextToText` (Qwen2.5-VL, Qwen3-VL, SmolVLM, InternVL, LLaVA-OneVision …)."""

    def __init__(
        self,
        model: str | os.PathLike | torch.nn.Module,
        *,
        processor: Any = None,
        mode: VlmMode = "auto",
        template: str = TEMPLATE,
        batch_size: int = 1,
        max_packed_tokens: int = 1024,
        num_frames: int = 16,
        dtype: str | torch.dtype = "auto",
        device_map: Any = None,
        quantization: Quantization | None = None,
        attn_implementation: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ):
        """A hub id, a folder (of a model, or of an adapter made by `reward tune`), or a loaded model and its processor.

        mode: how the questions are asked after one picture.
            "packed": all of them end to end in one pass;
            "batched": each a row of a batch over copies of the picture's keys and values;
            "copied": each in its own pass over a copy of what the picture left in the model's cache;
            "sequential": each in a whole pass, the picture included. The reference, and the slowest;
            "auto": the first that works with the model and gives the same answers as "sequential" on an item.
        The other options: see `reward.judges.options.VlmOptions`.
        Raises JudgeError if an option is invalid or the model cannot be loaded.
        """
        loaded = not isinstance(model, (str, os.PathLike))
        settings = {"attn_implementation": attn_implementation, "revision": revision}
        check_options(
            "vlm",
            {
                "model": type(model).__name__ if loaded else model,
                "mode": mode,
                "template": template,
                "batch_size": batch_size,
                "max_packed_tokens": max_packed_tokens,
                "num_frames": num_frames,
                "dtype": str(dtype).removeprefix("torch."),
                "device_map": device_map,
                "quantization": quantization,
                "trust_remote_code": trust_remote_code,
                **settings,
            },
        )
        if not loaded:
            options = loading_options(device_map, quantization, dtype=dtype, **settings)
            model, processor = _load(model, processor, trust_remote_code, options)
        elif processor is None:
            raise JudgeError("a loaded model needs its processor: VLMJudge(model, processor=…)")
        whole: Any = model  # of a PEFT model, the network that holds the adapter
        self.model: Any = (whole.get_base_model() if hasattr(whole, "get_base_model") else whole).eval()
        self.processor = processor
        tokenizer = self.processor.tokenizer
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.mode = mode
        self.template = template
        self.batch_size = batch_size
        self.max_packed_tokens = max_packed_tokens
        self.sampling = Sampling(max_frames=num_frames)
        self.yes, self.no = yes_no_tokens(tokenizer)
        self._input_names = input_names(self.model)
        self.kinds = _kinds(self.processor, self._input_names)
        self._modes = ModeChoice(
            mode, MODES, name=type(self.model).__name__, dtype=self.model.dtype, refused=misfits(self.model)
        )

    @property
    def used_mode(self) -> str | None:
        """The mode of the last answer; None = nothing was asked yet."""
        return self._modes.used

    @property
    def fingerprint(self) -> str:
        """Digest over configuration, processors, vocabulary, templates, frames, mode and a sample of every weight.

        The mode counts as requested, "auto" included: modes differ by rounding.
        """
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
            TICKS_PER_S,  # how times are told: answers about clips depend on it
            self.mode,
        )
        sha = hashlib.sha256(repr(parts).encode() + weights_digest(self.model).encode())
        return f"vlm:{sha.hexdigest()[:16]}"

    def require_prompts(self, prompts: Sequence[str], kind: Kind) -> None:
        """Raises JudgeError for a prompt that holds one of the model's control tokens, such as the one for a picture."""
        refuse_control_tokens(self.processor.tokenizer, prompts)

    def answer(self, media: Sequence[Media], prompts: Sequence[str], questions: Sequence[Question]) -> np.ndarray:
        """(N, Q) float64: see `Judge.answer`."""
        refuse_control_tokens(self.processor.tokenizer, prompts)
        p = np.empty((len(media), len(questions)))
        for rows in self._batches(media):
            batch = [media[row] for row in rows]
            asked = [[self._text(media[row], question.ask(prompts[row])) for question in questions] for row in rows]
            logits = self._modes.ask(
                partial(self._log_odds_of_one, batch[0], asked[0]), partial(self._logits, batch, asked)
            )
            p[rows] = p_yes(logits, self.yes, self.no, [q.id for q in questions]).double().cpu().numpy()
        return p

    def _batches(self, media: Sequence[Media]) -> Iterator[list[int]]:
        """Rows that can be judged together: processors cannot take clips of different lengths at once."""
        rows_of: dict[Any, list[int]] = {}
        for row, item in enumerate(media):
            rows_of.setdefault(item.frames.shape if isinstance(item, Clip) else None, []).append(row)
        for rows in rows_of.values():
            yield from (rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size))

    def _log_odds_of_one(self, item: Media, texts: Sequence[str], mode: str) -> Float[Tensor, "2"]:
        """Log-odds of the first and the last text."""
        return yes_log_odds(self._logits([item], [[texts[0], texts[-1]]], mode)[0], self.yes, self.no)

    @torch.inference_mode()
    def _logits(self, media: Sequence[Media], asked: Sequence[Sequence[str]], mode: str) -> Float[Tensor, "N Q vocab"]:
        """Logits of the token after each text, one text for each item and question."""
        if mode in ("sequential", "copied"):
            ask = self._one_by_one if mode == "sequential" else self._over_copies
            return torch.stack([ask(item, texts) for item, texts in zip(media, asked, strict=True)])
        inputs, suffixes = self._split(media, asked)
        logits_of = packed_logits if mode == "packed" else batched_logits
        return logits_of(self.model, inputs, suffixes, max_tokens=self.max_packed_tokens)

    def _one_by_one(self, item: Media, texts: Sequence[str]) -> Float[Tensor, "Q vocab"]:
        passes = (self.model(**self._inputs([item], [text]), logits_to_keep=1) for text in texts)
        return torch.stack([output.logits[0, -1] for output in passes])

    def _over_copies(self, item: Media, texts: Sequence[str]) -> Float[Tensor, "Q vocab"]:
        inputs, (suffixes,) = self._split([item], [texts])
        return copied_logits(self.model, inputs, suffixes)

    def _split(self, media: Sequence[Media], asked: Sequence[Sequence[str]]) -> tuple[dict[str, Tensor], Suffixes]:
        """The model's inputs for what all texts begin with, and the tokens with which each continues.

        Whole texts are tokenized and cut where they first differ, so that the tokens are those of "sequential".
        """
        tokenizer = self.processor.tokenizer
        ids = [[tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts] for texts in asked]
        shared = shared_length([tokens for row in ids for tokens in row])
        suffixes = [[tokens[shared:] for tokens in row] for row in ids]
        # Every row has the same question, so that all rows end alike and can be cut at the same place.
        probe, probe_suffix = asked[0][0], suffixes[0][0]
        inputs = self._inputs(media, [probe] * len(media))
        length, cut = inputs["input_ids"].shape[1], len(probe_suffix)
        if inputs["input_ids"][:, length - cut :].tolist() != [probe_suffix] * len(media):
            raise MisfitError("its processor puts its own tokens around the question")
        return {
            name: value[:, : length - cut] if value.ndim == 2 and value.shape == inputs["input_ids"].shape else value
            for name, value in inputs.items()
        }, suffixes

    def _inputs(self, media: Sequence[Media], texts: Sequence[str]) -> dict[str, Tensor]:
        """The model's inputs for N items and their texts, on its device, pixels in its dtype.

        Times stay as they are: they become positions, and in half precision a frame's would be another's.
        """
        return {
            name: value.to(
                self.model.device, self.model.dtype if value.is_floating_point() and value.ndim > 1 else None
            )
            for name, value in processor_tensors(self.processor, media, texts).items()
            if name in self._input_names
        }

    def _text(self, item: Media, question: str) -> str:
        return chat_text(self.processor, item, self.template.replace("{question}", question))


def _load(model: Any, processor: Any, trust_remote_code: bool, options: dict[str, Any]) -> tuple[Any, Any]:
    """(model, processor) from a folder or the hub."""
    try:
        processor = processor or _load_processor(model, options.get("revision"), trust_remote_code)
        loaded = AutoModelForImageTextToText.from_pretrained(model, trust_remote_code=trust_remote_code, **options)
    except LOADING_ERRORS as error:
        if "num2words" in str(error):
            raise JudgeError(f"model={str(model)!r} needs num2words; pip install 'mpo[smolvlm]'") from None
        raise JudgeError(
            f"model={str(model)!r} cannot be loaded ({first_line(error)}); give a folder or hub id of a transformers vision-language model"
        ) from error
    return loaded, processor


def _load_processor(model: Any, revision: str | None, trust_remote_code: bool) -> Any:
    return AutoProcessor.from_pretrained(model, revision=revision or "main", trust_remote_code=trust_remote_code)


def _kinds(processor: Any, names: set[str]) -> tuple[Kind, ...]:
    """The kinds of media that reach a model. names: those of `input_names`."""
    return ("image", "video") if takes_clips(processor, names) else ("image",)


def kinds_without_weights(options: VlmOptions) -> tuple[Kind, ...] | None:
    """What the judge will look at, by the model's class and processor. None = unknown: they cannot be read or built."""
    try:
        processor = _load_processor(options.model, options.revision, options.trust_remote_code)
        return _kinds(processor, input_names(build_without_weights(options)))
    except BUILDING_ERRORS:
        return None
