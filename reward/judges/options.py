"""The typed options of each judge, so that a mistake is found before weights are loaded. Imports no torch.

A field has the name and default of the constructor's parameter; constructors check with `check_options`.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from reward.checklist import Kind
from reward.errors import JudgeError, did_you_mean

VlmMode = Literal["auto", "packed", "batched", "copied", "sequential"]
CogVLM2Mode = Literal["auto", "shared", "sequential"]
Quantization = Literal["4bit", "8bit"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
TEMPLATE = "{question} Answer yes or no."


def _text_of_path(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _with_question(template: str) -> str:
    if "{question}" not in template:
        raise ValueError("it has no place for the question; put {question} into it")
    return template


def _device_map(value: Any) -> Any:
    parts = value if isinstance(value, dict) else {"": value}
    if not all(isinstance(part, str) and type(device) in (str, int) for part, device in parts.items()):
        raise ValueError("give 'auto', a device such as 'cuda:0', or a mapping of the model's parts to devices")
    return value


def _urls(value: Any) -> Any:
    urls = [value] if isinstance(value, str) else value
    if not isinstance(urls, (list, tuple)) or not urls or not all(isinstance(url, str) for url in urls):
        raise ValueError("give at least one address, such as http://localhost:8000/v1")
    return tuple(urls)


def _trusted(value: bool) -> bool:
    if not value:
        raise ValueError(
            "code that comes with the checkpoint is run: read its *.py files, then set trust_remote_code=true"
        )
    return value


Count = Annotated[int, Field(ge=1)]
ModelName = Annotated[str, Field(min_length=1), BeforeValidator(_text_of_path)]
Template = Annotated[str, AfterValidator(_with_question)]
DeviceMap = Annotated[Any, AfterValidator(_device_map)]


class Options(BaseModel):
    """Frozen; unknown names refused; no silent conversion between types."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=(), validate_default=True
    )


class MeasuredOptions(Options):
    """The measured judge has none."""


class VlmOptions(Options):
    """See `reward.judges.vlm.VLMJudge`."""

    model: ModelName  # a hub id, a folder, or a folder with an adapter made by `reward tune`
    mode: VlmMode = "auto"  # how the questions are asked after one picture; reward/judges/vlm.py explains each mode
    template: Template = TEMPLATE  # what is asked; "{question}" stands for the question
    batch_size: Count = 1  # pictures or clips looked at together
    max_packed_tokens: Count = 1024  # question tokens in one pass; bounds memory
    num_frames: Count = 16  # of a clip, spread evenly
    dtype: Dtype = "auto"  # of the weights as loaded; auto = as they were saved
    device_map: DeviceMap | None = None  # as in transformers; None = the first GPU if there is one, else the CPU
    quantization: Quantization | None = None  # by bitsandbytes; None = the weights as they are
    attn_implementation: str | None = None  # of transformers, such as "eager"; None = the model's default
    revision: str | None = None  # of a hub id: a branch, tag or commit; None = the default branch
    trust_remote_code: bool = False  # run code that comes with the model


class CogVLM2Options(Options):
    """See `reward.judges.cogvlm2.CogVLM2Judge`."""

    model: ModelName = "THUDM/VisionReward-Video"  # a hub id or a folder
    kind: Kind = "video"  # what the checkpoint looks at
    trust_remote_code: Annotated[bool, AfterValidator(_trusted)] = False  # must be true: the code comes with the model
    # how the questions are asked after one clip; reward/judges/cogvlm2.py explains each mode
    mode: CogVLM2Mode = "auto"
    dtype: Dtype = "bfloat16"  # of the weights as loaded; auto = as they were saved
    device_map: DeviceMap | None = None  # as in transformers; None = the first GPU if there is one, else the CPU
    quantization: Quantization | None = None  # by bitsandbytes; None = the weights as they are
    revision: str | None = None  # of a hub id: a branch, tag or commit; None = the default branch


