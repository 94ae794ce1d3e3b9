"""HPSv3 (arXiv 2508.03789; MizzenAI/HPSv3, hpsv3/inference.py): a Qwen2-VL-7B that reads a picture and instructions.

A head of three layers reads the state of the token <|Reward|> and gives a mean and a spread; the mean is the score, of
the published model about -5 to 15. A picture is brought to about 256 * 28 * 28 pixels, smaller ones too, by Pillow.
Prompts are not cut.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from reward.checklist import Checklist, Kind
from reward.errors import JudgeError, first_line
from reward.judges.loading import BUILDING_ERRORS, loading_options
from reward.judges.options import Dtype, HPSv3Options, Quantization, check_options
from reward.judges.processing import refuse_control_tokens
from reward.judges.scorers import CHECKLISTS, Scorer, qwen2_vl
from reward.judges.scorers.published import (
    find_file,
    fingerprint,
    loading_error,
    published_folder,
    read_weights,
    tokenizer_settings,
)
from reward.judges.scorers.templates import HPSV3
from reward.media import Media, Sampling

TOKENS = ("<|Reward|>",)
NUM_PIXELS = 256 * 28 * 28  # at least and at most, as far as sides of multiples of 28 allow
FILE = "HPSv3.safetensors"


class HPSv3(Scorer):
    """The mean of the published head. `reward.judges.options.HPSv3Options` explains the options."""

    checklist: Checklist = CHECKLISTS["hpsv3"]
    sampling = Sampling(max_frames=1)

    def __init__(
        self,
        model: str = "MizzenAI/HPSv3",
        *,
        processor: str = "Qwen/Qwen2-VL-7B-Instruct",
        revision: str | None = None,
        dtype: Dtype = "auto",
        device_map: Any = None,
        quantization: Quantization | None = None,
        batch_size: int = 4,
    ):
        """Raises JudgeError if an option is invalid or the model cannot be loaded."""
        settings = {"dtype": dtype, "device_map": device_map, "quantization": quantization}
        given = {"model": model, "processor": processor, "revision": revision, "batch_size": batch_size, **settings}
        options = check_options("hpsv3", given)
        assert isinstance(options, HPSv3Options)
        self.batch_size = batch_size
        try:
            weights = read_weights(find_file(published_folder(options.model, revision, FILE), FILE, "*.safetensors"))
            self.model, self.processor = qwen2_vl.load(
                weights, head, processor=options.processor, tokens=TOKENS, **loading_options(**settings)
            )
        except BUILDING_ERRORS as error:
            expected = f"a folder or hub id with {FILE}, and as processor the Qwen2-VL that it was made from"
            raise loading_error(options.model, error, expected) from error
        self.token_ids = self.processor.tokenizer.convert_tokens_to_ids(list(TOKENS))

    @property
    def fingerprint(self) -> str:
        """Digest over configuration, weights, processor, chat template and instructions."""
        processor = self.processor
        eyes = (processor.image_processor.to_dict(), NUM_PIXELS, processor.chat_template, HPSV3)
        return fingerprint("hpsv3", self.model, tokenizer_settings(processor.tokenizer), eyes)

    def require_prompts(self, prompts: Sequence[str], kind: Kind) -> None:
        """Raises JudgeError for a prompt that holds one of the model's control tokens, such as <|Reward|>."""
        refuse_control_tokens(self.processor.tokenizer, prompts)

    @torch.inference_mode()
    def numbers(self, media: Sequence[Media], prompts: Sequence[str]) -> np.ndarray:
        """(N, 1) float64: see `Scorer.numbers`."""
        self.require_prompts(prompts, "image")
        pictures = [resized(item) for item in media if isinstance(item, Image.Image)]
        words = [HPSV3.replace("{prompt}", prompt) for prompt in prompts]
        inputs = qwen2_vl.inputs_of(self.model, self.processor, pictures, words)
        return self.model(inputs, self.token_ids)[:, :, 0].double().cpu().numpy()  # mean; the spread is at 1


def head(num_features: int) -> torch.nn.Sequential:
    """From a token's state to mean and spread. The places of its layers are their published names."""
    linear, relu = torch.nn.Linear, torch.nn.ReLU()
    return torch.nn.Sequential(
        linear(num_features, 1024), relu, torch.nn.Dropout(0.05), linear(1024, 16), relu, linear(16, 2)
    )


def resized(picture: Image.Image) -> Image.Image:
    """To about NUM_PIXELS pixels. Raises JudgeError for a picture that is over 200 times as long as wide."""
    try:
        height, width = smart_resize(
            picture.height, picture.width, factor=28, min_pixels=NUM_PIXELS, max_pixels=NUM_PIXELS
        )
    except ValueError as error:
        raise JudgeError(f"the picture's size is not possible ({first_line(error)}); crop it") from error
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def build_without_weights(options: HPSv3Options) -> qwen2_vl.RewardModel:
    """The network on the device in force."""
    return qwen2_vl.build_without_weights(options.processor, head, TOKENS)
