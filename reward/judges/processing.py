"""The inputs of a vision-language model: a picture or clip and words, through its transformers processor."""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jinja2 import TemplateError
from PIL import Image
from torch import Tensor
from transformers.video_utils import VideoMetadata

from reward.errors import JudgeError, first_line
from reward.media import Clip, Media

TICKS_PER_S = 1_000_000  # a processor divides frame numbers by a rate: as microseconds, uneven times are exact


def input_names(model: Any) -> set[str]:
    """The keywords that the model's forward takes, without labels, which only training needs."""
    forwards = (model.forward, model.base_model.forward)  # the first passes its keywords on to the second
    return {name for forward in forwards for name in inspect.signature(forward).parameters} - {"labels"}


def chat_text(processor: Any, item: Media, words: str) -> str:
    """The user's turn, item and words, up to where the answer begins.

    Raises JudgeError if the processor has no chat template that takes these.
    """
    kind = "image" if isinstance(item, Image.Image) else "video"
    return _chat(processor, [{"type": kind}, {"type": "text", "text": words}])


def takes_clips(processor: Any, names: set[str]) -> bool:
    """Whether a clip reaches the model: its processor makes frames that the model takes, and its template has a place.

    names: those of `input_names`. A template without a place says nothing, and the model would answer unseeing.
    """
    if getattr(processor, "video_processor", None) is None:
        return False
    frames = "pixel_values_videos"  # the name with most families; others pass frames on as pictures
    ignored = frames in getattr(processor, "model_input_names", ()) and frames not in names
    words = {"type": "text", "text": "Well?"}
    try:
        return not ignored and _chat(processor, [{"type": "video"}, words]) != _chat(processor, [words])
    except JudgeError:
        return False


def _chat(processor: Any, content: list[dict[str, Any]]) -> str:
    try:
        message = {"role": "user", "content": content}
        return processor.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    except (TemplateError, TypeError, ValueError) as error:
        raise JudgeError(
            f"{type(processor).__name__} cannot turn a question into a chat ({first_line(error)}); use a model with a chat template"
        ) from error


def refuse_control_tokens(tokenizer: Any, prompts: Sequence[str]) -> None:
    """Raises JudgeError for a prompt that holds one of the model's control tokens, such as the one that is read."""
    control = set(tokenizer.all_special_tokens) | set(tokenizer.added_tokens_encoder)
    for prompt in prompts:
        if held := sorted(token for token in control if token.strip() and token in prompt):
            raise JudgeError(f"prompt {prompt!r} holds the model's control token {held[0]!r}; reword it")


def processor_tensors(
    processor: Any, media: Sequence[Media], texts: Sequence[str], **settings: Any
) -> dict[str, Tensor]:
    """All tensors that the processor makes from N items of one kind and their N texts, padded on the left.

    settings: further keywords for the processor.

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
            **settings,
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
    """The clip, its last frame repeated if it has fewer than the processor takes at a time.

    At the same time, since processors write down the mean time of the frames that they take together.
    """
    missing = max(0, count - len(clip.frames))
    repeated = (np.concatenate([each, each[-1:].repeat(missing, 0)]) for each in (clip.frames, clip.times_s))
    return Clip(*repeated)


def _metadata(clip: Clip) -> VideoMetadata:
    """When each frame is shown, from the first one on, as the numbers of frames at TICKS_PER_S.

    A processor that tells the model only a rate takes it as frames given / all frames * fps: that is the clip's own.
    Rounded up, so that it never counts a step too few.
    """
    count, height, width = clip.frames.shape[:3]
    since_s = clip.times_s - clip.times_s[0]
    return VideoMetadata(
        total_num_frames=math.ceil(count / clip.fps * TICKS_PER_S),
        fps=TICKS_PER_S,
        width=width,
        height=height,
        duration=count / clip.fps,
        frames_indices=(since_s * TICKS_PER_S).round().astype(int).tolist(),
    )
