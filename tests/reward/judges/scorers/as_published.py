"""The published scorers as their authors describe them, written out in float64, one item at a time, without padding.

Nothing here is shared with reward/, but for the words around the prompt, whose digests are tested.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import conv2d, gelu, layer_norm
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize
from transformers import AutoTokenizer, CLIPModel, PreTrainedTokenizerFast

from reward.judges.scorers.templates import HPSV3, VIDEOREWARD
from reward.media import Clip
from tests.reward.judges.scorers.small_scorers import qwen2_vl_model

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of OpenAI's CLIP
HEAD_FEATURES = 64  # of an attention head of BLIP's: 1024 / 16 and 768 / 12
HPSV3_PIXELS = 256 * 28 * 28
SYSTEM = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions."


def pixels(picture: Image.Image, side: int, middle: Callable[[float], float] = math.floor) -> np.ndarray:
    """CLIP's own: the shorter side to `side` with Pillow's bicubic filter, the middle, [0, 1], mean and spread.

    middle: what becomes of half a pixel; torchvision rounds it to even.
    """
    width, height = picture.size
    short = min(width, height)
    picture = picture.resize((int(side * width / short), int(side * height / short)), Image.Resampling.BICUBIC)
    left, top = (int(middle((each - side) / 2)) for each in picture.size)
    cut = np.asarray(picture.crop((left, top, left + side, top + side)), dtype=np.float64) / 255
    return ((cut - MEAN) / STD).transpose(2, 0, 1)


@torch.inference_mode()
def clip_cosine(model: CLIPModel, words: Any, picture: Image.Image, prompt: str) -> float:
    """One picture and prompt at a time, without padding: features of each tower, projected, as unit vectors."""
    ids = words(prompt)["input_ids"]
    ids = ids if len(ids) <= 77 else [*ids[:76], ids[-1]]  # the mark of the end stays
    text = model.text_model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1] @ model.text_projection.weight.T
    seen = model.vision_model(pixel_values=torch.tensor(pixels(picture, 56))[None]).last_hidden_state[0, 0]
    image = model.vision_model.post_layernorm(seen) @ model.visual_projection.weight.T
    return float(text @ image / (text.norm() * image.norm()))


def clip_cosines(folder: Path, items: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
    model = CLIPModel.from_pretrained(folder).double().eval()
    words = PreTrainedTokenizerFast.from_pretrained(folder)
    return np.array([clip_cosine(model, words, *each) for each in zip(items, prompts, strict=True)])


class Blip:
    """ImageReward as its authors wrote it (vit.py, med.py, ImageReward.py), over the published names."""

    def __init__(self, weights: dict[str, Tensor]):
        self.weights = weights

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name: str, x: Tensor, eps: float) -> Tensor:
        return layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], eps)

    @staticmethod
    def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (each.reshape(len(each), -1, HEAD_FEATURES).transpose(0, 1) for each in (query, key, value))
        mixed = (query @ key.transpose(1, 2) / HEAD_FEATURES**0.5).softmax(-1) @ value
        return mixed.transpose(0, 1).reshape(query.shape[1], -1)

    def picture(self, values: Tensor) -> Tensor:
        name = "blip.visual_encoder"
        get = self.weights
        patches = conv2d(
            values[None], get[f"{name}.patch_embed.proj.weight"], get[f"{name}.patch_embed.proj.bias"], stride=16
        )
        x = torch.cat([get[f"{name}.cls_token"][0], patches[0].flatten(1).T]) + get[f"{name}.pos_embed"][0]
        for number in range(2):
            block = f"{name}.blocks.{number}"
            query, key, value = self.linear(f"{block}.attn.qkv", self.norm(f"{block}.norm1", x, 1e-6)).chunk(3, dim=-1)
            x = x + self.linear(f"{block}.attn.proj", self.attention(query, key, value))
            inner = gelu(self.linear(f"{block}.mlp.fc1", self.norm(f"{block}.norm2", x, 1e-6)))
            x = x + self.linear(f"{block}.mlp.fc2", inner)
        return self.norm(f"{name}.norm", x, 1e-6)

    def words(self, ids: list[int], seen: Tensor) -> Tensor:
        name = "blip.text_encoder.embeddings"
        x = self.weights[f"{name}.word_embeddings.weight"][ids]
        x = self.norm(f"{name}.LayerNorm", x + self.weights[f"{name}.position_embeddings.weight"][: len(ids)], 1e-12)
        for number in range(2):
            layer = f"blip.text_encoder.encoder.layer.{number}"
            for part, looked_at in (("attention", None), ("crossattention", seen)):
                of = x if looked_at is None else looked_at
                query, key, value = (
                    self.linear(f"{layer}.{part}.self.{each}", x if each == "query" else of)
                    for each in ("query", "key", "value")
                )
                mixed = self.linear(f"{layer}.{part}.output.dense", self.attention(query, key, value))
                x = self.norm(f"{layer}.{part}.output.LayerNorm", x + mixed, 1e-12)
            inner = self.linear(f"{layer}.output.dense", gelu(self.linear(f"{layer}.intermediate.dense", x)))
            x = self.norm(f"{layer}.output.LayerNorm", x + inner, 1e-12)
        return x

    def reward(self, picture: Image.Image, ids: list[int]) -> float:
        x = self.words(ids, self.picture(torch.tensor(pixels(picture, 64, round))))[0]
        for place in (0, 2, 4, 6, 7):
            x = self.linear(f"mlp.layers.{place}", x)
        return (float(x) - 0.16717362830052426) / 1.0333394966054072


def imagereward_scores(
    folder: Path, weights: Mapping[str, Tensor], items: Sequence[Image.Image], prompts: Sequence[str]
) -> list[float]:
    words = PreTrainedTokenizerFast.from_pretrained(folder)
    blip = Blip({name: value.double() for name, value in weights.items()})
    ids = [words(prompt)["input_ids"] for prompt in prompts]
    return [
        blip.reward(item, row if len(row) <= 35 else [*row[:34], row[-1]]) for item, row in zip(items, ids, strict=True)
    ]


def published_size(height: int, width: int, least: int, most: int) -> tuple[int, int]:
    """qwen_vl_utils: sides of multiples of 28, about the same shape, pixels between `least` and `most`."""
    high, wide = max(28, round(height / 28) * 28), max(28, round(width / 28) * 28)
    if high * wide > most:
        shrink = math.sqrt(height * width / most)
        high, wide = math.floor(height / shrink / 28) * 28, math.floor(width / shrink / 28) * 28
    elif high * wide < least:
        grow = math.sqrt(least / (height * width))
        high, wide = math.ceil(height * grow / 28) * 28, math.ceil(width * grow / 28) * 28
    return high, wide


def patches(frames: np.ndarray) -> tuple[Tensor, tuple[int, int, int]]:
    """(F, H, W, 3) uint8, F even -> a row a patch of 2 x 14 x 14, four neighbours at a time, and how many of them there are."""
    x = (frames / 255 - MEAN) / STD
    t, h, w = len(x) // 2, x.shape[1] // 14, x.shape[2] // 14
    x = x.reshape(
        t, 2, h // 2, 2, 14, w // 2, 2, 14, 3
    )  # time, of 2; row of neighbours, of 2, of 14; column likewise; colour
    return torch.tensor(x.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(t * h * w, -1)), (t, h, w)


@torch.inference_mode()
def states(model: Any, tokenizer: Any, frames: np.ndarray, words: str, *, pad: str) -> tuple[list[int], Tensor]:
    """Tokens, and the state of each. model: a Qwen2VLForConditionalGeneration in float64.

    The user's turn in ChatML; a place for each four patches; then the language model on its own, as both published
    classes call it, so that the positions are 0, 1, 2 … for pictures and words alike.
    """
    rows, grid = patches(frames)
    seen = model.model.visual(rows, grid_thw=torch.tensor([grid])).pooler_output
    text = (
        f"<|im_start|>user\n<|vision_start|>{pad * len(seen)}<|vision_end|>{words}<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer(text)["input_ids"]
    embedded = model.get_input_embeddings()(torch.tensor(ids)).clone()
    embedded[torch.tensor(ids) == tokenizer.convert_tokens_to_ids(pad)] = seen
    places = torch.arange(len(ids)).expand(3, 1, -1)
    output = model.model.language_model(inputs_embeds=embedded[None], position_ids=places)
    return ids, output.last_hidden_state[0]


def hpsv3_scores(folder: Path, base: Path, items: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
    """hpsv3/inference.py and hpsv3/model/qwen2vl_trainer.py."""
    model = qwen2_vl_model(base, 1).double()
    weights = {name: value.double() for name, value in load_file(folder / "HPSv3.safetensors").items()}
    words = AutoTokenizer.from_pretrained(base)
    words.add_special_tokens({"additional_special_tokens": ["<|Reward|>"]})
    found = []
    for item, prompt in zip(items, prompts, strict=True):
        height, width = published_size(item.height, item.width, HPSV3_PIXELS, HPSV3_PIXELS)
        frame = np.asarray(item.resize((width, height), Image.Resampling.BICUBIC))
        ids, state = states(model, words, np.stack([frame, frame]), HPSV3.format(prompt=prompt), pad="<|image_pad|>")
        x = state[ids.index(words.convert_tokens_to_ids("<|Reward|>"))]
        for place in (0, 3, 5):
            x = weights[f"rm_head.{place}.weight"] @ x + weights[f"rm_head.{place}.bias"]
            x = x if place == 5 else x.relu()
        found.append(float(x[0]))  # mean; x[1] is the spread
    return found


def videoreward_frames(clip: Clip, most_pixels: int) -> np.ndarray:
    """Two a second, an even number, at least 4 if there are as many, spread evenly; to the published size."""
    total, rate = len(clip.frames), clip.fps
    count = min(max(total / rate * 2.0, 4), min(768, total) // 2 * 2)
    count = min(round(count / 2) * 2, total)
    frames = torch.tensor(clip.frames[torch.linspace(0, total - 1, count).round().long()]).permute(0, 3, 1, 2)
    size = published_size(frames.shape[-2], frames.shape[-1], 128 * 28 * 28, most_pixels)
    frames = resize(frames, list(size), interpolation=InterpolationMode.BICUBIC, antialias=True).float()
    return frames.permute(0, 2, 3, 1).double().numpy()


def videoreward_scores(
    base: Path,
    tuned: tuple[Any, torch.nn.Linear],
    items: Sequence[Clip],
    prompts: Sequence[str],
    norms: Mapping[str, float],
    *,
    most_pixels: int,
) -> list[list[float]]:
    """inference.py, vision_process.py and trainer.py. tuned: peft's network, whose LoRA stays beside the weights, and the head."""
    network, head = tuned
    model = network.double().get_base_model()
    words = AutoTokenizer.from_pretrained(base)
    parts = ("VQ", "MQ", "TA")
    words.add_special_tokens({"additional_special_tokens": [f"<|{part}_reward|>" for part in parts]})
    found = []
    for item, prompt in zip(items, prompts, strict=True):
        frames = videoreward_frames(item, most_pixels)
        ids, state = states(model, words, frames, VIDEOREWARD.format(prompt=prompt), pad="<|video_pad|>")
        row = []
        for part in parts:
            read = state[ids.index(words.convert_tokens_to_ids(f"<|{part}_reward|>"))]
            raw = float(read @ head.weight.detach().double()[0])
            row.append((raw - norms[f"{part}_mean"]) / norms[f"{part}_std"])
        found.append(row)
    return found


