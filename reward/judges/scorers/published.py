"""What scorers share in loading: the published files, fingerprints, and errors in one line."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from torch import Tensor

from reward.errors import JudgeError, first_line
from reward.judges.loading import weights_digest

# What of a configuration changes no answer; the dtype of the weights counts as it is.
_VOLATILE = ("_name_or_path", "architectures", "transformers_version", "dtype")


def published_folder(model: str, revision: str | None, *patterns: str) -> Path:
    """The folder that a hub id or a folder names, with the files of these patterns. Raises what huggingface_hub does."""
    if Path(model).is_dir():
        return Path(model)
    return Path(snapshot_download(model, revision=revision, allow_patterns=list(patterns)))


def find_file(folder: Path, *patterns: str) -> Path:
    """The last file, by name, of the first pattern that has any. Raises FileNotFoundError naming the patterns."""
    for pattern in patterns:
        if found := sorted(folder.glob(pattern)):
            return found[-1]
    raise FileNotFoundError(f"it holds no {' or '.join(patterns)}")


def read_weights(file: Path, *, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a .safetensors, or of a pickle that holds nothing else. device "meta": only their shapes.

    Some checkpoints keep them below "model" or "state_dict".
    """
    if file.suffix == ".safetensors" and device != "meta":
        return load_file(file)
    if file.suffix == ".safetensors":
        return {name: value.to("meta") for name, value in load_file(file).items()}  # mapped from disk, not read
    try:
        held: Any = torch.load(file, map_location=device, weights_only=True)
    except UnpicklingError:  # its message has several lines, and advises to run what the file holds
        raise ValueError(f"{file.name} holds more than tensors, or is broken") from None
    for name in ("model", "state_dict"):
        if isinstance(held, Mapping) and isinstance(held.get(name), Mapping):
            held = held[name]
    if not isinstance(held, Mapping) or not all(isinstance(value, Tensor) for value in held.values()):
        raise ValueError(f"{file.name} does not hold tensors by name")
    return dict(held)


def renamed(weights: Mapping[str, Tensor], prefixes: Mapping[str, str | None]) -> dict[str, Tensor]:
    """Names with the first prefix that fits replaced; None leaves the weight out. No prefix fits: the name stays."""
    found = {}
    for name, value in weights.items():
        old = next((each for each in prefixes if name.startswith(each)), "")
        new = prefixes.get(old, "")
        if new is not None:
            found[new + name.removeprefix(old)] = value
    return found


def below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin so, without that."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def from_weights(model_class: Any, config: Any, weights: dict[str, Tensor], **options: Any) -> Any:
    """A model of transformers with exactly these weights. options: of from_pretrained.

    Raises ValueError if one is missing, left over or of another shape; transformers would draw the missing ones.
    """
    model, found = model_class.from_pretrained(
        None, config=config, state_dict=weights, output_loading_info=True, **options
    )
    for problem in ("missing", "unexpected"):
        if names := sorted(found[f"{problem}_keys"]):
            raise ValueError(f"the weight {names[0]!r} is {problem}, and {len(names) - 1} more")
    return model.eval()


def fill(module: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Puts exactly these weights into a part that transformers does not know. Raises ValueError naming one that does not fit."""
    own = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    for name in sorted(own.keys() | given.keys()):
        if own.get(name) != given.get(name):
            raise ValueError(
                f"the head's weight {name!r} is {given.get(name, 'missing')}, not {own.get(name, 'known')}"
            )
    module.load_state_dict(dict(weights))


def loading_error(model: str, error: Exception, expected: str) -> JudgeError:
    """In one line, with what to give instead."""
    return JudgeError(f"model={model!r} cannot be loaded ({first_line(error)}); give {expected}")


def fingerprint(name: str, model: Any, *settings: Any) -> str:
    """`name:digest` over the configuration, a sample of every weight, and the settings, in their printed form."""
    config = model.config.to_diff_dict()
    for volatile in _VOLATILE:
        config.pop(volatile, None)
    parts = (json.dumps(config, sort_keys=True, default=str), *settings)
    sha = hashlib.sha256(repr(parts).encode() + weights_digest(model).encode())
    return f"{name}:{sha.hexdigest()[:16]}"


def tokenizer_settings(tokenizer: Any) -> str:
    """Digest over the vocabulary."""
    return hashlib.sha256(repr(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()
