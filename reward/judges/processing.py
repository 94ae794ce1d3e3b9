"""The inputs of a vision-language model: a picture or clip and words, through its transformers processor."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from transformers.video_utils import VideoMetadata

from reward.errors import JudgeError, first_line
from reward.media import Clip, Media


def input_names(model: Any) -> set[str]:
    """The keywords that the model's forward takes, without labels, which only training needs."""
    forwards = (model.forward, model.base_model.forward)  # the first passes its keywords on to the second
    return {name for forward in forwards for name in inspect.signature(forward).parameters} - {"labels"}


def chat_text(processor: Any, item: Media, words: str) -> str:
    """The user's turn, item and words, up to where the answer begins.

    Raises JudgeError if the processor has no chat template that takes these.
    """
    kind = "image" if isinstance(item, Image.Image) else "video"
    message = {"role": "user", "content": [{"type": kind}, {"type": "text", "text": words}]}
    try:
        return processor.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    except (TypeError, ValueError) as error:
        raise JudgeError(
            f"{type(processor).__name__} cannot turn a question into a chat ({first_line(error)}); use a model with a chat template"
        ) from error


def processor_tensors(processor: Any, media: Sequence[Media], texts: Sequence[str]) -> dict[str, Tensor]:
    """All tensors that the processor makes from N items of one kind and their N texts, padded on the left.

    Raises JudgeError if the processor refuses an item.
    """
    pictures: dict[str, Any]
    if isinstance(media[0], Image.Image):
        pictures = {"images": [[item] for item in media]}
    else:
        least = getattr(processor.video_processor, "temporal_patch_size", None) or 1
        clips = [_at_least(item, least) for item in media if isinstance(item, Clip)]
        pictures = {
            "videos": [[clip.frames] for clip in clips],
            "video_metadata": [[_metadata(clip)] for clip in clips],
            "do_sample_frames": False,
        }
    start = processor.tokenizer.bos_token
    try:
        inputs = processor(
            text=list(texts),
            **pictures,
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=start is None or not texts[0].startswith(start),  # a template may have put it there
        )
    except (IndexError, TypeError, ValueError) as error:
        raise JudgeError(
            f"{type(processor).__name__} does not accept the item ({first_line(error)}); change its size or length"
        ) from error
    return {name: value for name, value in inputs.items() if isinstance(value, Tensor)}


def _at_least(clip: Clip, count: int) -> Clip:
    """The clip, its last frame repeated if it has fewer than the processor takes at a time."""
    missing = count - len(clip.frames)
    if missing <= 0:
        return clip
    later_s = clip.times_s[-1] + np.arange(1, missing + 1) / clip.fps
    return Clip(np.concatenate([clip.frames, clip.frames[-1:].repeat(missing, 0)]), np.append(clip.times_s, later_s))


def _metadata(clip: Clip) -> VideoMetadata:
    count, height, width = clip.frames.shape[:3]
    return VideoMetadata(
        total_num_frames=count,
        fps=clip.fps,
        width=width,
        height=height,
        duration=count / clip.fps,
        frames_indices=list(range(count)),
    )
