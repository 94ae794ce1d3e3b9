"""`mpo export SOURCE… --format FORMAT`: a trained LoRA, or one made elsewhere, in the form that another program loads."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer as PeftLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mpo import MpoError
from mpo.export import comfyui, kohya
from mpo.export.diffusers import has_loader, load_stock, write_lora, write_peft
from mpo.export.layers import Lora, LoraLayer, added, from_peft, resized, strengthened, to_peft
from mpo.export.merged import check_one_file, merge, write_one_file
from mpo.models.families import denoiser_of, family_name
from mpo.models.loading import load_pipeline
from mpo.models.lora import read_lora
from mpo.recipe import Model, read_recipe, refuse_rounds
from mpo.run_folder.files import replacing
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tensors import write_tensors
from mpo.runtime.progress import say
from mpo.training.checkpoint_files import result_file

FORMATS = ("diffusers", "comfyui", "kohya", "merged", "peft")
DTYPES = ("float32", "float16", "bfloat16")
_ONE_FILE: dict[str, Any] = {"comfyui": comfyui, "kohya": kohya}
# By the names of diffusers and peft, sd-scripts and ComfyUI.
_TEXT_ENCODERS = re.compile(r"(lora_te\d?_|text_encoders?(_\d)?\.)")
_NO_PLAIN_LORA = re.compile(r"dora_scale|lora_magnitude_vector|lora_(B|up)\.bias$")


def export_as(
    sources: Sequence[str | Path],
    format: str,
    output: Path | None = None,
    *,
    model: str | None = None,
    dtype: str | None = None,
    rank: int | None = None,
    strength: float = 1.0,
) -> Path:
    """Write one or several LoRAs, which are added up, to a new file or folder; returns its path.

    sources: run folders, or LoRA files that diffusers reads. model: what LoRA files are for, as in a recipe's
    model.path. output: None = NAME-FORMAT beside the first LoRA. dtype: of the weights; None = float32, for "merged"
    the model's. rank: the largest, by singular values. strength: a factor. Raises MpoError for what cannot be read, or
    cannot be written in the format.
    """
    if format not in FORMATS:
        raise MpoError(f"--format={format!r} is not known; formats: {', '.join(FORMATS)}")
    if dtype not in (None, *DTYPES):
        raise MpoError(f"--dtype={dtype!r} is not known; precisions: {', '.join(DTYPES)}")
    output = output or default_output(Path(sources[0]), format)
    if output.exists():
        raise MpoError(f"--output={str(output)!r} exists; name another")
    one_file = format in _ONE_FILE or (format == "merged" and output.suffix == ".safetensors")
    if one_file and output.suffix != ".safetensors":
        raise MpoError(f"--output={str(output)!r}: --format={format} writes one file; end its name in .safetensors")
    if not one_file and output.suffix == ".safetensors":
        raise MpoError(f"--output={str(output)!r}: --format={format} writes a folder; name one")
    settings = model_of(sources, model).unquantized  # a LoRA of a run in fewer bits is merged into the whole weights
    without = () if format == "merged" else ("text_encoders", "other_expert")
    pipeline = load_pipeline(settings, device="cpu", without=without)
    family = family_name(pipeline)
    if format in _ONE_FILE:
        _ONE_FILE[format].check_family(family)
    elif one_file:
        check_one_file(pipeline)
    elif format == "diffusers" and not has_loader(pipeline):
        raise MpoError(f"diffusers has no LoRA loader for {type(pipeline).__name__}; use --format=peft")
    lora = strengthened(added([read_source(source, pipeline) for source in sources]), strength)
    if rank is not None:
        lora, error = resized(lora, rank)
        say(f"export: rank {rank} keeps the LoRA but for {error:.2%} of its norm")
    if format == "merged":
        merge(pipeline, lora)
        if dtype:
            pipeline.to(getattr(torch, dtype))
    with replacing(output) as temporary:
        if format in _ONE_FILE:
            tensors = _ONE_FILE[format].to_tensors(lora, family, outputs_of(pipeline))
            write_tensors(temporary, in_precision(tensors, dtype), {"format": "pt"})
        elif one_file:
            write_one_file(temporary, pipeline)
        elif format == "merged":
            pipeline.save_pretrained(temporary)
        elif format == "diffusers":
            write_lora(temporary, pipeline, in_precision(to_peft(lora), dtype), config_of(lora))
        else:
            write_peft(temporary, in_precision(to_peft(lora), dtype), config_of(lora))
    return output


def default_output(source: Path, format: str) -> Path:
    """NAME-FORMAT beside the LoRA: in a run's folder, or in that of a LoRA file."""
    suffix = ".safetensors" if format in _ONE_FILE else ""
    if is_run(source):
        return source / "exports" / f"{read_recipe(RunFolder(source).recipe).name}-{format}{suffix}"
    return source.with_name(f"{source.stem}-{format}{suffix}")


