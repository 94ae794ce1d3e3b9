"""VideoReward (arXiv 2501.13918; KwaiVGI/VideoAlign, inference.py): a Qwen2-VL-2B that reads a clip and instructions.

One linear layer reads the states of three tokens, for visual quality, motion quality and text alignment; each number is
put on the scale of the published means and spreads. Its sum is the published "Overall": the total of this scorer.

Everything that the checkpoint's model_config.json says is read from there: frames a second (published: 2), pixels of a
frame (448 * 448 at most), the LoRA's scale, means and spreads. Frames are spread evenly from the first to the last,
an even number of them, at least 4 where the clip has as many. Prompts are not cut.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from reward.checklist import Checklist, Kind
from reward.errors import JudgeError, first_line
from reward.judges.loading import BUILDING_ERRORS, loading_options
from reward.judges.options import Dtype, VideoRewardOptions, check_options
from reward.judges.processing import refuse_control_tokens
from reward.judges.scorers import CHECKLISTS, Scorer, qwen2_vl
from reward.judges.scorers.published import (
    fingerprint,
    loading_error,
    published_folder,
    read_weights,
    tokenizer_settings,
)
from reward.judges.scorers.templates import VIDEOREWARD
from reward.media import Clip, Media, Sampling

PARTS = ("VQ", "MQ", "TA")  # visual quality, motion quality, text alignment: the checklist's order
TOKENS = tuple(f"<|{part}_reward|>" for part in PARTS)
MIN_PIXELS = 128 * 28 * 28  # of a frame
MIN_FRAMES, MAX_FRAMES = 4, 768
CONFIG = "model_config.json"
# What the published inference can also do and the published checkpoint does not use.
NEEDED = {
    "data_config": {"sample_type": "uniform", "prompt_template_type": "detailed_special", "num_frames": None},
    "model_config": {"use_special_tokens": True},
}


class VideoReward(Scorer):
    """Three numbers of a clip. `reward.judges.options.VideoRewardOptions` explains the options."""

    checklist: Checklist = CHECKLISTS["videoreward"]
    sampling = Sampling(max_frames=MAX_FRAMES)  # all of a shorter clip: which of them count is decided here

    def __init__(
        self,
        model: str = "KwaiVGI/VideoReward",
        *,
        processor: str = "Qwen/Qwen2-VL-2B-Instruct",
        revision: str | None = None,
        dtype: Dtype = "auto",
        device_map: Any = None,
        batch_size: int = 1,
    ):
        """Raises JudgeError if an option is invalid or the model cannot be loaded."""
        settings = {"dtype": dtype, "device_map": device_map}
        given = {"model": model, "processor": processor, "revision": revision, "batch_size": batch_size, **settings}
        options = check_options("videoreward", given)
        assert isinstance(options, VideoRewardOptions)
        self.batch_size = batch_size
        try:
            folder = published_folder(options.model, revision, CONFIG, "checkpoint-*/*.pth")
            config = _read_config(folder / CONFIG)
            self.num_pixels, self.rate_hz = config["data_config"]["max_frame_pixels"], config["data_config"]["fps"]
            of_norm = config["inference_config"]
            self.means, self.spreads = (
                torch.tensor([of_norm[f"{part}_{name}"] for part in PARTS], dtype=torch.float64)
                for name in ("mean", "std")
            )
            weights = merged(_strip(read_weights(_newest(folder))), config["peft_lora_config"])
            self.model, self.processor = qwen2_vl.load(
                weights,
                lambda num_features: Head(num_features, len(weights["rm_head.weight"])),
                processor=options.processor,
                tokens=TOKENS,
                **loading_options(**settings, quantization=None),
            )
        except BUILDING_ERRORS as error:
            expected = f"a folder or hub id with {CONFIG} and checkpoint-N/model.pth, and as processor the Qwen2-VL that it was made from"
            raise loading_error(options.model, error, expected) from error
        self.token_ids = self.processor.tokenizer.convert_tokens_to_ids(list(TOKENS))

    @property
    def fingerprint(self) -> str:
        """Digest over configuration, weights, processor, chat template, instructions, frames, means and spreads."""
        processor = self.processor
        eyes = (processor.video_processor.to_dict(), processor.chat_template, VIDEOREWARD, self.num_pixels)
        scale = (self.rate_hz, self.means.tolist(), self.spreads.tolist())
        return fingerprint("videoreward", self.model, tokenizer_settings(processor.tokenizer), eyes, scale)

    def require_prompts(self, prompts: Sequence[str], kind: Kind) -> None:
        """Raises JudgeError for a prompt that holds one of the model's control tokens, such as <|VQ_reward|>."""
        refuse_control_tokens(self.processor.tokenizer, prompts)

    @torch.inference_mode()
    def numbers(self, media: Sequence[Media], prompts: Sequence[str]) -> np.ndarray:
        """(N, 3) float64: see `Scorer.numbers`."""
        self.require_prompts(prompts, "video")
        clips = [self._seen(item) for item in media if isinstance(item, Clip)]
        words = [VIDEOREWARD.replace("{prompt}", prompt) for prompt in prompts]
        inputs = qwen2_vl.inputs_of(self.model, self.processor, clips, words)
        raw = self.model(inputs, self.token_ids)[:, :, 0].double().cpu()
        return ((raw - self.means) / self.spreads).numpy()

    def _seen(self, clip: Clip) -> Clip:
        """The frames that count, in their final size. Raises JudgeError for a clip of one frame, and impossible sizes."""
        if len(clip.frames) < 2:
            raise JudgeError("the clip has 1 frame; VideoReward needs 2 or more")
        taken = frames_taken(len(clip.frames), len(clip.frames) / clip.fps, self.rate_hz)
        frames = torch.from_numpy(np.ascontiguousarray(clip.frames[taken])).permute(0, 3, 1, 2)
        try:
            size = smart_resize(*frames.shape[-2:], factor=28, min_pixels=MIN_PIXELS, max_pixels=self.num_pixels)
        except ValueError as error:
            raise JudgeError(f"the clip's size is not possible ({first_line(error)}); crop it") from error
        frames = resize(frames, list(size), interpolation=InterpolationMode.BICUBIC, antialias=True)
        return Clip(frames.permute(0, 2, 3, 1).contiguous().numpy(), clip.times_s[taken])


