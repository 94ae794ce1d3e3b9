"""Counts what memory and time of the published large models follow from, on their classes in full size, without weights.

    python -m benchmarks.model_sizes > mpo/model_costs.yaml                # all; a quarter of an hour
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

from mpo.models.costs import count
from mpo.models.counting.measuring import millions
from mpo.models.counting.parts import Parts, build
from mpo.sizes import parse_size
from reward.settings import read_yaml

HEAD = """\
# What memory and time of the published models follow from, written by `python -m benchmarks.model_sizes`: counted on their
# classes in full size (no weights), from their published configurations. The plan uses an entry where a model's digest is
# the same, or where its small files cannot be read.
# models, parameters in millions: of each network, of its linear layers that can be held in fewer bits, and of the denoiser's
# blocks, all and the largest; digest: of the classes and their parameters' shapes; size: of the pictures or clips for which
# all else is counted, in batch 1, without guidance; frames_a_latent: frames that become one of the latents; attends_over: what
# the denoiser's attention spans; tmac: 10^12 multiply-accumulates, the denoiser's as [a, b, c] of a + b r + c r^2 at r times as
# many latents; activations_gb: kept for the backward, LoRA of rank 16 on the attention projections, without and with gradient
# checkpointing (there with the largest block's own), and at the peak of a forward without a backward; autoencoder: work and
# peak, whole and in tiles; lora_millions: parameters of that LoRA; encoded_values: numbers that stage encode keeps for a
# picture or clip and for a prompt.
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
    encoders, others = (tuple(map(build_spec, spec.get(name, ()))) for name in ("text_encoders", "others"))
    denoiser, vae = build_spec(spec["denoiser"]), build_spec(spec["vae"])
    return Parts(spec["pipeline"], denoiser, vae, encoders, others, spec.get("options", {}))


def count_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """A model's entry of the table."""
    return rounded(count(parts_of(spec), parse_size(spec["size"]) if "size" in spec else None))


def rounded(entry: Any) -> Any:
    """An entry of the table with as many digits as a reader can use: five, or millionths."""
    if isinstance(entry, dict):
        return {name: rounded(value) for name, value in entry.items()}
    if isinstance(entry, list):
        return [rounded(value) for value in entry]
    return round(float(f"{entry:.5g}"), 6) if isinstance(entry, float) else entry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="hub ids; default: all, and the judges")
    names, known = parser.parse_args().models, configs()
    tables: dict[str, Any] = {"models": {name: count_spec(known[name]) for name in names or known}}
    if not names:
        judges = configs("judges").items()
        tables["judges"] = {name: {"parameters": round(millions(build_spec(spec)), 1)} for name, spec in judges}
        print(HEAD, end="")
    print(yaml.safe_dump(tables, sort_keys=False, default_flow_style=None, width=120), end="")


if __name__ == "__main__":
    main()
