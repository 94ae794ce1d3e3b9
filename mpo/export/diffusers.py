"""The LoRA as stock diffusers, or for a pipeline without a LoRA loader peft, reads it."""

import json
from pathlib import Path
from typing import Any

from diffusers.utils import convert_state_dict_to_diffusers
from safetensors.torch import save_file

from mpo.models.families import denoiser_name
from mpo.models.lora import lora_state
from mpo.run_folder.paths import LORA_WEIGHTS

PEFT_WEIGHTS = "adapter_model.safetensors"


def write_lora(folder: Path, pipeline: Any, denoiser: Any) -> None:
    """The LoRA as the pipeline's own `load_lora_weights` reads it, or for a pipeline without one as peft does."""
    state, config = lora_state(denoiser), denoiser.peft_config["default"]
    # Without the configuration a loader takes alpha = rank, and the LoRA acts with another strength.
    metadata = _jsonable(config.to_dict())
    if hasattr(pipeline, "save_lora_weights"):
        name = denoiser_name(pipeline)
        layers: Any = convert_state_dict_to_diffusers(state) if name == "unet" else state
        pipeline.save_lora_weights(folder, **{f"{name}_lora_layers": layers, f"{name}_lora_adapter_metadata": metadata})
        _sort_header(folder / LORA_WEIGHTS)
    else:
        folder.mkdir()
        save_file({f"base_model.model.{key}": value for key, value in state.items()}, folder / PEFT_WEIGHTS)
        (folder / "adapter_config.json").write_text(json.dumps(metadata, indent=2, sort_keys=True) + "\n", "utf-8")


def _jsonable(config: dict) -> dict:
    """Sets, whose order varies from process to process, as sorted lists: equal runs, equal bytes."""
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    return json.loads(json.dumps(plain, default=str))


def _sort_header(file: Path) -> None:
    """Put a safetensors header in order: the library writes its metadata in an order that varies by process.

    Layout: header length as 8 bytes little-endian, header as JSON padded with spaces to a multiple of 8, tensors.
    """
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    file.unlink()  # which only its owner may read; a new file gets the rights that files have here
    file.write_bytes(len(header).to_bytes(8, "little") + header + data[end:])
