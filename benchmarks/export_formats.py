"""What of an exported LoRA each program loads: format by family, on small models of every family with random weights.

    python -m benchmarks.export_formats                                  # a minute
    python -m benchmarks.export_formats --run runs/quickstart            # a run's own LoRA, too

The LoRA is on the family's own targets, of rank 4 with alpha 6. "Rules" are those of ComfyUI's and sd-scripts' loaders in
`tests/helpers/lora_readers.py`. Differences are of the weights' changes, the largest over all weights, as a share of the
largest change.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mpo.export import comfyui, kohya
from mpo.export.convert import outputs_of
from mpo.export.diffusers import has_loader
from mpo.export.layers import from_peft
from mpo.models.families import denoiser_of, family_name
from mpo.models.loading import load_pipeline
from mpo.models.lora import load_with_lora, lora_state
from mpo.recipe import read_recipe
from mpo.run_folder.paths import RunFolder
from mpo.training.checkpoint_files import result_file
from tests.helpers.lora_readers import CLIPS, PICTURES, build_any, changes_of, comfyui_map, kohya_flux_map, load, tuned

UNREAD = {  # forms that diffusers does not read, or at the published widths alone
    ("comfyui", "cogvideox"),
    ("comfyui", "hunyuan_video"),
    ("comfyui", "lumina2"),
    ("kohya", "flux"),
}


def difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    """The largest, as a share of the largest change; a weight that is not found differs by its whole change."""
    largest = max(float(change.abs().max()) for change in expected.values())
    gaps = [float((found.get(name, torch.zeros_like(c)) - c).abs().max()) for name, c in expected.items()]
    return f"{max(gaps) / largest:.0e}"


def rows(name: str, pipeline: Any, plain: Any, state: dict[str, Tensor], scale: float) -> None:
    """A model's rows. plain: the same pipeline without the LoRA."""
    family, expected = family_name(pipeline), changes_of(pipeline)
    outputs = outputs_of(plain)
    for program, module in (("comfyui", comfyui), ("kohya", kohya)):
        if family not in module.NAMINGS:
            continue
        tensors = module.to_tensors(from_peft(state, scale), family, outputs_of(pipeline))
        rules = kohya_flux_map() if (program, family) == ("kohya", "flux") else comfyui_map(family, denoiser_of(plain))
        layers = {part for parts in rules.values() if len(parts) > 1 for part in parts}
        sizes = {part: outputs(part) for part in layers if _has(plain, part)}
        found, left = load(tensors, {k: v for k, v in rules.items() if all(_has(plain, part) for part in v)}, sizes)
        read, gap = "no reader", ""
        if has_loader(plain) and (program, family) not in UNREAD:
            with tempfile.TemporaryDirectory() as folder:
                save_file(tensors, Path(folder) / "x.safetensors")
                plain.load_lora_weights(folder, weight_name="x.safetensors")
            again = changes_of(plain)
            plain.unload_lora_weights()
            read, gap = f"{len(again)} of {len(expected)}", difference(again, expected)
        print(
            f"| {name} | {program} | {len(tensors)} | {len(tensors) - len(left)} of {len(tensors)} | {difference(found, expected)} | {read} | {gap} |",
            flush=True,
        )


def _has(pipeline: Any, layer: str) -> bool:
    try:
        denoiser_of(pipeline).get_submodule(layer)
    except AttributeError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    run = parser.parse_args().run
    print("| model | format | tensors | loaded by rules | difference | layers in diffusers | difference |")
    print("|---|---|---|---|---|---|---|")
    for name in (*PICTURES, *CLIPS):
        pipeline, state = tuned(name)
        rows(name, pipeline, build_any(name), state, 6 / 4)
    if run:
        recipe, folder = read_recipe(RunFolder(run).recipe), RunFolder(run)
        pipeline = load_with_lora(recipe, result_file(folder))
        state = lora_state(denoiser_of(pipeline))
        rows(recipe.name, pipeline, load_pipeline(recipe.model), state, recipe.train.alpha / recipe.train.rank)


if __name__ == "__main__":
    main()
