"""What of a model is checked before its weights load."""

import json

import pytest
from diffusers import EDMDPMSolverMultistepScheduler

from mpo import MpoError
from mpo.models.checks import check_model
from mpo.models.loading import ModelNotFoundError
from mpo.recipe import parse_recipe
from mpo.run import run_recipe
from mpo.runtime.hub import OfflineError
from tests.helpers.pipelines import SMALL, build
from tests.helpers.video_pipelines import build_video


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "stable_diffusion",
            {"model": {"sizes": [[36, 32]]}},
            r"sizes holds \[36, 32\]: Stable.* multiples of 8 pixels; use",
        ),
        ("flux", {"model": {"sizes": [[32, 40]]}}, r"FluxPipeline takes multiples of 16 pixels; use \[32, 32\]"),
        ("sana", {"model": {"sizes": [[48, 32]]}}, r"SanaPipeline takes multiples of 32 pixels"),
        (
            "stable_diffusion",
            {"model": {"sizes": [[32, 32, 9, 8]]}},
            r"model.sizes holds \[32, 32, 9, 8\], but StableDiffusionPipeline makes pictures; give \[width, height\]",
        ),
        (
            "stable_diffusion",
            {"judge": {"name": "vlm", "checklist": "video", "questions": "all", "options": {"model": "some/model"}}},
            "judge.checklist='video' is about videos, but StableDiffusionPipeline makes images; use .* such as 'image'",
        ),
        (
            "animatediff",
            {"model": {"sizes": [[32, 32]]}},
            r"model.sizes holds \[32, 32\], but AnimateDiffPipeline makes clips; give \[width, height, frames, frames a",
        ),
        (
            "animatediff",
            {"model": {"sizes": [[32, 32, 13, 8]]}},
            r"model.sizes holds \[32, 32, 13, 8\]: AnimateDiffPipeline takes .* at most 12 frames; use \[32, 32, 12, 8\]",
        ),
        (
            "animatediff",
            {"model": {"sizes": [[32, 32, 12, 8]]}},
            "judge.checklist='image' is about images, but AnimateDiffPipeline makes videos; use .* such as 'video-measured'",
        ),
        (
            "animatediff",
            {
                "model": {"sizes": [[32, 32, 12, 8]]},
                "judge": {"checklist": "video"},
                "train": {"lora_targets": ["to_q", "proj_in"]},
            },
            "motion modules cannot run with a LoRA on proj_in; .* name 'attentions.0.proj_in'",
        ),
        ("sana", {"model": {"vae_tiling": True}}, None),
        (
            "hidream_image",
            {"model": {"sizes": [[128, 64]]}},
            r"HiDreamImagePipeline takes multiples of 16 pixels and about 65536 pixels in all; use \[352, 176\]",
        ),
        ("hidream_image_dev", {"model": {"sizes": [[256, 256]]}}, None),
        ("stable_diffusion_xl", {"train": {"timestep_shift": 3.0}}, "timestep_shift=3.0 is used by flow models alone"),
        ("stable_diffusion_3", {"train": {"distilled_guidance": 3.5}}, "has no distilled guidance; remove it"),
        ("flux", {"train": {"lora_targets": ["to_nothing"]}}, r"lora_targets=\['to_nothing'\] cannot be adapted"),
        ("sana", {"train": {"attention": "xformers"}}, "cannot replace this model's Sana.*Linear"),
        ("stable_diffusion", {"train": {"batch_size": 4, "micro_batch_size": 4}}, None),
        ("stable_diffusion_3", {"train": {"lora_targets": ["to_q"], "attention": "xformers"}}, None),
        ("flux", {"train": {"timestep_shift": 3.0}}, None),
        (
            "stable_diffusion",
            {"generate": {"scheduler": "FlowMatchEulerDiscreteScheduler"}},
            r"^generate.scheduler='FlowMatchEulerDiscreteScheduler' does not fit a model whose scheduler is DDIMScheduler",
        ),
        (
            "flux",
            {"evaluate": {"scheduler": "DDIMScheduler"}},
            "^evaluate.scheduler='DDIMScheduler' samples no flow, and this model is one; use UniPC",
        ),
        (
            "flux",
            {"generate": {"guidance_scale": 3.5, "guidance_range": [0.0, 0.5]}},
            r"^generate.guidance_range=\[0.0, 0.5\]: FluxPipeline takes guidance into its one pass, so none",
        ),
        (
            "z_image",
            {"generate": {"guidance_scale": 3.5, "guidance_range": [0.0, 0.5]}},
            r"^generate.guidance_range=\[0.0, 0.5\]: ZImagePipeline makes its passes in a way of its own",
        ),
        (
            "stable_diffusion",
            {"generate": {"guidance_scale": 3.5, "guidance_range": [0.0, 0.5], "scheduler": "UniPCMultistepScheduler"}},
            None,
        ),
    ],
)
def test_what_a_model_cannot_take_is_named_before_anything_is_written(name, changes, message, fields, tmp_path):
    (build if name in SMALL else build_video)(name).save_pretrained(tmp_path / "model")
    fields["model"]["path"] = str(tmp_path / "model")
    for section, values in changes.items():
        fields[section] |= values
    recipe = parse_recipe(fields, source="small")
    if message is None:
        run_recipe(recipe, tmp_path / "run", stages=())
        return
    with pytest.raises(MpoError, match=message):
        run_recipe(recipe, tmp_path / "run", stages=())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("null", [False, True])