class ServerOptions(Options):
    """See `reward.judges.server.ServerJudge`."""

    # one address or several, such as http://localhost:8000/v1
    base_urls: Annotated[tuple[str, ...], BeforeValidator(_urls)]
    model: str | None = None  # as the server names it; None = the only one that it serves
    api_key: Annotated[str | None, Field(repr=False)] = None  # None = $OPENAI_API_KEY where set
    template: Template = TEMPLATE  # what is asked; "{question}" stands for the question
    concurrency: Count = 16  # requests under way at a time, over all endpoints
    timeout_s: Annotated[float, Field(gt=0)] = 120.0  # of one request
    max_retries: Annotated[int, Field(ge=0)] = 5  # after 429, 5xx and timeouts
    num_frames: Count = 8  # of a clip, spread evenly
    batch_size: Count = 16  # pictures or clips asked about together


class ClipScoreOptions(Options):
    """See `reward.judges.scorers.clip.ClipScore`."""

    model: ModelName = "openai/clip-vit-large-patch14"  # a hub id or a folder
    processor: ModelName | None = None  # where the tokenizer and the pictures' sizes are; None = with the model
    revision: str | None = None  # of the model's hub id: a branch, tag or commit; None = the default branch
    dtype: Dtype = "auto"  # of the weights as loaded; auto = as they were saved
    device_map: DeviceMap | None = None  # as in transformers; None = the first GPU if there is one, else the CPU
    batch_size: Count = 16  # pictures looked at together


class PickScoreOptions(Options):
    """See `reward.judges.scorers.clip.PickScore`."""

    model: ModelName = "yuvalkirstain/PickScore_v1"  # a hub id or a folder
    processor: ModelName = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"  # where the tokenizer and the pictures' sizes are
    revision: str | None = None  # of the model's hub id: a branch, tag or commit; None = the default branch
    dtype: Dtype = "auto"  # of the weights as loaded; auto = as they were saved
    device_map: DeviceMap | None = None  # as in transformers; None = the first GPU if there is one, else the CPU
    batch_size: Count = 16  # pictures looked at together


class ImageRewardOptions(Options):
    """See `reward.judges.scorers.imagereward.ImageReward`."""

    model: ModelName = "zai-org/ImageReward"  # a hub id, or a folder with ImageReward.pt or ImageReward.safetensors
    processor: ModelName = "google-bert/bert-base-uncased"  # where the tokenizer is
    revision: str | None = None  # of the model's hub id: a branch, tag or commit; None = the default branch
    dtype: Dtype = "auto"  # of the weights as loaded; auto = as they were saved
    device_map: DeviceMap | None = None  # as in transformers; None = the first GPU if there is one, else the CPU
    batch_size: Count = 16  # pictures looked at together


class HPSv3Options(Options):
    """See `reward.judges.scorers.hpsv3.HPSv3`."""

    model: ModelName = "MizzenAI/HPSv3"  # a hub id, or a folder with HPSv3.safetensors
    processor: ModelName = "Qwen/Qwen2-VL-7B-Instruct"  # where the network's shape and its processor are
    revision: str | None = None  # of the model's hub id: a branch, tag or commit; None = the default branch
    dtype: Dtype = "auto"  # of the weights as loaded; auto = as the network's configuration says
    device_map: DeviceMap | None = None  # as in transformers; None = the first GPU if there is one, else the CPU
    quantization: Quantization | None = None  # by bitsandbytes; None = the weights as they are
    batch_size: Count = 4  # pictures looked at together


class VideoRewardOptions(Options):
    """See `reward.judges.scorers.videoreward.VideoReward`."""

    model: ModelName = "KwaiVGI/VideoReward"  # a hub id, or a folder with model_config.json and checkpoint-N/model.pth
    processor: ModelName = "Qwen/Qwen2-VL-2B-Instruct"  # where the network's shape and its processor are
    revision: str | None = None  # of the model's hub id: a branch, tag or commit; None = the default branch
    dtype: Dtype = "auto"  # of the weights as loaded; auto = as the network's configuration says
    device_map: DeviceMap | None = None  # as in transformers; None = the first GPU if there is one, else the CPU
    batch_size: Count = 1  # clips looked at together


