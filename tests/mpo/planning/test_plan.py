import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.model_sizes import configs, count_spec
from mpo import MpoError
from mpo.cli import app
from mpo.dependencies import stages_of
from mpo.models.costs import denoiser_tmac
from mpo.models.families import FAMILIES
from mpo.planning.memory import model_costs
from mpo.planning.plan import plan
from mpo.planning.steps import Step
from mpo.planning.words import claims, figure, in_words
from mpo.recipe import load_recipe, parse_recipe, recipes_folder, shipped_recipes
from mpo.sizes import Size, parse_size

LARGE = [name for name in shipped_recipes() if not name.startswith("quickstart")]


def test_the_recipes_are_those_that_the_readme_names():
    pictures = {
        "flux-dev",
        "flux2-klein",
        "sana",
        "sd15",
        "sd35-medium",
        "sdxl",
        "sdxl-pickapic",
        "sdxl-total",
        "z-image",
    }
    assert set(LARGE) == pictures | {"cogvideox-2b", "cogvideox-5b", "ltx", "wan21-1.3b", "wan22-5b"}
    readme = (Path(__file__).parents[3] / "README.md").read_text("utf-8")
    assert all(f"`{name}`" in readme for name in LARGE)


@pytest.mark.parametrize("name", LARGE)
def test_a_shipped_recipe_is_planned_without_weights_or_hub(name, tmp_path, monkeypatch):
    """And says in its head what the plan computes."""
    recipe = load_recipe(name)
    found = plan(recipe)
    assert tuple(step.stage for step in found.steps) == stages_of(recipe)
    text = (recipes_folder() / f"{name}.yaml").read_text("utf-8")
    head = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))
    assert " ".join(claims(recipe)) in head
    assert any("not checked: the model" in note for note in found.notes)
    monkeypatch.setattr("mpo.planning.words.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1e13}))
    page = in_words(found, recipe, tmp_path / "run")
    assert f"{recipe.train.num_steps} steps of {recipe.train.batch_size} pairs" in page
    assert not (tmp_path / "run").exists()


def test_total_is_dominance_but_for_the_pairs():
    ours, theirs = load_recipe("sdxl"), load_recipe("sdxl-total")
    assert ours.model_dump(exclude={"name", "description", "select"}) == theirs.model_dump(
        exclude={"name", "description", "select"}
    )


def test_too_little_disk_is_an_error_with_the_plan(tmp_path, monkeypatch):
    monkeypatch.setattr("mpo.planning.words.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1e9}))
    result = CliRunner().invoke(app, ["run", "sd15", "--dry-run", "--output", str(tmp_path / "run")])
    assert isinstance(result.exception, MpoError)
    assert re.match(r"--output='.*': the run needs about \d+ GB and 1 GB are free; give ", str(result.exception))
    assert re.search(r"^generate .*^disk .*^done ", result.stdout, re.DOTALL | re.MULTILINE)


def test_a_mistake_is_found_before_the_hub_is_asked():
    with pytest.raises(MpoError, match="'Adam9' is unknown"):
        plan(load_recipe("sdxl", ["train.optimizer=Adam9"]))
    with pytest.raises(ValueError, match="has no option"):
        plan(load_recipe("sdxl", ["judge.options.modell=x"]))
    with pytest.raises(ValueError, match="no such dimension"):
        plan(load_recipe("sdxl", ["select.strategy=dimension:charm"]))


def test_a_local_mistake_is_no_note(fields):
    fields["prompts"]["train"] = "nowhere.txt"
    with pytest.raises(MpoError, match=r"nowhere\.txt"):
        plan(parse_recipe(fields, source="small"))


def stages(name: str, *settings: str) -> dict[str, Step]:
    return {step.stage: step for step in plan(load_recipe(name, list(settings))).steps}


def test_what_the_plan_says_of_training_by_hand():
    """SDXL in bfloat16: weights 2 bytes; the LoRA 16 bytes a parameter; activations of 2 x 4 pictures; the judge."""
    recipe = load_recipe("sdxl-pickapic")
    steps = stages("sdxl-pickapic")
    known = model_costs()["models"][recipe.model.path]
    assert sum(known["parameters"].values()) == pytest.approx(2567.5 + 83.7 + 817.7, rel=1e-4)
    held = sum(known["parameters"].values()) * 2e-3 + known["lora_millions"] / 2 * 16e-3 + 1.5
    training = held + 8 * (known["activations_gb"]["checkpointed"] + 0.5 * known["activations_gb"]["sampling"])
    assert steps["train"].memory_gb == pytest.approx(held + 8292.2 * 2e-3, rel=1e-6)
    assert steps["train"].peak_words == f" (when the judge validates; else {training:.0f} GB)"
    assert stages("sdxl-pickapic", "judge.options.dtype=auto")["train"].memory_gb == steps["train"].memory_gb
    alone = stages("sdxl-pickapic", "judge.options.model=other", "validation.batch_size=1")["train"]
    assert alone.memory_gb == pytest.approx(training, rel=1e-6)
    forward = sum(known["tmac"]["denoiser"])
    sampling = 128 * (100 * forward + known["autoencoder"]["decode_tmac"] + known["tmac"]["text"]) * 5
    pairs = 2000 * 16 * 2 * 4 * forward
    assert steps["train"].gpu_hours == pytest.approx(2 * (pairs + sampling) / (989 * 0.35) / 3600, rel=1e-6)
    assert [figure(v) for v in (0.0123, 3.14, 42.4, 318.0)] == ["0.012", "3.1", "42", "320"]


def test_what_the_plan_says_of_clips_by_hand():
    """CogVideoX-2B: 4 clips for each of 22,000 prompts, decoded in tiles; their bytes and latents over all frames."""
    steps = stages("cogvideox-2b")
    known = model_costs()["models"]["zai-org/CogVideoX-2b"]
    each = 100 * sum(known["tmac"]["denoiser"]) + known["autoencoder"]["decode_tmac"] + known["tmac"]["text"]
    assert steps["generate"].gpu_hours == pytest.approx(2 * 88_000 * each / (989 * 0.35) / 3600)
    assert steps["generate"].disk_gb == pytest.approx(88_000 * 720 * 480 * 49 * 1.2 / 1e9)
    weights = sum(known["parameters"].values()) * 2e-3
    assert steps["generate"].memory_gb == pytest.approx(weights + known["autoencoder"]["tiled_decode_gb"] + 1.5)
    whole = stages("cogvideox-2b", "model.vae_tiling=false", "generate.batch_size=2")["generate"]
    assert whole.memory_gb == pytest.approx(weights + 2 * known["autoencoder"]["decode_gb"] + 1.5)
    # 500 steps of 32 pairs see 16,000; 13 latent frames of 60x90 in 16 channels, and 226 tokens of 4096, in 2 bytes.
    assert known["encoded_values"] == {"sample": 13 * 60 * 90 * 16, "prompt": 226 * 4096}
    latents = (32_000 * 13 * 60 * 90 * 16 + 16_000 * 226 * 4096) * 2 / 1e9
    assert steps["encode"].disk_gb == pytest.approx(latents)


def test_text_encoders_are_held_in_training_only_if_it_validates():
    without = ("validation=null", "prompts.validation=null")
    known = model_costs()["models"]["zai-org/CogVideoX-2b"]
    lora = known["lora_millions"] * 4 * 16e-3  # rank 64, counted at 16
    held = (known["parameters"]["denoiser"] + known["parameters"]["vae"]) * 2e-3 + lora + 1.5
    training = stages("cogvideox-2b", *without)["train"]
    kept = known["activations_gb"]["checkpointed"] + 0.5 * known["activations_gb"]["sampling"]
    assert training.memory_gb == pytest.approx(held + 2 * kept)
    assert training.peak_words == ""


def test_attention_of_a_shorter_clip_is_less_than_its_share():
    """13 latent frames or 7: what attention costs goes with the square of that, all else with its share."""
    known = model_costs()["models"]["zai-org/CogVideoX-2b"]
    a, b, c = known["tmac"]["denoiser"]
    half = denoiser_tmac(known, Size(720, 480, 25, 8.0))
    assert half == pytest.approx(a + b * 7 / 13 + c * (7 / 13) ** 2)
    assert half < 7 / 13 * denoiser_tmac(known, parse_size(known["size"]))


def test_time_is_over_all_sizes_and_memory_at_the_largest():
    small, large, both = "[512, 512]", "[1024, 1024]", "[[512, 512], [1024, 1024]]"
    of_one = [stages("sdxl", f"model.sizes=[{size}]")["generate"] for size in (small, large)]
    mixed = stages("sdxl", f"model.sizes={both}")["generate"]
    assert mixed.memory_gb == of_one[1].memory_gb
    assert mixed.gpu_hours == pytest.approx(sum(step.gpu_hours or 0 for step in of_one) / 2)


def test_the_plan_says_which_gpus_a_recipe_fits_and_what_to_change():
    """SDXL with a judge of 17 GB beside it: too much for 24 GB."""
    found = plan(load_recipe("sdxl"))
    peak = max(step.memory_gb or 0 for step in found.steps)
    assert 24 < peak < 48
    assert found.fits[3:] == ["48 GB: fits", "80 GB: fits"]
    changes = found.fits[2].removeprefix("24 GB: fits with ").split(", ")
    assert max(step.memory_gb or 0 for step in plan(load_recipe("sdxl", changes)).steps) <= 24
    for change in changes:  # none is said in vain
        fewer = [other for other in changes if other != change]
        assert max(step.memory_gb or 0 for step in plan(load_recipe("sdxl", fewer)).steps) > 24


def test_a_gpu_that_is_too_small_whatever_one_changes():
    """HunyuanVideo's activations alone are above 12 GB, at its own size."""
    recipe = load_recipe("cogvideox-2b", ["model.path=hunyuanvideo-community/HunyuanVideo", "model.sizes=null"])
    line = plan(recipe).fits[0]
    assert line.startswith("12 GB: too small, ")
    assert "give smaller model.sizes" in line


def test_costs_are_what_the_benchmark_counts():
    """Stable Diffusion 1.5 counted anew, on the meta device, so that the table is what the code counts. Seconds."""
    name = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert count_spec(configs()[name]) == model_costs()["models"][name]


def test_costs_are_of_known_families():
    assert model_costs()["models"].keys() == configs().keys()
    assert model_costs()["judges"].keys() == configs("judges").keys()
    assert {known["pipeline"] for known in model_costs()["models"].values()} == set(FAMILIES)
