"""Plans follow from the model's configuration, whatever its name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.model_sizes import configs, parts_of
from mpo.models.costs import autoencoder_gb, count, denoiser_tmac
from mpo.models.counting.gpu_kernels import kernels_of_a_gpu
from mpo.models.counting.inputs import encoded, predict, zeros
from mpo.models.counting.measuring import measure
from mpo.models.counting.parts import Parts
from mpo.models.families import denoiser_of
from mpo.planning.plan import plan
from mpo.recipe import load_recipe, parse_recipe
from mpo.sizes import Size, size_fields
from reward.errors import JudgeError
from tests.helpers.one_file import save_as_one_file
from tests.helpers.pipelines import SMALL, build, size_of

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"


def write_small_files(folder: Path, **changes: Any) -> Path:
    """A pipeline's folder without weights, of SDXL's published configuration; changes: of its network's."""
    spec = configs()[SDXL]
    index = {
        "_class_name": "StableDiffusionXLPipeline",
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
    }
    scheduler = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    files = {
        "model_index.json": index,
        "scheduler/scheduler_config.json": {"_class_name": "EulerDiscreteScheduler", **scheduler},
        "unet/config.json": {**spec["denoiser"], **changes},
        "vae/config.json": spec["vae"],
        "text_encoder/config.json": {"model_type": "clip_text_model", **spec["text_encoders"][0]["config"]},
        "text_encoder_2/config.json": {"model_type": "clip_text_model", **spec["text_encoders"][1]["config"]},
    }
    for name, content in files.items():
        content.pop("class", None)
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    return folder


def estimates(recipe: Any) -> list[tuple[float, float, float]]:
    return [(step.disk_gb or 0.0, step.memory_gb or 0.0, step.gpu_hours or 0.0) for step in plan(recipe).steps]


def test_a_fine_tune_under_another_name_costs_what_its_base_costs(tmp_path):
    """On SDXL's classes in full size, built twice on the meta device; the base's own costs are the table's. 5 s."""
    folder = write_small_files(tmp_path / "my-style")
    base, tuned = load_recipe("sdxl"), load_recipe("sdxl", [f"model.path={folder}"])
    assert sum(estimates(tuned), ()) == pytest.approx(sum(estimates(base), ()), rel=1e-3)
    says = f"memory and time are those of {SDXL} in the table of published models"
    assert [says in plan(recipe).notes for recipe in (tuned, base)] == [False, True]


def test_one_file_and_its_folder_cost_the_same(tmp_path, fields):
    pipeline = build("stable_diffusion")
    pipeline.save_pretrained(tmp_path / "folder")
    save_as_one_file(pipeline, tmp_path / "one.safetensors")
    fields["model"] = {"path": str(tmp_path / "folder")}
    of_folder = parse_recipe(fields, source="small")
    fields["model"] = {"path": str(tmp_path / "one.safetensors"), "config": str(tmp_path / "folder")}
    of_file = parse_recipe(fields, source="small")
    found = estimates(of_file)
    assert found == estimates(of_folder)
    assert sum(hours > 0 for _, _, hours in found) == 4  # generate, encode, train and evaluate