class VqaScoreOptions(Options):
    """See `reward.judges.scorers.vqascore.VQAScore`."""

    model: ModelName = "zhiqiulin/clip-flant5-xxl"  # a CLIP-FlanT5 or any vision-language model: a hub id or a folder
    processor: ModelName | None = None  # of a CLIP-FlanT5, where the tokenizer is: None = google/flan-t5-xxl
    revision: str | None = None  # of the model's hub id: a branch, tag or commit; None = the default branch
    dtype: Dtype = "auto"  # of the weights as loaded; auto = as they were saved
    device_map: DeviceMap | None = None  # as in transformers; None = the first GPU if there is one, else the CPU
    quantization: Quantization | None = None  # by bitsandbytes, not of a CLIP-FlanT5; None = the weights as they are
    num_frames: Count = 16  # of a clip, spread evenly
    batch_size: Count = 1  # pictures or clips looked at together


OPTIONS: dict[str, type[Options]] = {
    "measured": MeasuredOptions,
    "vlm": VlmOptions,
    "cogvlm2": CogVLM2Options,
    "server": ServerOptions,
    "clip-score": ClipScoreOptions,
    "pickscore": PickScoreOptions,
    "hpsv3": HPSv3Options,
    "imagereward": ImageRewardOptions,
    "videoreward": VideoRewardOptions,
    "vqascore": VqaScoreOptions,
}
JUDGES = tuple(OPTIONS)

# The remedy, by pydantic's name for the problem.
_REMEDIES = {
    "literal_error": "use {expected}",
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "float_type": "give a number",
    "finite_number": "give a finite number",
    "bool_type": "give true or false",
    "string_type": "give text; quote what YAML reads as something else",
    "string_too_short": "give text",
    "greater_than_equal": "give {ge} or more",
    "greater_than": "give more than {gt:g}",
}


def check_options(name: str, options: Mapping[str, Any]) -> Options:
    """The typed options of a judge, with its defaults. Loads nothing.

    Raises JudgeError with one line for an unknown judge, an unknown or missing option, and an invalid value.
    """
    if name not in OPTIONS:
        raise JudgeError(
            f"judge={name!r} is unknown; judges: {', '.join(JUDGES)}, or your own as module:Class{did_you_mean(name, JUDGES)}"
        )
    try:
        return OPTIONS[name].model_validate(dict(options))
    except ValidationError as error:
        raise JudgeError(_explain(name, options, error)) from None


def _explain(name: str, options: Mapping[str, Any], error: ValidationError) -> str:
    """The first problem. An unknown name comes before a missing one, since it may be a misspelling of it."""
    known = OPTIONS[name].model_fields
    problem = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    field = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        listed = ", ".join(known) or "none"
        required = [each for each, info in known.items() if info.is_required() and each not in options]
        guess = did_you_mean(field, required) or did_you_mean(field, known)
        others = ", ".join(judge for judge in JUDGES if field in OPTIONS[judge].model_fields)
        of_others = f" (an option of {others})" if others else ""
        return f"judge {name!r} has no option {field!r}{of_others}; its options: {listed}{guess}"
    if problem["type"] == "missing":
        return f"judge {name!r} needs the option {field!r}; its options: {', '.join(known)}"
    value = options.get(field, known[field].default)
    context = problem.get("ctx", {})
    if problem["type"] == "value_error":
        remedy = str(context["error"])
    else:
        remedy = _REMEDIES.get(problem["type"], problem["msg"]).format(**context)
    guess = (
        did_you_mean(value, context["expected"].split("'")[1::2])
        if problem["type"] == "literal_error" and isinstance(value, str)
        else ""
    )
    shown = "…" if field == "api_key" else repr(value)
    return f"judge {name!r}: {field}={shown} is not possible; {remedy}{guess}"
