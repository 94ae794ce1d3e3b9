"""CLIP-FlanT5 (arXiv 2404.01291, section 4; linzhiqiu/t2v_metrics, models/vqascore_models/clip_t5): transformers' own parts.

A CLIP looks at the picture, squared with its mean colour; the states before its last layer, without the first, go
through two linear layers with a GELU between them, and stand for "<image>" in the words that a T5 reads. The words before
and behind it end with T5's mark of the end, each.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    PretrainedConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from reward.checklist import Kind
from reward.errors import JudgeError
from reward.judges.scorers.published import (
    below,
    fill,
    fingerprint,
    from_weights,
    published_folder,
    read_weights,
    renamed,
    tokenizer_settings,
)
from reward.media import Sampling

MODEL_TYPE = "clip_t5"  # in config.json; no class of transformers
TOKENIZER = "google/flan-t5-xxl"  # the small ones have the same
BEFORE = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions. USER: "
AFTER = "\n{question} ASSISTANT: "
MAX_TOKENS = 2048
PATTERNS = ("*.safetensors", "pytorch_model*.bin")
TOWER, PROJECTOR = "vision_tower.vision_tower.", "mm_projector."


class CLIPFlanT5:
    """Gives the probability of an answer to a question about a picture."""

    kinds: tuple[Kind, ...] = ("image",)
    sampling = Sampling(max_frames=1)

    def __init__(self, model: str, *, processor: str | None, revision: str | None, **options: Any):
        """options: of from_pretrained. Raises what loading raises."""
        folder = published_folder(model, revision, "config.json", *PATTERNS)
        fields = read_config(str(folder), None)
        weights = _read_all(folder)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(processor or TOKENIZER)
        self.image_processor: Any = AutoImageProcessor.from_pretrained(fields["mm_vision_tower"], backend="pil")
        self.model = load(weights, fields, **options)

    @property
    def fingerprint(self) -> str:
        """Digest over configuration, weights, vocabulary and what is done to pictures and words."""
        settings = (tokenizer_settings(self.tokenizer), self.image_processor.to_dict(), BEFORE, AFTER, MAX_TOKENS)
        return fingerprint("clip_flant5", self.model, *settings)

    def require_prompts(self, prompts: Sequence[str], kind: Kind) -> None:
        """Raises JudgeError for a prompt with the place of the picture in it."""
        for prompt in prompts:
            if "<image>" in prompt:
                raise JudgeError(f"prompt {prompt!r} holds the model's control token '<image>'; reword it")

    @torch.inference_mode()
    def probabilities(self, pictures: Sequence[Image.Image], questions: Sequence[str], answer: str) -> Tensor:
        """(N,) float32: of an answer's tokens, its end among them, the geometric mean, as published."""
        background = tuple(int(channel * 255) for channel in self.image_processor.image_mean)
        squares = [squared(picture, background) for picture in pictures]
        pixels = self.image_processor(images=squares, return_tensors="pt")["pixel_values"]
        before = self.tokenizer(BEFORE)["input_ids"]
        after = [self.tokenizer(AFTER.replace("{question}", each))["input_ids"] for each in questions]
        limit = MAX_TOKENS - len(before) - 1  # the picture counts as one
        wanted = torch.tensor([self.tokenizer(answer)["input_ids"]])
        logits = self.model(pixels, before, [ids[:limit] for ids in after], wanted).float()
        chosen = logits.log_softmax(-1).gather(-1, wanted.to(logits.device).expand(len(after), -1)[..., None])
        return chosen[..., 0].mean(-1).exp()