@pytest.mark.parametrize("name", SMALL)
def test_every_family_is_counted_from_its_small_files(name, tmp_path, fields):
    """Parameters against those of the loaded networks; the LoRA is the recipe's own."""
    pipeline = build(name)
    pipeline.save_pretrained(tmp_path / "model")
    fields["model"] |= {"path": str(tmp_path / "model"), "sizes": [size_fields(size_of(pipeline, 64))]}
    fields["train"] |= {"rank": 2, "lora_targets": ["to_q"]}
    fields["generate"]["batch_size"], fields["evaluate"]["batch_size"] = 1, 2
    steps = {step.stage: step for step in plan(parse_recipe(fields, source="small")).steps}
    networks = {k: part for k, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    total = sum(p.numel() for part in networks.values() for p in part.parameters())
    # A batch of none: float32, and what CUDA takes.
    empty = 2 * (steps["generate"].memory_gb or 0) - (steps["evaluate"].memory_gb or 0)
    assert empty == pytest.approx(total * 4 / 1e9 + 1.5)
    layers = [m for k, m in denoiser_of(pipeline).named_modules() if k.endswith(".to_q")]
    lora = sum(2 * (layer.in_features + layer.out_features) for layer in layers)
    # Three checkpoints (every 2 of 6 steps) of weights and AdamW's two moments: 12 bytes a parameter.
    assert steps["train"].disk_gb == pytest.approx(3 * lora * 12 / 1e9)
    assert steps["train"].gpu_hours


@pytest.mark.slow
def test_another_size_of_model_is_another_estimate(tmp_path):
    """SDXL with one block instead of four in the innermost level: counted anew, on the meta device. Seconds."""
    whole = write_small_files(tmp_path / "whole", transformer_layers_per_block=[1, 1, 4])
    smaller = write_small_files(tmp_path / "smaller", transformer_layers_per_block=[1, 1, 1])
    train = [
        next(step for step in plan(load_recipe("sdxl", [f"model.path={folder}"])).steps if step.stage == "train")
        for folder in (whole, smaller)
    ]
    hours = [step.gpu_hours or 0.0 for step in train]
    assert 0 < hours[1] < 0.85 * hours[0]


def test_a_judge_is_counted_from_its_options_and_else_from_the_table(tmp_path):
    """A billion parameters in bfloat16 are 2 GB; in 4 bits half a gigabyte and their scales."""

    def score_gb(count_judge: Any, *settings: str) -> tuple[float | None, str]:
        found = plan(load_recipe("sd15", list(settings)), count_judge=count_judge)
        memory = next(step.memory_gb for step in found.steps if step.stage == "score")
        return memory and memory - 1.5, next(note for note in found.notes if "judge" in note)

    def unreadable(name: str, options: Any) -> int:
        raise JudgeError(f"judge {options['model']!r} cannot be read")

    assert score_gb(lambda name, options: 10**9)[0] == pytest.approx(2.0)
    assert score_gb(lambda name, options: 10**9, "judge.options.quantization=4bit")[0] == pytest.approx(0.516, abs=1e-3)
    memory, note = score_gb(unreadable)
    assert memory == pytest.approx(8292.2 * 2e-3)
    assert "table of published models" in note
    memory, note = score_gb(unreadable, "judge.options.model=nobody/judge")
    assert memory is None
    assert "no estimate of its time or memory (judge 'nobody/judge' cannot be read)" in note
    assert score_gb(None, "judge.options.model=nobody/judge")[0] is None


def test_the_quickstart_has_an_estimate():
    hours = [step.gpu_hours for step in plan(load_recipe("quickstart")).steps if step.gpu_hours is not None]
    assert 0 < sum(hours) < 1


def small_cogvideox() -> Parts:
    """CogVideoX in 2 layers of 128, with a narrow autoencoder."""
    t5 = {"vocab_size": 100, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 1, "num_heads": 4}
    return parts_of(
        {
            "pipeline": "CogVideoXPipeline",
            "denoiser": {
                "class": "CogVideoXTransformer3DModel", "num_attention_heads": 2, "num_layers": 2, "text_embed_dim": 64,
                "use_rotary_positional_embeddings": True,
            },
            "vae": {
                "class": "AutoencoderKLCogVideoX", "block_out_channels": [8, 8, 8, 8], "layers_per_block": 1,
                "norm_num_groups": 2, "sample_height": 192, "sample_width": 192,
            },
            "text_encoders": [{"class": "T5EncoderModel", "config": t5}],
        }
    )  # fmt: skip


def test_costs_of_one_size_give_those_of_another():
    """Counted at 192x128 with 9 frames, and what follows for 128x96 with 17, against a count of that. Seconds."""
    own, other, parts = Size(192, 128, 9, 8.0), Size(128, 96, 17, 8.0), small_cogvideox()
    entry = count(small_cogvideox(), own)
    with kernels_of_a_gpu():
        latents = encoded(parts, parts.pipeline(), other)
        work, peak = measure(lambda: predict(parts, parts.pipeline(), latents))
    assert denoiser_tmac(entry, other) == pytest.approx(work, rel=1e-3)
    assert min(entry["tmac"]["denoiser"]) > 0
    assert entry["frames_a_latent"] == 4
    kept = entry["activations_gb"]
    assert kept["sampling"] == pytest.approx(peak / 1e9, rel=0.5)
    assert kept["sampling"] < kept["plain"]
    assert kept["checkpointed"] < kept["plain"]
    tiled = entry["autoencoder"]["tiled_decode_gb"]  # of 96 pixels
    assert tiled < 0.8 * entry["autoencoder"]["decode_gb"]
    assert autoencoder_gb(entry, "decode", own, tiled=True) == tiled


def test_the_peak_of_a_calculation_by_hand():
    """(10, 20) by (20, 20), three times, in bfloat16: 3 x 4000 products; two results of 400 bytes exist at once."""
    x, w = zeros(10, 20), zeros(20, 20)
    work, peak = measure(lambda: ((x @ w) @ w) @ w)
    assert (work, peak) == (pytest.approx(3 * 4000 / 1e12), 800)
