"""Counts what memory and time of the published large models follow from, on their classes in full size, without weights.

    python -m benchmarks.model_sizes > mpo/model_costs.yaml                # all; minutes
    python -m benchmarks.model_sizes black-forest-labs/FLUX.1-dev          # one entry

Configurations: model_configs.yaml. Counting: mpo/models/costs.py. The table serves where a model's own files cannot be read,
and saves the half minute that counting takes where its digest is the same.
"""

import argparse
from pathlib import Path
from typing import Any

import diffusers
import transformers
import yaml

from mpo.models.costs import Parts, build, count, millions
from reward.settings import read_yaml

HEAD = """\
# What memory and time of the published models follow from, written by `python -m benchmarks.model_sizes`: counted on their
# classes in full size (no weights), from their published configurations. The plan uses an entry where a model's digest is
# the same, or where its small files cannot be read.
# models, parameters in millions; digest: of the classes and their parameters' shapes; tmac: 10^12 multiply-accumulates for
# one picture of `size` pixels in batch 1, without guidance; activations_gb: kept for the backward of one picture in bfloat16,
# LoRA of rank 16 on the attention projections, without and with gradient checkpointing (there with the largest block's own);
# lora_millions: parameters of that LoRA; encoded_values: numbers that stage encode keeps for a picture and for a prompt.
# judges: parameters in millions.
"""


def configs(kind: str = "models") -> dict[str, dict[str, Any]]:
    """By hub id. kind: "models" or "judges"."""
    return read_yaml(Path(__file__).with_name("model_configs.yaml").read_text("utf-8"))[kind]


def build_spec(spec: dict[str, Any]) -> Any:
    """A network of transformers (with a key "config") or diffusers, on the meta device."""
    if "config" in spec:
        cls = getattr(transformers, spec["class"])
        return build(cls, cls.config_class(**spec["config"]))
    return build(getattr(diffusers, spec["class"]), {key: value for key, value in spec.items() if key != "class"})


def parts_of(spec: dict[str, Any]) -> Parts:
    encoders = tuple(map(build_spec, spec["text_encoders"]))
    return Parts(spec["pipeline"], build_spec(spec["denoiser"]), build_spec(spec["vae"]), encoders)


def rounded(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of the table: as many digits as a reader can use."""
    work = {name: round(value, 4 if name == "text" else 3) for name, value in entry["tmac"].items()}
    return {
        **entry,
        "parameters": {name: round(value, 1) for name, value in entry["parameters"].items()},
        "lora_millions": round(entry["lora_millions"], 3),
        "tmac": work,
        "activations_gb": {name: round(value, 2) for name, value in entry["activations_gb"].items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="hub ids; default: all, and the judges")
    names, known = parser.parse_args().models, configs()
    tables: dict[str, Any] = {"models": {name: rounded(count(parts_of(known[name]))) for name in names or known}}
    if not names:
        judges = configs("judges").items()
        tables["judges"] = {name: {"parameters": round(millions(build_spec(spec)), 1)} for name, spec in judges}
        print(HEAD, end="")
    print(yaml.safe_dump(tables, sort_keys=False, default_flow_style=None, width=120), end="")


if __name__ == "__main__":
    main()