def test_a_model_published_without_a_part_is_refused(null, fields, tmp_path):
    """As HiDream-I1 is without its Llama; the index leaves it out, or says null."""
    build("hidream_image").save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "model_index.json"
    index = json.loads(file.read_text())
    for name in ("text_encoder_4", "tokenizer_4"):
        index.pop(name)
        index |= {name: [None, None]} if null else {}
    file.write_text(json.dumps(index))
    fields["model"]["path"] = str(tmp_path / "model")
    with pytest.raises(MpoError, match=r"is without text_encoder_4 and tokenizer_4, which HiDreamImagePipeline needs"):
        check_model(parse_recipe(fields, source="small"))


def test_a_network_whose_experts_let_no_gradient_through_is_refused(fields, tmp_path):
    pipeline = build("hidream_image")
    pipeline.transformer.register_to_config(force_inference_output=True)
    pipeline.save_pretrained(tmp_path / "model")
    fields["model"]["path"] = str(tmp_path / "model")
    with pytest.raises(MpoError, match=r"config\.json has force_inference_output=true.*set it to false"):
        check_model(parse_recipe(fields, source="small"))


@pytest.mark.parametrize("section", ["generate", "evaluate"])
def test_guidance_that_a_distilled_pipeline_ignores_is_refused(section, fields, tmp_path):
    """FLUX.2 klein in four steps; its base takes guidance."""
    pipeline = build("flux2_klein")
    fields["model"] |= {"path": str(tmp_path / "model"), "sizes": [[32, 32]]}
    fields[section]["guidance_scale"] = 4.0
    recipe = parse_recipe(fields, source="small")
    pipeline.save_pretrained(tmp_path / "model")
    check_model(recipe)
    pipeline.register_to_config(is_distilled=True)
    pipeline.save_pretrained(tmp_path / "model")
    with pytest.raises(
        MpoError, match=rf"^{section}.guidance_scale=4: this Flux2KleinPipeline is distilled and ignores"
    ):
        check_model(recipe)


def test_a_setting_that_the_file_leaves_out_has_its_classs_default(fields, tmp_path):
    """FLUX.2-dev takes guidance into its one pass; a file may be older than the setting that says so."""
    build("flux2").save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "transformer" / "config.json"
    config = json.loads(file.read_text())
    assert config.pop("guidance_embeds") is True
    file.write_text(json.dumps(config))
    fields["model"] |= {"path": str(tmp_path / "model"), "sizes": [[32, 32]]}
    fields["train"]["distilled_guidance"] = 3.5
    check_model(parse_recipe(fields, source="small"))
    fields["generate"] |= {"guidance_scale": 4.0, "guidance_range": [0.0, 0.5]}
    with pytest.raises(MpoError, match="takes guidance into its one pass"):
        check_model(parse_recipe(fields, source="small"))


def test_a_unet_with_guidance_as_a_condition_is_refused(fields, tmp_path):
    pipeline = build("stable_diffusion")
    pipeline.unet.register_to_config(time_cond_proj_dim=32)
    pipeline.save_pretrained(tmp_path / "model")
    fields["model"]["path"] = str(tmp_path / "model")
    with pytest.raises(MpoError, match=r"as latent consistency models do.*; use the model that it was distilled from"):
        check_model(parse_recipe(fields, source="small"))


def test_schedulers_that_scale_what_the_network_sees_are_refused(fields, tmp_path):
    """An SDXL pipeline may hold one; it says "epsilon" and means something else."""
    pipeline = build("stable_diffusion_xl")
    pipeline.scheduler = EDMDPMSolverMultistepScheduler()
    pipeline.save_pretrained(tmp_path / "model")
    fields["model"]["path"] = str(tmp_path / "model")
    with pytest.raises(MpoError, match=r"EDMDPMSolverMultistepScheduler has no schedule of betas"):
        check_model(parse_recipe(fields, source="small"))
    pipeline = build("stable_diffusion")
    pipeline.scheduler.register_to_config(prediction_type="sample")
    pipeline.save_pretrained(tmp_path / "model")
    with pytest.raises(MpoError, match=r"prediction_type='sample' cannot be trained"):
        check_model(parse_recipe(fields, source="small"))


def test_a_model_that_is_not_there_is_named(fields):
    fields["model"]["path"] = "nobody/nothing"
    with pytest.raises(OfflineError, match=r"model.path='nobody/nothing': the hub cannot be reached \(offline\?\)"):
        check_model(parse_recipe(fields, source="small"))
    fields["model"]["path"] = "./nothing"
    with pytest.raises(ModelNotFoundError, match=r"model.path='./nothing' cannot be loaded"):
        check_model(parse_recipe(fields, source="small"))
