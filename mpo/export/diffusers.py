"""The LoRA as stock diffusers reads it, or peft for a pipeline without a LoRA loader.

The keys are peft's own, one form for all layers: diffusers recognises a form by the first key that it sees, and would
skip layers in any other.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer

from mpo import MpoError
from mpo.models.families import denoiser_name, denoiser_of
from mpo.run_folder.paths import LORA_WEIGHTS
from mpo.run_folder.tensors import write_tensors

PEFT_WEIGHTS = "adapter_model.safetensors"  # as peft names them


def has_loader(pipeline: Any) -> bool:
    """Whether the pipeline's class loads LoRAs itself."""
    return hasattr(pipeline, "save_lora_weights")


def write_lora(folder: Path, pipeline: Any, state: Mapping[str, torch.Tensor], config: LoraConfig) -> None:
    """A LoRA's weights under peft's names -> the file that the pipeline's `load_lora_weights` reads, or peft's two files."""
    if not has_loader(pipeline):
        write_peft(folder, state, config)
        return
    name = denoiser_name(pipeline).removesuffix("_2")  # which of two it is for is said when it is loaded
    layers = {f"{name}_lora_layers": dict(state), f"{name}_lora_adapter_metadata": _jsonable(config.to_dict())}
    pipeline.save_lora_weights(folder, **layers)
    _sort_header(folder / LORA_WEIGHTS)


def write_peft(folder: Path, state: Mapping[str, torch.Tensor], config: LoraConfig) -> None:
    """A LoRA's weights under peft's names -> the two files that `PeftModel.from_pretrained` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / PEFT_WEIGHTS, {f"base_model.model.{key}": value for key, value in state.items()})
    metadata = json.dumps(_jsonable(config.to_dict()), indent=2, sort_keys=True)
    (folder / "adapter_config.json").write_text(metadata + "\n", "utf-8")


def check_loads(folder: Path, pipeline: Any, state: Mapping[str, torch.Tensor], scale: float) -> int:
    """Load a written LoRA into the untuned pipeline, the stock way, and compare; returns the number of its layers.

    scale: alpha / rank. Raises MpoError if a layer is missing, or acts differently than in training.
    """
    try:
        denoiser, loaded = _load(folder, pipeline)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise MpoError(f"export: the file that was written does not load back as trained: {error}") from error
    lost = sorted(state.keys() - loaded.keys())
    changed = [
        key
        for key in state.keys() & loaded.keys()
        if not torch.equal(loaded[key].cpu(), state[key].to(loaded[key].dtype))
    ]
    scales = {s for layer in denoiser.modules() if isinstance(layer, LoraLayer) for s in layer.scaling.values()}
    if lost or changed or scales != {scale}:
        what = (
            f"does not take {lost[0]!r}"
            if lost
            else f"changes {changed[0]!r}"
            if changed
            else f"applies it {scales} times, not {scale}"
        )
        raise MpoError(
            f"export: the file that was written does not load back as trained ({type(pipeline).__name__} {what}): {len(lost)} of {len(state)} tensors are lost, {len(changed)} changed; please report this with the versions of diffusers and peft"
        )
    return len(state) // 2


def load_stock(pipeline: Any, folder: Path, **options: Any) -> None:
    """The pipeline's own `load_lora_weights`, into the denoiser that is tuned, and without its warnings."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns that the text encoders, which are not trained, have no LoRA
    into = {"load_into_transformer_2": True} if denoiser_name(pipeline) == "transformer_2" else {}
    try:
        pipeline.load_lora_weights(str(folder), **options, **into)
    finally:
        logging.set_verbosity(verbosity)


def _load(folder: Path, pipeline: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """The denoiser with the LoRA, and its weights under peft's names."""
    if has_loader(pipeline):
        load_stock(pipeline, folder)
        denoiser = denoiser_of(pipeline)
        names = list(getattr(denoiser, "peft_config", {}))
        return denoiser, get_peft_model_state_dict(denoiser, adapter_name=names[0]) if names else {}
    denoiser = PeftModel.from_pretrained(denoiser_of(pipeline), str(folder))
    state = get_peft_model_state_dict(denoiser)
    return denoiser, {key.removeprefix("base_model.model."): value for key, value in state.items()}


def _jsonable(config: dict) -> dict:
    """The configuration, without which a loader assumes alpha = rank, and the LoRA has the wrong strength.

    Sets, whose order varies from process to process, are sorted lists: equal runs, equal bytes.
    """
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
    file.unlink()  # only its owner may read that one; a new file gets the usual permissions
    file.write_bytes(len(header).to_bytes(8, "little") + header + data[end:])
