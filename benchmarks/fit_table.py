"""What each shipped recipe needs to be changed to fit GPUs of several sizes, as a table: computed, seconds.

python -m benchmarks.fit_table
"""

from collections.abc import Sequence

from mpo.planning.fit import Fitting
from mpo.planning.plan import GPUS_GB, plan
from mpo.recipe import load_recipe, shipped_recipes

# A change in a word or two.
WORDS = {
    "generate.batch_size": "batches of 1",
    "evaluate.batch_size": "batches of 1",
    "validation.batch_size": "batches of 1",
    "model.vae_tiling": "tiles",
    "model.offload": "{}",
    "train.micro_batch_size": "micro-batches of 1",
    "train.gradient_checkpointing": "checkpointing",
    "train.optimizer": "8-bit AdamW",
    "judge.options.quantization": "judge {}",
    "model.quantization.text_encoders": "text {}",
    "model.quantization.denoiser": "denoiser {}",
    "prompts.validation": "no validation",
}


def cell(fitting: Fitting) -> str:
    if not fitting.is_enough:
        return "no"
    words = [WORDS[f"{section}.{name}"].format(value) for section, name, value in fitting.changes]
    return ", ".join(dict.fromkeys(words)) or "as it is"


def table(names: Sequence[str]) -> str:
    lines = [f"| recipe | {' | '.join(f'{size} GB' for size in GPUS_GB)} |", f"|{'---|' * (1 + len(GPUS_GB))}"]
    for name in names:
        fittings = plan(load_recipe(name)).fittings
        lines.append(f"| `{name}` | {' | '.join(map(cell, fittings))} |")
    return "\n".join(lines)


def large_recipes() -> list[str]:
    return [name for name in shipped_recipes() if not name.startswith("quickstart")]


def main() -> None:
    print(table(large_recipes()))


if __name__ == "__main__":
    main()
