"""Qwen2-VL as HPSv3 and VideoReward call it, written out: one item at a time, without padding."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of OpenAI's CLIP


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
