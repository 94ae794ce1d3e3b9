"""The published judges: VisionReward-Video, and VisionReward-Image once converted to its transformers form.

Both are CogVLM2 (arXiv 2408.16500), which comes with modelling code of its own beside the weights. What is asked and
how frames are taken follows the published inference-video.py and inference-image.py; the answer is read as P(yes) out
of yes and no, where that code compares one generated word with "yes" and takes all else for a no.
"""

import hashlib
import logging
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from reward.checklist import Kind, Question
from reward.errors import JudgeError
from reward.judges import AnswersAnything
from reward.judges.loading import LOADING_ERRORS, TOLERANCE, first_line, loading_options, weights_digest
from reward.judges.packing import shared_length
from reward.judges.yes_no import p_yes, yes_log_odds, yes_no_tokens
from reward.media import Clip, Media, Sampling

Mode = Literal["auto", "shared", "sequential"]
TEMPLATE_VERSION = {"video": "chat", "image": "vqa"}

logger = logging.getLogger(__name__)


class CogVLM2Judge(AnswersAnything):
    """A CogVLM2 checkpoint, asked through its `build_conversation_input_ids`."""

    batch_size = 1
    sampling = Sampling(max_frames=24, rate_hz=1.0)  # one a second, the first 24

    def __init__(
        self,
        model: str = "THUDM/VisionReward-Video",
        *,
        kind: Kind = "video",
        trust_remote_code: bool = False,
        mode: Mode = "auto",
        dtype: str = "bfloat16",
        device_map: Any = None,
        quantization: Literal["4bit", "8bit"] | None = None,
        revision: str | None = None,
    ):
        """trust_remote_code: must be True, after you have read the code: it comes from the checkpoint and is run.

        kind: what the checkpoint looks at. mode: "sequential" = a whole pass for each question; "shared" = one pass
        over frames and opening words, then short ones over its keys and values; "auto" = shared if that says the same
        of the first item. device_map: None = the first GPU if there is one, else the CPU.
        Raises JudgeError where the code is not trusted or the model cannot be loaded.
        """
        if not trust_remote_code:
            raise JudgeError(
                f"{model} runs code that comes with it; read its *.py files, then say trust_remote_code=True (in a recipe: judge.options.trust_remote_code)"
            )
        if mode not in get_args(Mode):
            raise JudgeError(f"mode={mode!r} is unknown; modes: {', '.join(get_args(Mode))}")
        options = loading_options(device_map, quantization, dtype=dtype, revision=revision)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(
                model, revision=revision or "main", trust_remote_code=True
            )
            self.model: Any = AutoModelForCausalLM.from_pretrained(model, trust_remote_code=True, **options).eval()
        except LOADING_ERRORS as error:
            raise JudgeError(
                f"model={model!r} cannot be loaded ({first_line(error)}); its own code may need an older transformers (it was written for 4.40): if so, serve it from an environment of its own and use the server judge"
            ) from error
        if not hasattr(self.model, "build_conversation_input_ids"):
            raise JudgeError(
                f"model={model!r} has no build_conversation_input_ids and so is no CogVLM2; use the vlm judge"
            )
        self.name = model
        self.mode: Mode = mode
        self.kinds: tuple[Kind, ...] = (kind,)
        self.template_version = TEMPLATE_VERSION[kind]
        self.yes, self.no = yes_no_tokens(self.tokenizer)

    @property
    def fingerprint(self) -> str:
        """Digest over the name, the loaded revision, the arithmetic and a sample of every weight."""
        revision = getattr(self.model.config, "_commit_hash", None)
        parts = f"{self.name}{revision}{self.sampling}{weights_digest(self.model)}"
        sha = hashlib.sha256(parts.encode())
        return f"cogvlm2:{sha.hexdigest()[:16]}"

    def answer(self, media: Sequence[Media], prompts: Sequence[str], questions: Sequence[Question]) -> np.ndarray:
        """(N, Q) float64: see `Judge.answer`."""
        rows = []
        for item, prompt in zip(media, prompts, strict=True):
            queries = self._queries(prompt, questions)
            if self.mode == "auto":
                self.mode = self._try_shared(item, [queries[0], queries[-1]])
            logits = self._logits(item, queries, self.mode)
            rows.append(p_yes(logits, self.yes, self.no, [q.id for q in questions]).double().cpu().numpy())
        return np.array(rows).reshape(len(media), len(questions))

    def _queries(self, prompt: str, questions: Sequence[Question]) -> list[str]:
        """As published: inference-video.py reads its questions with their line ends, and the last one has none."""
        texts = [question.ask(prompt) for question in questions]
        return [text + "\n" for text in texts[:-1]] + texts[-1:] if self.kinds == ("video",) else texts

    @torch.inference_mode()
    def _logits(self, item: Media, queries: Sequence[str], mode: Mode) -> Tensor:
        """(Q, vocab): for the token behind each query."""
        built = [self._build(item, query) for query in queries]
        if mode == "sequential":
            return torch.stack([self.model(**inputs).logits[0, -1] for inputs in built])
        ids = [torch.stack([inputs["input_ids"][0], inputs["token_type_ids"][0]], dim=1).tolist() for inputs in built]
        shared = shared_length(ids)
        prefix = {name: value[:, :shared] if name != "images" else value for name, value in built[0].items()}
        seen: dict[str, Tensor] = {}
        hook = self.model.model.layers[0].register_forward_pre_hook(
            lambda _module, _arguments, named: seen.update(position_ids=named["position_ids"]), with_kwargs=True
        )
        try:
            past = self.model(**prefix, use_cache=True).past_key_values
        finally:
            hook.remove()
        following = int(seen["position_ids"].flatten()[-1]) + 1  # all of a picture's tokens share one position
        logits = []
        for inputs in built:
            suffix = inputs["input_ids"][:, shared:]
            output = self.model(
                input_ids=suffix,
                token_type_ids=inputs["token_type_ids"][:, shared:],
                attention_mask=inputs["attention_mask"],
                position_ids=following + torch.arange(suffix.shape[1], device=suffix.device)[None],
                past_key_values=past,
                use_cache=True,
            )
            if hasattr(past, "crop"):  # tuples of old are left as they are; a cache object has grown
                past.crop(-suffix.shape[1])
            logits.append(output.logits[0, -1])
        return torch.stack(logits)

    def _build(self, item: Media, query: str) -> dict[str, Any]:
        looks = item if isinstance(item, Image.Image) else _frames(item)
        built = self.model.build_conversation_input_ids(
            tokenizer=self.tokenizer, query=query, images=[looks], history=[], template_version=self.template_version
        )
        device = self.model.device
        inputs = {
            name: built[name].unsqueeze(0).to(device) for name in ("input_ids", "token_type_ids", "attention_mask")
        }
        return inputs | {"images": [[image.to(device, self.model.dtype) for image in built["images"]]]}

    def _try_shared(self, item: Media, queries: Sequence[str]) -> Mode:
        reference = yes_log_odds(self._logits(item, queries, "sequential"), self.yes, self.no)
        try:
            gap = float(
                (yes_log_odds(self._logits(item, queries, "shared"), self.yes, self.no) - reference).abs().max()
            )
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            logger.warning("%s cannot share its look at a clip (%s); questions are asked one by one", self.name, error)
            return "sequential"
        if gap <= TOLERANCE[self.model.dtype]:
            return "shared"
        logger.warning("%s answers otherwise behind a shared look; questions are asked one by one", self.name)
        return "sequential"


def _frames(clip: Clip) -> Tensor:
    """(C, F, H, W) uint8, as the published code makes them of what decord reads."""
    return torch.from_numpy(clip.frames).permute(3, 0, 1, 2)