def model_of(sources: Sequence[str | Path], given: str | None) -> Model:
    """The model that the sources are for. Raises MpoError if none is said, or two, and for a source that is none."""
    models = [] if given is None else [Model(path=given)]
    for source in map(Path, sources):
        if is_run(source):
            recipe = read_recipe(RunFolder(source).recipe)
            refuse_rounds(recipe, source)
            models.append(recipe.model)
        elif not source.is_file():
            raise MpoError(f"{str(source)!r} is neither a run nor a file; name a run folder or a LoRA's .safetensors")
    if not models:
        raise MpoError(f"{str(sources[0])!r} does not say what model it is for; name it with --model")
    others = sorted({m.path for m in models} - {models[0].path})
    if others or len({m.expert for m in models}) > 1:
        raise MpoError(
            f"the LoRAs are for different models ({models[0].path} and {others[0] if others else 'its other expert'}); export them one by one"
        )
    return models[0]


def is_run(source: str | Path) -> bool:
    return RunFolder(source).recipe.is_file()


def read_source(source: str | Path, pipeline: Any) -> Lora:
    """A run's result, or a LoRA file as the stock pipeline reads it. Raises MpoError."""
    if not is_run(source):
        return read_with_diffusers(Path(source), pipeline)
    run = RunFolder(source)
    if not run.trained.is_file():
        raise MpoError(f"{str(source)!r} has no trained LoRA yet; run `mpo run` on its recipe, which continues there")
    settings = read_recipe(run.recipe).train
    return from_peft(read_lora(result_file(run)), settings.alpha / settings.rank)


def read_with_diffusers(file: Path, pipeline: Any) -> Lora:
    """The denoiser's layers that the stock pipeline's loader makes of a file, in any form that it knows.

    A text encoder's part is left out, and that is said. Raises MpoError for what is no plain LoRA of this model.
    """
    if not has_loader(pipeline):
        raise MpoError(
            f"diffusers has no LoRA loader for {type(pipeline).__name__}; export from the run that trained it"
        )
    try:
        with _of_denoiser(file) as own:
            load_stock(pipeline, own.parent, weight_name=own.name, adapter_name="source")
    except MpoError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise MpoError(
            f"{str(file)!r} is no LoRA that diffusers reads for this model ({' '.join(str(error).split())[:200]})"
        ) from None
    lora: dict[str, LoraLayer] = {}
    for name, module in denoiser_of(pipeline).named_modules():
        if isinstance(module, PeftLayer) and "source" in module.lora_A:
            down, up = (getattr(module, part)["source"].weight.detach().float() for part in ("lora_A", "lora_B"))
            lora[name] = LoraLayer(down, up * module.scaling["source"])
    pipeline.unload_lora_weights()
    if not lora:
        raise MpoError(f"{str(file)!r} holds nothing for this model's denoiser; is it for another model?")
    return lora


@contextmanager
def _of_denoiser(file: Path) -> Iterator[Path]:
    """A LoRA's file, or if it has a part for text encoders, a copy without it. Raises MpoError for what no other form holds."""
    with safe_open(file, framework="pt") as held:
        names, metadata = list(held.keys()), held.metadata()
        more = next((name for name in names if _NO_PLAIN_LORA.search(name)), None)
        if more:
            raise MpoError(
                f"{str(file)!r} holds {more!r}, of a DoRA or a LoRA with biases; only LoRAs of A and B can be exported"
            )
        of_text = [name for name in names if _TEXT_ENCODERS.match(name)]
        if not of_text:
            yield file
            return
        own = {name: held.get_tensor(name) for name in names if name not in of_text}
    say(f"export: {file.name} has a part for text encoders ({len(of_text)} of {len(names)} tensors), which is left out")
    if not own:
        raise MpoError(f"{str(file)!r} holds nothing for a denoiser; only that part of a LoRA can be exported")
    with TemporaryDirectory() as folder:
        copy = Path(folder) / file.name
        save_file(own, copy, metadata)
        yield copy


def outputs_of(pipeline: Any) -> Callable[[str], int]:
    """How many outputs a layer of the denoiser has, by its name."""
    denoiser = denoiser_of(pipeline)

    def count(name: str) -> int:
        layer: Any = denoiser.get_submodule(name)  # its weight says nothing of its shape in 4 bits
        return layer.out_features if hasattr(layer, "out_features") else layer.out_channels

    return count


def in_precision(tensors: dict[str, torch.Tensor], dtype: str | None) -> dict[str, torch.Tensor]:
    """The weights in a precision. Alphas stay as they are: half precision has not all whole numbers."""
    if dtype is None:
        return tensors
    kind = getattr(torch, dtype)
    return {name: value if name.endswith(".alpha") else value.to(kind) for name, value in tensors.items()}


def config_of(lora: Lora) -> LoraConfig:
    """Peft's configuration: alpha = rank in each layer, whatever its rank."""
    ranks = {name: layer.rank for name, layer in lora.items()}
    usual = max(ranks.values())
    others = {name: rank for name, rank in ranks.items() if rank != usual}
    return LoraConfig(
        r=usual, lora_alpha=usual, target_modules=sorted(ranks), rank_pattern=others, alpha_pattern=dict(others)
    )
