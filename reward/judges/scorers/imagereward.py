"""ImageReward (arXiv 2304.05977; zai-org/ImageReward, ImageReward/ImageReward.py): a BLIP whose words look at the picture.

The state of the first word goes through five linear layers without anything between them; the result is put on the scale
of the published mean and spread. The picture's shorter side is brought to 224 pixels, its middle is cut out; a prompt
is cut at 35 tokens.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import transforms
from transformers import (
    AutoTokenizer,
    BlipTextConfig,
    BlipVisionConfig,
    BlipVisionModel,
)
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.models.blip.modeling_blip_text import BlipTextModel

from reward.checklist import Checklist
from reward.judges.loading import BUILDING_ERRORS, loading_options
from reward.judges.options import Dtype, ImageRewardOptions, check_options
from reward.judges.scorers import CHECKLISTS, Scorer
from reward.judges.scorers.published import (
    below,
    fill,
    find_file,
    fingerprint,
    from_weights,
    loading_error,
    published_folder,
    read_weights,
    renamed,
    tokenizer_settings,
)
from reward.media import Media, Sampling

MEAN, SPREAD = 0.16717362830052426, 1.0333394966054072
MAX_TOKENS = 35
FILES = ("ImageReward.safetensors", "ImageReward.pt")
HEAD_FEATURES = 64  # of an attention head, in both of BLIP's networks
# BLIP's names of the vision tower's parts, and transformers'.
VISION_NAMES = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj.": "embeddings.patch_embedding.",
    "norm.": "post_layernorm.",
}
BLOCK_NAMES = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.projection", "attn": "self_attn"}


class ImageReward(Scorer):
    """The published number, about -2.5 to 2. `reward.judges.options.ImageRewardOptions` explains the options."""

    checklist: Checklist = CHECKLISTS["imagereward"]
    sampling = Sampling(max_frames=1)

    def __init__(
        self,
        model: str = "zai-org/ImageReward",
        *,
        processor: str = "google-bert/bert-base-uncased",
        revision: str | None = None,
        dtype: Dtype = "auto",
        device_map: Any = None,
        batch_size: int = 16,
    ):
        """Raises JudgeError if an option is invalid or the model cannot be loaded."""
        settings = {"dtype": dtype, "device_map": device_map}
        given = {"model": model, "processor": processor, "revision": revision, "batch_size": batch_size, **settings}
        options = check_options("imagereward", given)
        assert isinstance(options, ImageRewardOptions)
        self.batch_size = batch_size
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(options.processor)
            weights = read_weights(find_file(published_folder(options.model, revision, *FILES), *FILES))
            self.model = load(weights, **loading_options(**settings, quantization=None))
        except BUILDING_ERRORS as error:
            expected = f"a folder or hub id with {' or '.join(FILES)}, and as processor a BERT's tokenizer"
            raise loading_error(options.model, error, expected) from error
        size = self.model.config.image_size
        self.prepare = transforms.Compose(
            [
                transforms.Resize(size, interpolation=transforms.InterpolationMode.BICUBIC),
                transforms.CenterCrop(size),
                transforms.ToTensor(),
                transforms.Normalize(OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
            ]
        )

    @property
    def fingerprint(self) -> str:
        """Digest over configuration, weights, vocabulary, and what is done to pictures and prompts."""
        settings = (tokenizer_settings(self.tokenizer), str(self.prepare), MAX_TOKENS, MEAN, SPREAD)
        return fingerprint("imagereward", self.model, *settings)

    @torch.inference_mode()
    def numbers(self, media: Sequence[Media], prompts: Sequence[str]) -> np.ndarray:
        """(N, 1) float64: see `Scorer.numbers`."""
        words = self.tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        pixels = torch.stack([self.prepare(item) for item in media])  # type: ignore[arg-type]
        raw = self.model(pixels, words["input_ids"], words["attention_mask"])
        return ((raw.double() - MEAN) / SPREAD).cpu().numpy()


class RewardModel(torch.nn.Module):
    """BLIP's two networks, and the head in float32."""

    def __init__(self, vision: BlipVisionModel, text: BlipTextModel, head: torch.nn.Module):
        super().__init__()
        self.vision: Any = vision
        self.text: Any = text
        self.head = head.float()

    @property
    def config(self) -> BlipVisionConfig:
        return self.vision.config

    @property
    def dtype(self) -> torch.dtype:
        return self.vision.dtype

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Pixels as prepared (N, 3, H, W), tokens and their mask (N, L) -> (N, 1) float32."""
        seen = self.vision(pixel_values=pixels.to(self.vision.device, self.dtype)).last_hidden_state
        states = self.text(
            input_ids=ids.to(self.text.device),
            attention_mask=mask.to(self.text.device),
            encoder_hidden_states=seen.to(self.text.device),
        ).last_hidden_state
        return self.head(states[:, 0].float())


def load(weights: Mapping[str, Tensor], **options: Any) -> RewardModel:
    """The network from published weights. options: of from_pretrained. Raises ValueError if a weight does not fit."""
    # Those of the two projections were for BLIP's own training.
    known = {"blip.visual_encoder.": "vision.", "blip.text_encoder.": "text.", "mlp.layers.": "head."}
    named = renamed(weights, {"blip.text_encoder.embeddings.position_ids": None, **known})
    parts = {part: below(named, part) for part in known.values()}
    if empty := [old for old, part in known.items() if not parts[part]]:
        raise ValueError(f"it holds no weights named {empty[0]}…")
    vision_config, text_config = configs(parts["vision."], parts["text."])
    parts["vision."] = {_vision_name(name): value for name, value in parts["vision."].items()}
    vision = from_weights(BlipVisionModel, vision_config, parts["vision."], **options)
    text = from_weights(_TextModel, text_config, parts["text."], **options)
    top = head(text_config.hidden_size)
    fill(top, parts["head."])
    return RewardModel(vision, text, top.to(text.device)).eval()


class _TextModel(BlipTextModel):
    """Without the layer that BLIP's captions need."""

    def __init__(self, config: BlipTextConfig):
        super().__init__(config, add_pooling_layer=False)


