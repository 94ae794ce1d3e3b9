"""Each family against its own pipeline: what it conditions on, predicts, encodes and adds; and the whole loop on it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, DDPMScheduler, DiffusionPipeline
from peft import PeftModel
from PIL import Image

from mpo import MpoError
from mpo.models.families import FAMILIES, denoiser_of, encode_latents, find_family, shift_mu
from mpo.models.loading import load_pipeline
from mpo.models.lora import add_lora, load_lora
from mpo.models.noise import is_flow, timestep_shift
from mpo.recipe import parse_recipe, read_recipe
from mpo.run import run_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.sizes import size_fields
from tests.helpers.pipelines import SMALL, Call, build, sample, size_of
from tests.helpers.recipes import TRAIN_PROMPTS, settings_of, small_fields
from tests.helpers.video_pipelines import VIDEO_BUILDERS, build_video

NAMES = list(SMALL)


def test_every_family_is_examined():
    """Here, or in test_video_families.py."""
    built = [*map(build, NAMES), *map(build_video, VIDEO_BUILDERS)]
    assert {type(pipeline).__name__ for pipeline in built} == set(FAMILIES)


@pytest.mark.parametrize("name", [*SMALL, *VIDEO_BUILDERS])
def test_every_family_names_modules_that_its_network_has(name):
    pipeline = build(name) if name in SMALL else build_video(name)
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    targets = find_family(pipeline).lora_targets(denoiser)
    modules = {f".{module}" for module, _ in denoiser.named_modules()}
    assert all(any(module.endswith(f".{target}") for module in modules) for target in targets)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_conditions_and_predictions_equal_the_pipelines_own_loop(name):
    """Prompts of different lengths; Flux at a distilled guidance."""
    pipeline = build(name)
    family = find_family(pipeline)
    small, seen = SMALL[name], list[Call]()

    def look(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        seen.append(small.call(pipeline, args, kwargs, output[0]))

    prompts = [TRAIN_PROMPTS[0], TRAIN_PROMPTS[1] + " and a green heart", "a circle"]
    for together in [[prompt] for prompt in prompts] if small.alone else [prompts]:
        seen.clear()
        hook = denoiser_of(pipeline).register_forward_hook(look, with_kwargs=True)
        sample(pipeline, together, small.guidance)
        hook.remove()
        conditioning = family.encode_prompts(pipeline, together)
        guidance = torch.full((len(together),), small.guidance)
        assert len(seen) == 3
        for call in seen:
            for key, value in conditioning.items():
                torch.testing.assert_close(value, call.given[key], rtol=0, atol=0, msg=key)
            timesteps = call.timesteps.reshape(-1).expand(len(together))
            ours = family.predict(pipeline, call.latents, timesteps, {**conditioning, "guidance": guidance})
            assert ours.shape == call.latents.shape == (len(together), *small.latent_shape)
            torch.testing.assert_close(ours, call.prediction, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_prediction_does_not_depend_on_what_is_beside_it(name):
    """Prompts of different lengths, encoded and predicted together and each by itself."""
    pipeline = build(name)
    family = find_family(pipeline)
    prompts = ["a circle", TRAIN_PROMPTS[1] + ", and a green heart" * 4, "a small circle"]
    noisy = torch.randn(3, *SMALL[name].latent_shape, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([300, 700, 900])
    conditioning = family.encode_prompts(pipeline, prompts)
    assert not any(value.all() for key, value in conditioning.items() if key.endswith("mask"))
    together = family.predict(pipeline, noisy, timesteps, {**conditioning, "guidance": torch.ones(3)})
    for row, prompt in enumerate(prompts):
        one = slice(row, row + 1)
        conditioning = {**family.encode_prompts(pipeline, [prompt]), "guidance": torch.ones(1)}
        alone = family.predict(pipeline, noisy[one], timesteps[one], conditioning)
        torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_checkpointing_changes_no_prediction(name):
    """Nor does training mode. Prompts of different lengths: a mask must not be lost on the way."""
    pipeline = build(name)
    family, denoiser = find_family(pipeline), denoiser_of(pipeline).eval()
    with torch.no_grad():
        conditioning = family.encode_prompts(pipeline, ["a circle", TRAIN_PROMPTS[1] + ", and a green heart" * 4])
    noisy = torch.randn(2, *SMALL[name].latent_shape, generator=torch.Generator().manual_seed(0))
    inputs = (pipeline, noisy, torch.tensor([300, 700]), {**conditioning, "guidance": torch.ones(2)})
    plain = family.predict(*inputs)
    denoiser.train()
    torch.testing.assert_close(family.predict(*inputs), plain, rtol=1e-5, atol=1e-6)
    denoiser.enable_gradient_checkpointing()
    torch.testing.assert_close(family.predict(*inputs), plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_encoding_is_the_inverse_of_the_pipelines_decoding(name, monkeypatch):
    """What the pipeline hands to the decoder, handed back by the encoder, comes out as the pipeline's latents."""
    pipeline = build(name)
    latents = SMALL[name].unpack(pipeline, sample(pipeline, TRAIN_PROMPTS[:2], output_type="latent").images)
    decoded = []
    decode = pipeline.vae.decode
    monkeypatch.setattr(pipeline.vae, "decode", lambda z, *a, **k: decoded.append(z) or decode(z, *a, **k))
    sample(pipeline, TRAIN_PROMPTS[:2])
    taken = []
    mode = SimpleNamespace(mode=lambda: decoded[0])
    monkeypatch.setattr(
        pipeline.vae,
        "encode",
        lambda x: (
            taken.append(x)
            or (SimpleNamespace(latent=decoded[0]) if name == "sana" else SimpleNamespace(latent_dist=mode))
        ),
    )
    size = size_of(pipeline)
    pixels = torch.rand(2, 3, size.height, size.width, generator=torch.Generator().manual_seed(0))
    encoded = find_family(pipeline).encode_media(pipeline, pixels)
    torch.testing.assert_close(encoded, latents, rtol=1e-4, atol=1e-5)
    seen = taken[0].reshape(2, -1, size.height, size.width)
    torch.testing.assert_close(seen[:, :3], pipeline.image_processor.normalize(pixels))
    assert (seen[:, 3:] == 1).all()  # opaque


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_encoding_runs_on_the_real_autoencoder(name):
    pipeline = build(name)
    size = size_of(pipeline)
    pixels = torch.rand(2, 3, size.height, size.width, generator=torch.Generator().manual_seed(0))
    encoded = find_family(pipeline).encode_media(pipeline, pixels)
    assert encoded.shape == (2, *SMALL[name].latent_shape)
    assert encoded.isfinite().all()
    torch.testing.assert_close(find_family(pipeline).encode_media(pipeline, pixels), encoded, rtol=0, atol=0)