class Network(torch.nn.Module):
    """The three parts."""

    def __init__(
        self, tower: CLIPVisionModel, projector: torch.nn.Module, words: T5ForConditionalGeneration, layer: int
    ):
        super().__init__()
        self.tower: Any = tower
        self.projector = projector
        self.words: Any = words
        self.layer = layer  # whose states are taken

    @property
    def config(self) -> T5Config:
        return self.words.config

    @property
    def dtype(self) -> torch.dtype:
        return self.words.dtype

    def forward(
        self, pixels: Tensor, before: Sequence[int], after: Sequence[Sequence[int]], answer: Tensor
    ) -> Float[Tensor, "N A vocab"]:
        """Logits of each of an answer's A tokens. pixels: as prepared, (N, 3, H, W); before, after: tokens; answer: (1, A)."""
        device = self.words.device
        seen = self.tower(pixel_values=pixels.to(self.tower.device, self.tower.dtype), output_hidden_states=True)
        patches = self.projector(seen.hidden_states[self.layer][:, 1:].to(device, self.dtype))
        longest = max(map(len, after))
        padded = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in after], device=device)
        told = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in after], device=device)
        embed = self.words.get_input_embeddings()
        start = embed(torch.tensor(before, device=device)).expand(len(after), -1, -1)
        inputs = torch.cat([start, patches, embed(padded)], dim=1)
        mask = torch.cat([told.new_ones(len(after), start.shape[1] + patches.shape[1]), told], dim=1)
        before_answer = self.words.prepare_decoder_input_ids_from_labels(answer.to(device).expand(len(after), -1))
        return self.words(inputs_embeds=inputs, attention_mask=mask, decoder_input_ids=before_answer).logits


def squared(picture: Image.Image, background: tuple[int, ...]) -> Image.Image:
    """In the middle of a square of a colour."""
    side = max(picture.size)
    square = Image.new("RGB", (side, side), background)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


def read_config(model: str, revision: str | None) -> dict[str, Any]:
    """config.json of any model, also of a kind that transformers does not know. Raises OSError if there is none."""
    return PretrainedConfig.get_config_dict(model, revision=revision or "main")[0]


def load(weights: Mapping[str, Tensor], fields: Mapping[str, Any], **options: Any) -> Network:
    """The network from published weights and its config.json. options: of from_pretrained."""
    named = {name: value for name, value in weights.items() if not name.endswith("position_ids")}
    of_tower, of_projector = below(named, TOWER), below(named, PROJECTOR)
    tied = ("embed_tokens.", "encoder.embed_tokens.", "decoder.embed_tokens.")  # the same as shared.weight
    of_words = renamed(named, dict.fromkeys(("vision_tower.", PROJECTOR, *tied)))
    words = from_weights(T5ForConditionalGeneration, _words_config(fields), of_words, **options)
    tower = (
        from_weights(CLIPVisionModel, CLIPVisionConfig.from_pretrained(fields["mm_vision_tower"]), of_tower, **options)
        if of_tower
        else CLIPVisionModel.from_pretrained(fields["mm_vision_tower"], **options).eval()
    )
    middle = projector(fields)
    fill(middle, of_projector)
    return Network(tower, middle.to(words.device, words.dtype), words, fields["mm_vision_select_layer"]).eval()


def projector(fields: Mapping[str, Any]) -> torch.nn.Sequential:
    """Raises ValueError for another kind than the published one."""
    if fields["mm_projector_type"] != "mlp2x_gelu":
        raise ValueError(f"mm_projector_type is {fields['mm_projector_type']!r}, not 'mlp2x_gelu'")
    width, linear = fields["d_model"], torch.nn.Linear
    return torch.nn.Sequential(linear(fields["mm_hidden_size"], width), torch.nn.GELU(), linear(width, width))


def build_without_weights(model: str, revision: str | None) -> Network:
    """The network on the device in force."""
    fields = read_config(model, revision)
    tower = CLIPVisionModel._from_config(CLIPVisionConfig.from_pretrained(fields["mm_vision_tower"]))
    words = T5ForConditionalGeneration._from_config(_words_config(fields))
    return Network(tower, projector(fields), words, fields["mm_vision_select_layer"])


def _words_config(fields: Mapping[str, Any]) -> T5Config:
    return T5Config.from_dict({name: value for name, value in fields.items() if name != "model_type"})


def _read_all(folder: Path) -> dict[str, Tensor]:
    """All parts, of the first pattern that has any."""
    for pattern in PATTERNS:
        if files := sorted(folder.glob(pattern)):
            return {name: value for file in files for name, value in read_weights(file).items()}
    raise FileNotFoundError(f"it holds no {' or '.join(PATTERNS)}")
