"""CLIP score and PickScore: how near a picture and its prompt are in the space of a CLIP, by the cosine.

CLIP score is max(100 * cos, 0), as torchmetrics gives it and papers on text-to-image models quote it. Its paper
(arXiv 2104.08718, equation 1) has max(2.5 * cos, 0) and puts "A photo depicts " before each caption: that is for
captions, and differs by the factor 40 otherwise. PickScore (arXiv 2305.01569, section 4; README of
yuvalkirstain/PickScore) is exp(logit_scale) * cos of a CLIP-H tuned on people's choices.

Both cut a prompt at the model's 77 tokens and keep the mark of its end, as OpenAI's CLIP and PickScore do; torchmetrics
cuts the mark off, too. Pictures are resized by Pillow, as the published code did.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, CLIPConfig, CLIPModel

from reward.checklist import Checklist
from reward.judges.loading import LOADING_ERRORS, loading_options
from reward.judges.options import ClipScoreOptions, Dtype, PickScoreOptions, check_options
from reward.judges.scorers import CHECKLISTS, Scorer
from reward.judges.scorers.published import fingerprint, loading_error, tokenizer_settings
from reward.media import Media, Sampling


class _ClipScorer(Scorer):
    name: ClassVar[str]
    sampling = Sampling(max_frames=1)

    def _load(self, model: str, processor: str, *, revision: str | None, dtype: str, device_map: Any) -> None:
        words_revision = revision if processor == model else None
        try:
            options = loading_options(device_map, None, dtype=dtype, revision=revision)
            self.model: Any = CLIPModel.from_pretrained(model, **options).eval()
            self.tokenizer: Any = AutoTokenizer.from_pretrained(processor, revision=words_revision or "main")
            self.image_processor: Any = AutoImageProcessor.from_pretrained(
                processor, revision=words_revision or "main", backend="pil"
            )
        except LOADING_ERRORS as error:
            raise loading_error(model, error, "a folder or hub id of a CLIP in transformers' form") from error

    @property
    def fingerprint(self) -> str:
        """Digest over configuration, weights, vocabulary and what is done to a picture."""
        eyes = (type(self.image_processor).__name__, self.image_processor.to_dict())
        return fingerprint(self.name, self.model, tokenizer_settings(self.tokenizer), eyes)

    @torch.inference_mode()
    def _cosines(self, media: Sequence[Media], prompts: Sequence[str]) -> Float[Tensor, " N"]:
        """Of each picture and its prompt, in [-1, 1], float32."""
        model = self.model
        words = self.tokenizer(
            list(prompts),
            padding=True,
            truncation=True,
            max_length=model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        pixels = self.image_processor(images=list(media), return_tensors="pt")["pixel_values"]
        text = _unit(
            model.get_text_features(
                input_ids=words["input_ids"].to(model.device), attention_mask=words["attention_mask"].to(model.device)
            )
        )
        image = _unit(model.get_image_features(pixel_values=pixels.to(model.device, model.dtype)))
        return (text * image).sum(-1)


class ClipScore(_ClipScorer):
    """max(100 * cos, 0), in [0, 100]. `reward.judges.options.ClipScoreOptions` explains the options."""

    name = "clip-score"
    checklist: Checklist = CHECKLISTS[name]

    def __init__(
        self,
        model: str = "openai/clip-vit-large-patch14",
        *,
        processor: str | None = None,
        revision: str | None = None,
        dtype: Dtype = "auto",
        device_map: Any = None,
        batch_size: int = 16,
    ):
        """Raises JudgeError if an option is invalid or the model cannot be loaded."""
        settings = {"revision": revision, "dtype": dtype, "device_map": device_map}
        given = {"model": model, "processor": processor, "batch_size": batch_size, **settings}
        options = check_options(self.name, given)
        assert isinstance(options, ClipScoreOptions)
        self.batch_size = batch_size
        self._load(options.model, options.processor or options.model, **settings)

    def numbers(self, media: Sequence[Media], prompts: Sequence[str]) -> np.ndarray:
        """(N, 1) float64: see `Scorer.numbers`."""
        return (100 * self._cosines(media, prompts)).clamp(min=0).double().cpu().numpy()[:, None]


class PickScore(_ClipScorer):
    """exp(logit_scale) * cos; of the published model about 15 to 25. See `reward.judges.options.PickScoreOptions`."""

    name = "pickscore"
    checklist: Checklist = CHECKLISTS[name]

    def __init__(
        self,
        model: str = "yuvalkirstain/PickScore_v1",
        *,
        processor: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        revision: str | None = None,
        dtype: Dtype = "auto",
        device_map: Any = None,
        batch_size: int = 16,
    ):
        """Raises JudgeError if an option is invalid or the model cannot be loaded."""
        settings = {"revision": revision, "dtype": dtype, "device_map": device_map}
        given = {"model": model, "processor": processor, "batch_size": batch_size, **settings}
        options = check_options(self.name, given)
        assert isinstance(options, PickScoreOptions)
        self.batch_size = batch_size
        self._load(options.model, options.processor, **settings)

    def numbers(self, media: Sequence[Media], prompts: Sequence[str]) -> np.ndarray:
        """(N, 1) float64: see `Scorer.numbers`."""
        scale = self.model.logit_scale.detach().float().exp()
        return (scale * self._cosines(media, prompts)).double().cpu().numpy()[:, None]


def build_without_weights(options: ClipScoreOptions | PickScoreOptions) -> CLIPModel:
    """The network on the device in force."""
    config = CLIPConfig.from_pretrained(options.model, revision=options.revision or "main")
    return CLIPModel._from_config(config)


def _unit(features: Any) -> Float[Tensor, "N d"]:
    """Of length 1, in float32. Newer versions of transformers wrap the features."""
    features = (features if isinstance(features, Tensor) else features.pooler_output).float()
    return features / features.norm(dim=-1, keepdim=True)
