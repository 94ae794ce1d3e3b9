"""How far frozen weights in fewer bits turn a training step: the LoRA's gradient against that with whole weights.

    python -m benchmarks.quantized_step                            # the embedded model; minutes
    python -m benchmarks.quantized_step --shape sd15-quarter --draws 4 --rows fp8 8bit 4bit     # SD 1.5, widths / 4, random weights
    python -m benchmarks.quantized_step --run RUN                  # of a run of your own whose pairs are encoded

Each row loads the same model in another way and takes the gradients of the same pairs, noises and timesteps at the first
step, where every pair's loss has the same slope: the gradient of its difference in denoising error, with respect to the
LoRA's B (A has none while B is 0). "a pair" is the mean cosine between a pair's gradient and that with whole weights,
with the smallest in brackets, "the batch" the cosine between the sums over all pairs, which is what a step follows. "linear"
is the size of the linear layers' weights, times that in float32. bfloat16 is there for scale. fp8 rounds linear weights to e4m3
with a scale a row, as weight-only fp8 does; recipes do not offer it.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.gradient_signal import pair_gradient
from benchmarks.train_step import SHAPES, prepare
from mpo.recipe import Recipe, load_recipe, read_recipe
from mpo.run import run_recipe
from mpo.run_folder.paths import RunFolder
from mpo.runtime.progress import set_quiet
from mpo.stages.encode import encode
from mpo.training.batches import Draw
from mpo.training.setup import Training, set_up

ROWS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "8bit": {"denoiser": "8bit"},
    "4bit": {"denoiser": "4bit"},
    "4bit, bfloat16": {"denoiser": "4bit", "dtype": "bfloat16"},
    "fp8": {"fp8": True},
}
E4M3_MAX = torch.finfo(torch.float8_e4m3fn).max


def round_to_fp8(network: torch.nn.Module) -> None:
    """Linear weights become the nearest of e4m3, with a scale a row."""
    for name, layer in network.named_modules():
        if isinstance(layer, torch.nn.Linear) and "lora_" not in name:
            scale = layer.weight.data.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / E4M3_MAX
            layer.weight.data = (layer.weight.data / scale).to(torch.float8_e4m3fn).to(layer.weight.dtype) * scale


def loaded(run: RunFolder, recipe: Recipe, row: dict[str, Any]) -> Training:
    """The run's training with the model loaded as a row says."""
    model = recipe.model.model_copy(
        update={
            "dtype": row.get("dtype", "float32"),
            "quantization": recipe.model.quantization.model_copy(update={"denoiser": row.get("denoiser")}),
        }
    )
    precision = {"mixed_precision": "bf16" if model.dtype == "bfloat16" else "no"}
    train = recipe.train.model_copy(update=precision)
    t = set_up(run, recipe.model_copy(update={"model": model, "train": train}))
    if row.get("fp8"):
        round_to_fp8(t.denoiser)
    return t


def linear_bytes(t: Training) -> int:
    """Of the frozen weights of linear layers."""
    layers = [
        layer
        for name, layer in t.denoiser.named_modules()
        if isinstance(layer, torch.nn.Linear) and "lora_" not in name
    ]
    return sum(layer.weight.untyped_storage().nbytes() for layer in layers)


def gradients(t: Training, num_draws: int) -> Float[Tensor, "n P"]:
    """Of so many draws: the run's pairs in turn, each time at another noise and timestep."""
    draws = [Draw(k % len(t.batches.pairs), k // len(t.batches.pairs)) for k in range(num_draws)]
    with t.accelerator.autocast():
        return torch.stack([pair_gradient(t, draw).float() for draw in draws])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run whose pairs are encoded")
    parser.add_argument("--shape", choices=[name for name, shape in SHAPES.items() if shape.size.kind == "image"])
    parser.add_argument("--draws", type=int, default=32)
    parser.add_argument("--rows", nargs="+", default=list(ROWS)[1:], choices=list(ROWS)[1:], help="beside float32")
    arguments = parser.parse_args()
    set_quiet(True)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.run:
            run = RunFolder(arguments.run)
        elif arguments.shape:
            run = prepare(Path(folder), SHAPES[arguments.shape], {}, 2)
            encode(run.folder)
        else:
            settings = [
                "prompts.train={path: prompts/shapes-train.txt, limit: 12}",
                "generate.num_candidates=4",
                "select.num_pairs=null",
            ]
            run = RunFolder(Path(folder) / "run")
            stages = ("generate", "score", "select", "encode")
            run_recipe(load_recipe("quickstart", settings), run.folder, stages=stages)
        recipe = read_recipe(run.recipe)
        print("| weights | linear | a pair | the batch |\n|---|---|---|---|")
        whole: Any = None
        for name in ("float32", *arguments.rows):
            row = ROWS[name]
            t = loaded(run, recipe, row)
            found, held = gradients(t, arguments.draws), linear_bytes(t)
            whole = (found, held) if whole is None else whole
            each = torch.cosine_similarity(found.double(), whole[0].double(), dim=1)
            batch = torch.cosine_similarity(found.double().sum(0), whole[0].double().sum(0), dim=0)
            share = 0.25 if row.get("fp8") else held / whole[1]
            print(f"| {name} | {share:.3g} | {each.mean():.5f} ({each.min():.4f}) | {batch:.5f} |", flush=True)


if __name__ == "__main__":
    main()