def head(num_features: int) -> torch.nn.Sequential:
    """Five linear layers, dropout between them. The places of its layers are their published names."""
    linear, dropout = torch.nn.Linear, torch.nn.Dropout
    return torch.nn.Sequential(
        *(linear(num_features, 1024), dropout(0.2), linear(1024, 128), dropout(0.2)),
        *(linear(128, 64), dropout(0.1), linear(64, 16), linear(16, 1)),
    )


def configs(vision: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> tuple[BlipVisionConfig, BlipTextConfig]:
    """The networks' shapes, from the shapes of their published weights."""
    width, _, patch, _ = vision["patch_embed.proj.weight"].shape
    num_patches = vision["pos_embed"].shape[1] - 1
    words, text_width = text["embeddings.word_embeddings.weight"].shape
    return (
        BlipVisionConfig(
            hidden_size=width,
            intermediate_size=len(vision["blocks.0.mlp.fc1.bias"]),
            num_hidden_layers=_count(vision, r"blocks\.(\d+)\."),
            num_attention_heads=width // HEAD_FEATURES,
            image_size=round(num_patches**0.5) * patch,
            patch_size=patch,
            layer_norm_eps=1e-6,  # models/BLIP/vit.py
        ),
        _text_config(
            vocab_size=words,
            hidden_size=text_width,
            encoder_hidden_size=width,
            intermediate_size=len(text["encoder.layer.0.intermediate.dense.bias"]),
            num_hidden_layers=_count(text, r"encoder\.layer\.(\d+)\."),
            max_position_embeddings=len(text["embeddings.position_embeddings.weight"]),
        ),
    )


def build_without_weights(options: ImageRewardOptions) -> RewardModel:
    """The network of a folder on the device in force; of a hub id the published one, so that nothing is fetched."""
    if not Path(options.model).is_dir():
        vision = BlipVisionConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=224
        )
        text = _text_config(vocab_size=30524, hidden_size=768, encoder_hidden_size=1024)
    else:
        file = find_file(Path(options.model), *FILES)
        shapes = read_weights(file, device="meta")
        prefixes = ("blip.visual_encoder.", "blip.text_encoder.")
        vision, text = configs(*(below(shapes, prefix) for prefix in prefixes))
    return RewardModel(BlipVisionModel._from_config(vision), _TextModel._from_config(text), head(text.hidden_size))


def _text_config(**fields: Any) -> BlipTextConfig:
    """is_decoder gives the words their look at the picture; they see each other both ways all the same."""
    heads = fields["hidden_size"] // HEAD_FEATURES
    return BlipTextConfig(num_attention_heads=heads, layer_norm_eps=1e-12, is_decoder=True, **fields)


def _vision_name(name: str) -> str:
    for old, new in VISION_NAMES.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    if match is None:
        return name
    number, rest = match.groups()
    old = next((each for each in BLOCK_NAMES if rest.startswith(f"{each}.")), None)
    return f"encoder.layers.{number}.{rest if old is None else BLOCK_NAMES[old] + rest.removeprefix(old)}"


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    return len({match[1] for name in weights if (match := re.match(pattern, name))})