@torch.inference_mode()
def clip_flant5_score(t5: Any, tower: Any, projector: Any, words: Any, picture: Image.Image, prompt: str) -> float:
    side = max(picture.size)
    square = Image.new("RGB", (side, side), tuple(int(channel * 255) for channel in MEAN))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    small = np.asarray(square.resize((56, 56), Image.Resampling.BICUBIC), dtype=np.float64) / 255
    values = torch.tensor(((small - MEAN) / STD).transpose(2, 0, 1))[None]
    hidden = tower(pixel_values=values, output_hidden_states=True).hidden_states[-2][0, 1:]
    seen = projector[1](gelu(projector[0](hidden)))
    text = f'{SYSTEM} USER: <image>\nDoes this figure show "{prompt}"? Please answer yes or no. ASSISTANT: '
    before, after = (
        t5.get_input_embeddings()(torch.tensor(words(each)["input_ids"])) for each in text.split("<image>")
    )
    labels = torch.tensor([words("Yes")["input_ids"]])
    loss = t5(inputs_embeds=torch.cat([before, seen, after])[None], labels=labels).loss  # a mean over the tokens
    return float((-loss).exp())


def clip_flant5_scores(parts: tuple, words: Any, items: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
    """parts: T5, tower, layers of the projector."""
    t5, tower, projector = parts
    doubled = (t5.double(), tower.double(), [layer.double() for layer in projector])
    return [clip_flant5_score(*doubled, words, *each) for each in zip(items, prompts, strict=True)]


@torch.inference_mode()
def vqascore(model: Any, processor: Any, item: Image.Image, prompt: str) -> float:
    words = f'Does this figure show "{prompt}"? Please answer yes or no.'
    text = f"<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{words}<|im_end|>\n<|im_start|>assistant\n"
    inputs = processor(text=[text], images=[item], return_tensors="pt")
    values = inputs.pop("pixel_values").to(model.dtype)
    logits = model(**inputs, pixel_values=values).logits[0, -1]
    return float(torch.exp(logits[processor.tokenizer("Yes")["input_ids"][0]] - torch.logsumexp(logits, 0)))


def vqascores(model: Any, processor: Any, items: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
    model = model.double()
    return [vqascore(model, processor, *each) for each in zip(items, prompts, strict=True)]