def test_latents_that_an_autoencoder_spreads_are_those_that_the_pipeline_decodes():
    """Some fine-tunes of SDXL have a mean and a spread: the pipeline decodes latents * spread / scale + mean."""
    pipeline = build("stable_diffusion_xl")
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mean, std = [0.5, -1.0, 2.0, 0.0], [2.0, 0.5, 3.0, 1.0]
    with torch.no_grad():
        inner = pipeline.vae.encode(pixels * 2 - 1).latent_dist.mode()
        pipeline.vae.register_to_config(latents_mean=mean, latents_std=std)
        encoded = find_family(pipeline).encode_media(pipeline, pixels)
    spread, centre = (torch.tensor(each).view(1, -1, 1, 1) for each in (std, mean))
    torch.testing.assert_close(encoded * spread / pipeline.vae.config.scaling_factor + centre, inner)


def test_the_small_autoencoder_and_half_precision():
    pipeline = build("stable_diffusion_xl")
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        full = find_family(pipeline).encode_media(pipeline, pixels)
        pipeline.vae.to(torch.float16)  # SDXL's overflows there, and is used in float32
        half = find_family(pipeline).encode_media(pipeline, pixels)
        torch.testing.assert_close(half.float(), full, rtol=1e-2, atol=1e-2)
        assert pipeline.vae.dtype == half.dtype == torch.float16  # the UNet's
        channels = (8, 8)
        tiny = AutoencoderTiny(
            encoder_block_out_channels=channels, decoder_block_out_channels=channels, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), scaling_factor=0.7
        )  # fmt: skip
        torch.testing.assert_close(encode_latents(tiny, pixels) / 0.7, tiny.encode(pixels * 2 - 1).latents)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_perfect_prediction_leads_back_to_the_latents(name):
    """The target, taken for a prediction, is turned by the scheduler to the latents; noise is the scheduler's own."""
    pipeline = build(name)
    family = find_family(pipeline)
    small = SMALL[name]
    latents, noise = torch.randn(2, 2, *small.latent_shape, generator=torch.Generator().manual_seed(0))
    assert is_flow(pipeline.scheduler) == small.is_flow
    timesteps = torch.tensor([130.0, 720.0]) if small.is_flow else torch.tensor([10, 700])
    noisy, target = family.add_noise(pipeline, latents, noise, timesteps)
    if small.is_flow:
        s = (timesteps / 1000).view(-1, 1, 1, 1)
        torch.testing.assert_close(noisy - s * target, latents, rtol=1e-4, atol=1e-5)
        scheduler: Any = pipeline.scheduler
        if hasattr(scheduler, "convert_model_output"):
            scheduler.set_timesteps(5)
            for k, t in enumerate(scheduler.timesteps):
                ours, v = family.add_noise(pipeline, latents[:1], noise[:1], scheduler.sigmas[k : k + 1] * 1000)
                scheduler._step_index = k
                x0 = scheduler.convert_model_output(v, sample=ours)
                torch.testing.assert_close(x0, latents[:1], rtol=1e-3, atol=1e-3)
                assert float(t) == pytest.approx(float(scheduler.sigmas[k]) * 1000, abs=1)
        else:
            arguments = {"mu": 0.8} if scheduler.config.use_dynamic_shifting else {}
            scheduler.set_timesteps(5, **arguments)
            for k, t in enumerate(scheduler.timesteps):
                ours, v = family.add_noise(pipeline, latents[:1], noise[:1], t[None])
                torch.testing.assert_close(ours, scheduler.scale_noise(latents[:1], t[None], noise[:1]))
                scheduler._step_index = k
                ahead = scheduler.step(v, t, ours).prev_sample
                following = scheduler.sigmas[k + 1]
                if type(scheduler).__name__ == "FlowMatchLCMScheduler" and following > 0:
                    continue  # it went to the picture, and on to other noise
                torch.testing.assert_close(
                    ahead, (1 - following) * latents[:1] + following * noise[:1], rtol=1e-4, atol=1e-4
                )
        return
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    torch.testing.assert_close(noisy, scheduler.add_noise(latents, noise, timesteps))
    for k in range(2):
        step = scheduler.step(
            target[k : k + 1], int(timesteps[k]), noisy[k : k + 1], generator=torch.Generator().manual_seed(0)
        )
        torch.testing.assert_close(step.pred_original_sample, latents[k : k + 1], rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_timesteps_are_drawn_at_the_shift_that_the_pipeline_samples_with(name):
    """Of schedulers that shift by resolution; of three steps, the second is at 2/3 before it is shifted, or at 1/2."""
    pipeline = build(name)
    if not pipeline.scheduler.config.get("use_dynamic_shifting"):
        return
    num_steps = SMALL[name].shift_steps
    sample(pipeline, TRAIN_PROMPTS[:1], num_inference_steps=num_steps)
    mu = shift_mu(find_family(pipeline), pipeline.scheduler, SMALL[name].latent_shape)
    a = timestep_shift(settings_of(), pipeline.scheduler, mu)
    assert a != 1
    s = SMALL[name].second_share or 1 - 1 / num_steps
    assert float(pipeline.scheduler.sigmas[1]) == pytest.approx(a * s / (1 + (a - 1) * s), rel=1e-3)


def test_hidream_answers_alike_in_training_for_pictures_that_are_not_square():
    """64x256 latents in patches of 8: all 256 places are used; with 64x192 there are 64 without a patch."""
    pipeline = build("hidream_image")
    family = find_family(pipeline)
    with torch.no_grad():
        conditioning = family.encode_prompts(pipeline, TRAIN_PROMPTS[:2])
    for width in (256, 192):
        noisy = torch.randn(2, 4, 64, width, generator=torch.Generator().manual_seed(0))
        inputs = (pipeline, noisy, torch.tensor([300, 700]), conditioning)
        with torch.no_grad():
            pipeline.transformer.eval()
            expected = family.predict(*inputs)
        pipeline.transformer.train()
        assert expected.shape == noisy.shape
        torch.testing.assert_close(family.predict(*inputs), expected, rtol=1e-5, atol=1e-6)


def test_unknown_families_are_named():
    class NovelPipeline:
        pass

    with pytest.raises(MpoError, match=r"NovelPipeline.*StableDiffusionPipeline.*FluxPipeline"):
        find_family(NovelPipeline())


# Variants of another case, whose whole run says nothing new: v in place of epsilon, another size, another scheduler.
VARIANTS = ("stable_diffusion_v", "stable_diffusion_35_large", "hidream_image_dev")


@pytest.fixture(scope="module", params=[name for name in NAMES if name not in VARIANTS])
def trained(request, tmp_path_factory) -> tuple[str, Path]:
    return request.param, five_steps(request.param, tmp_path_factory.mktemp(request.param))


def five_steps(name: str, folder: Path) -> Path:
    """The small recipe's whole run on a family, five steps on the same pairs at the same noises; returns its folder."""
    pipeline = build(name)
    pipeline.save_pretrained(folder / "model")
    fields = small_fields(folder / "model", folder)
    fields["model"]["sizes"] = [size_fields(size_of(pipeline))]
    fields["train"] |= {
        "num_steps": 5,
        "checkpoint_interval_steps": 5,
        "learning_rate": 5e-3,
        "beta": 5000.0,
        "num_draws": 1,
    }
    fields["select"]["num_pairs"] = fields["train"]["batch_size"]
    run_recipe(parse_recipe(fields, source=name), folder / "run")
    return folder / "run"


def test_five_steps_move_the_margin_up(trained):
    _, folder = trained
    log = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    assert log[0]["loss"] == pytest.approx(np.log(2), abs=1e-3)
    assert all(entry["grad_norm"] > 0 for entry in log)
    assert log[-1]["margin"] > log[0]["margin"] + 1e-4
    assert (folder / "evaluation" / "report.html").exists()


@torch.no_grad()
def test_the_stock_pipeline_takes_the_lora_at_its_strength(trained):
    """Alpha (8) differs from the rank (4); the picture is the one that evaluation made."""
    name, folder = trained
    run, recipe = RunFolder(folder), read_recipe(folder / "recipe.yaml")
    own = load_pipeline(recipe.model)
    load_lora(add_lora(own, recipe.train), run.checkpoints / "step-000005" / "lora.safetensors")
    stock: Any = DiffusionPipeline.from_pretrained(recipe.model.path)
    stock.set_progress_bar_config(disable=True)
    family = find_family(own)
    conditioning = family.encode_prompts(own, TRAIN_PROMPTS[:1]) | {"guidance": torch.ones(1)}
    inputs = (torch.ones(1, *SMALL[name].latent_shape), torch.tensor([500]), conditioning)
    base = family.predict(stock, *inputs)
    if name == "pixart_sigma":  # diffusers has no LoRA loader for it
        stock.transformer = PeftModel.from_pretrained(stock.transformer, str(run.lora))
    else:
        stock.load_lora_weights(str(run.lora))
    loaded, expected = family.predict(stock, *inputs), family.predict(own, *inputs)
    effect = (expected - base).abs().max()
    assert effect > 1e-5
    assert (loaded - expected).abs().max() < 0.02 * effect

    row = next(r for r in read_table(run.evaluation_table, made_by="evaluate").to_pylist() if r["model"] == "tuned")
    prompts = {r["prompt_id"]: r["prompt"] for r in read_table(run.heldout_prompts, made_by="run").to_pylist()}
    image = sample(
        stock,
        [prompts[row["prompt_id"]]],
        num_inference_steps=2,
        scheduler_seed=row["seed"],
        generator=[torch.Generator().manual_seed(row["seed"])],
    ).images[0]
    kept = np.asarray(Image.open(run.samples / row["file"]), dtype=int)
    assert np.abs(np.asarray(image.convert("RGB"), dtype=int) - kept).max() <= 1
