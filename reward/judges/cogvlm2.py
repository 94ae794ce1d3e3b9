"""The published judges: VisionReward-Video, and VisionReward-Image once converted to its transformers form.

Both are CogVLM2 (arXiv 2408.16500), which comes with its own modelling code beside the weights. The questions and
frames follow the published inference-video.py and inference-image.py; the answer is read as P(yes) out
of yes and no; that code compares one generated word with "yes" and counts everything else as no.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from reward.checklist import Kind, Question
from reward.errors import JudgeError, first_line
from reward.judges import AnswersAnything
from reward.judges.loading import LOADING_ERRORS, loading_options, weights_digest
from reward.judges.modes import ModeChoice
from reward.judges.options import CogVLM2Mode, Quantization, check_options
from reward.judges.packing import shared_length
from reward.judges.yes_no import p_yes, yes_log_odds, yes_no_tokens
from reward.media import Clip, Media, Sampling

MODES = ("shared", "sequential")  # the fastest first
TEMPLATE_VERSION = {"video": "chat", "image": "vqa"}


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
        mode: CogVLM2Mode = "auto",
        dtype: str = "bfloat16",
        device_map: Any = None,
        quantization: Quantization | None = None,
        revision: str | None = None,
    ):
        """trust_remote_code: must be True. Read the code first: it comes with the checkpoint and is run.

        mode: how the questions are asked after one clip.
            "shared": one pass over the frames and the opening words, then a short one for each question over its keys
            and values;
            "sequential": a whole pass for each question. The reference, and slower;
            "auto": "shared", if it gives the same answers as "sequential" on an item.
        The other options: see `reward.judges.options.CogVLM2Options`.
        Raises JudgeError if an option is invalid, the code is not trusted or the model cannot be loaded.
        """
        settings = {"device_map": device_map, "quantization": quantization, "dtype": dtype, "revision": revision}
        trusted = {"trust_remote_code": trust_remote_code}
        check_options("cogvlm2", {"model": model, "kind": kind, "mode": mode, **settings, **trusted})
        options = loading_options(**settings)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(
                model, revision=revision or "main", trust_remote_code=True
            )
            self.model: Any = AutoModelForCausalLM.from_pretrained(model, trust_remote_code=True, **options).eval()
        except LOADING_ERRORS as error:
            raise JudgeError(
                f"model={model!r} cannot be loaded ({first_line(error)}); its own code may need an older transformers (it was written for 4.40): if so, serve it from its own environment and use the server judge"
            ) from error
        if not hasattr(self.model, "build_conversation_input_ids"):
            raise JudgeError(
                f"model={model!r} has no build_conversation_input_ids, so it is not a CogVLM2; use the vlm judge"
            )
        self.name = model
        self.mode: CogVLM2Mode = mode
        self.kinds: tuple[Kind, ...] = (kind,)
        self.template_version = TEMPLATE_VERSION[kind]
        self.yes, self.no = yes_no_tokens(self.tokenizer)
        self._modes = ModeChoice(mode, MODES, name=model, dtype=self.model.dtype, refused={})

    @property
    def used_mode(self) -> str | None:
        """The mode of the last answer; None = nothing was asked yet."""
        return self._modes.used

    @property
    def fingerprint(self) -> str:
        """Digest over the name, the loaded revision, the frames, the mode as requested and a sample of every weight."""
        revision = getattr(self.model.config, "_commit_hash", None)
        parts = f"{self.name}{revision}{self.sampling}{self.mode}{weights_digest(self.model)}"
        sha = hashlib.sha256(parts.encode())
        return f"cogvlm2:{sha.hexdigest()[:16]}"

    def answer(self, media: Sequence[Media], prompts: Sequence[str], questions: Sequence[Question]) -> np.ndarray:
        """(N, Q) float64: see `Judge.answer`."""
        rows = []
        for item, prompt in zip(media, prompts, strict=True):
            queries = self._queries(prompt, questions)
            ends = [queries[0], queries[-1]]
            logits = self._modes.ask(partial(self._log_odds, item, ends), partial(self._logits, item, queries))
            rows.append(p_yes(logits, self.yes, self.no, [q.id for q in questions]).double().cpu().numpy())
        return np.array(rows).reshape(len(media), len(questions))

    def _queries(self, prompt: str, questions: Sequence[Question]) -> list[str]:
        """As published: inference-video.py keeps the line ends of its questions; the last one has none."""
        texts = [question.ask(prompt) for question in questions]
        return [text + "\n" for text in texts[:-1]] + texts[-1:] if self.kinds == ("video",) else texts

    def _log_odds(self, item: Media, queries: Sequence[str], mode: str) -> Float[Tensor, " Q"]:
        return yes_log_odds(self._logits(item, queries, mode), self.yes, self.no)

    @torch.inference_mode()
    def _logits(self, item: Media, queries: Sequence[str], mode: str) -> Float[Tensor, "Q vocab"]:
        """Logits of the token after each query."""
        built = [self._build(item, query) for query in queries]
        if mode == "sequential":
            return torch.stack([self.model(**inputs).logits[0, -1] for inputs in built])
        return self._shared_logits(built)

    def _shared_logits(self, built: Sequence[dict[str, Any]]) -> Float[Tensor, "Q vocab"]:
        """The common start of all inputs, with the frames, goes through the model once."""
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
            if hasattr(past, "crop"):  # a cache object has grown by the question; older code's tuples have not
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


def _frames(clip: Clip) -> UInt8[Tensor, "C F H W"]:
    """In the layout that the published code gets from decord."""
    return torch.from_numpy(clip.frames).permute(3, 0, 1, 2)