class Head(torch.nn.Module):
    """One linear layer for all three tokens, or one each: a number a token."""

    def __init__(self, num_features: int, num_rows: int):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(num_rows, num_features))

    def forward(self, states: Tensor) -> Tensor:
        """(N, 3, D) -> (N, 3, 1)."""
        return (states * self.weight).sum(-1, keepdim=True)


def frames_taken(num_frames: int, duration_s: float, rate_hz: float) -> Int[np.ndarray, " T"]:
    """Which frames of a clip are looked at: an even number, evenly from first to last. num_frames: 2 or more."""
    most = min(MAX_FRAMES, num_frames) // 2 * 2
    count = round(min(max(duration_s * rate_hz, MIN_FRAMES), most) / 2) * 2
    # torch's, in float32: another linspace rounds some halves the other way.
    return torch.linspace(0, num_frames - 1, min(count, num_frames)).round().long().numpy()


def merged(weights: Mapping[str, Tensor], lora: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights with peft's LoRA added: W + B A * alpha / r, or alpha / sqrt(r) (LoRA, arXiv 2106.09685, section 4.1)."""
    rank = lora["lora_r"]
    scale = lora["lora_alpha"] / (math.sqrt(rank) if lora.get("use_rslora") else rank)
    found = {}
    for name, value in weights.items():
        if ".lora_" in name:
            continue
        base = name.removesuffix(".base_layer.weight")
        if base != name:
            up, down = (weights[f"{base}.lora_{part}.default.weight"].float() for part in ("B", "A"))
            value = (value.float() + scale * (up @ down)).to(value.dtype)
        found[name.replace(".base_layer.", ".")] = value
    return found


def build_without_weights(options: VideoRewardOptions) -> qwen2_vl.RewardModel:
    """The network on the device in force; its LoRA is part of its weights."""
    return qwen2_vl.build_without_weights(options.processor, lambda num_features: Head(num_features, 1), TOKENS)


def _strip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefix that peft puts before all names."""
    return {name.removeprefix("base_model.model."): value for name, value in weights.items()}


def _newest(folder: Path) -> Path:
    """model.pth of the checkpoint of the latest step, as the published code takes."""
    found = [file for file in folder.glob("checkpoint-*/model.pth") if file.parent.name.split("-")[-1].isdigit()]
    if not found:
        raise FileNotFoundError("it holds no checkpoint-N/model.pth")
    return max(found, key=lambda file: int(file.parent.name.split("-")[-1]))


def _read_config(file: Path) -> dict[str, Any]:
    """Raises ValueError for a checkpoint that is used in another way than the published one."""
    config = json.loads(file.read_text("utf-8"))
    for part, fields in NEEDED.items():
        for name, value in fields.items():
            if config[part].get(name) != value:
                raise ValueError(f"{part}.{name} is {config[part].get(name)!r}, not {value!r}")
    return config
