"""Each video family against its own pipeline: what it conditions on, predicts, encodes and adds; and the whole loop on it."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from mpo import MpoError
from mpo.models.checks import check_model
from mpo.models.families import denoiser_of, find_family, mu_of_tokens, shift_mu
from mpo.models.loading import load_pipeline
from mpo.models.lora import add_lora, load_lora
from mpo.models.noise import draw_timestep, is_flow, timestep_shift, trained_range
from mpo.models.sampling import Sample, make_samples, pixels_of
from mpo.recipe import Generate, parse_recipe, read_recipe
from mpo.run import run_recipe
from mpo.run_folder.latents import read_latents
from mpo.run_folder.media import read_pixels
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.sizes import Size, parse_size, size_fields
from tests.helpers.recipes import TRAIN_PROMPTS, settings_of, small_fields
from tests.helpers.video_pipelines import VIDEO_BUILDERS, build_video, sample_clips
from tests.reward.judges.stand_in_server import StandInServer

NAMES = list(VIDEO_BUILDERS)
SIZED = [pytest.param(name, size, id=f"{name}-{size.frames}") for name in NAMES for size in VIDEO_BUILDERS[name].sizes]
PROMPTS = [TRAIN_PROMPTS[0], TRAIN_PROMPTS[1] + " and a green heart"]


def as_exchanged(pipeline: Any, tensor: torch.Tensor, size: Size) -> torch.Tensor:
    """What a network takes or gives -> latents as families exchange them; LTX-Video's network has tokens."""
    if tensor.ndim == 5:
        return tensor
    step, scale = pipeline.vae_temporal_compression_ratio, pipeline.vae_spatial_compression_ratio
    assert size.frames
    return pipeline._unpack_latents(tensor, (size.frames - 1) // step + 1, size.height // scale, size.width // scale)


def pixels_for(size: Size) -> torch.Tensor:
    shape = (2, size.frames or 1, 3, size.height, size.width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "size"), SIZED)
@torch.no_grad()
def test_conditions_and_predictions_equal_the_pipelines_own_loop(name, size):
    """At two noise levels, so that Wan 2.2 A14B uses both of its networks; HunyuanVideo at a distilled guidance."""
    pipeline = build_video(name)
    family = find_family(pipeline)
    seen: list[tuple[str, Any, dict, Any]] = []
    networks = [n for n in ("unet", "transformer", "transformer_2") if getattr(pipeline, n, None) is not None]
    hooks = [
        getattr(pipeline, network).register_forward_hook(
            lambda m, args, kwargs, out, network=network: seen.append((network, args, kwargs, out[0])), with_kwargs=True
        )
        for network in networks
    ]
    guidance = 3.5 if name == "hunyuan_video" else 1.0
    sample_clips(pipeline, PROMPTS, size, guidance, output_type="latent")
    for hook in hooks:
        hook.remove()
    assert [network for network, *_ in seen] == (networks if len(networks) == 2 else networks * 2)
    conditioning = family.encode_prompts(pipeline, PROMPTS)
    extra = {"guidance": torch.full((2,), guidance), "fps": torch.tensor([size.fps] * 2)}
    for network, args, kwargs, prediction in seen:
        pipeline.tuned_network = network
        latents = as_exchanged(pipeline, args[0] if args else kwargs["hidden_states"], size)
        for key, value in conditioning.items():
            given = (
                kwargs[key][:: size.frames] if name == "animatediff" else kwargs[key]
            )  # it repeats them once a frame
            torch.testing.assert_close(value.to(given.dtype), given, rtol=0, atol=0, msg=key)
        raw = args[1] if len(args) > 1 else kwargs["timestep"]
        timesteps = (raw[:, 0] if raw.ndim == 2 else raw).reshape(-1).expand(2)
        ours = family.predict(pipeline, latents, timesteps, conditioning | extra)
        assert ours.shape == latents.shape
        torch.testing.assert_close(ours, as_exchanged(pipeline, prediction, size), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "size"), SIZED)
@torch.no_grad()
def test_encoding_is_the_inverse_of_the_pipelines_decoding(name, size, monkeypatch):
    """What the pipeline hands to the decoder, handed back by the encoder, comes out as the pipeline's latents."""
    pipeline = build_video(name)
    decoded = []
    decode = pipeline.vae.decode
    monkeypatch.setattr(pipeline.vae, "decode", lambda z, *a, **k: decoded.append(z) or decode(z, *a, **k))
    latents = as_exchanged(pipeline, sample_clips(pipeline, PROMPTS, size, output_type="latent"), size)
    sample_clips(pipeline, PROMPTS, size)
    taken = []
    monkeypatch.setattr(
        pipeline.vae,
        "encode",
        lambda x: taken.append(x) or SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: decoded[len(taken) - 1])),
    )
    pixels = pixels_for(size)
    encoded = find_family(pipeline).encode_media(pipeline, pixels)
    assert encoded.shape == latents.shape
    padded = int(
        name == "cogvideox_1_5" and latents.shape[1] * 4 - 3 > (size.frames or 0)
    )  # frames that are not decoded
    torch.testing.assert_close(encoded[:, padded:], latents[:, padded:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoded[:, :1], encoded[:, padded : padded + 1])
    given = torch.cat(taken)
    given = given.unflatten(0, pixels.shape[:2]) if given.ndim == 4 else given.movedim(1, 2)
    torch.testing.assert_close(given, pixels * 2 - 1)


@pytest.mark.parametrize(("name", "size"), SIZED)
@torch.no_grad()
def test_encoding_runs_on_the_real_autoencoder(name, size):
    pipeline = build_video(name)
    latents = as_exchanged(pipeline, sample_clips(pipeline, PROMPTS, size, output_type="latent"), size)
    encoded = find_family(pipeline).encode_media(pipeline, pixels_for(size))
    assert encoded.shape == latents.shape
    assert encoded.isfinite().all()
    torch.testing.assert_close(find_family(pipeline).encode_media(pipeline, pixels_for(size)), encoded, rtol=0, atol=0)


@pytest.mark.parametrize(("name", "size"), SIZED)
@torch.no_grad()
def test_kept_latents_are_those_that_the_pipeline_decodes(name, size, tmp_path):
    """Axis by axis as `encode_media` gives them; the clip beside them is what the pipeline makes of them."""
    pipeline = build_video(name)
    samples = [
        Sample(prompt, k, tmp_path / f"{k}.mp4", size, size.fps, {"k": k}, tmp_path / f"{k}.safetensors")
        for k, prompt in enumerate(PROMPTS)
    ]
    settings = Generate(num_candidates=2, num_inference_steps=2, guidance_scale=1.0, batch_size=2, keep_latents=True)
    make_samples(lambda: pipeline, samples, settings, description="")

    def made(output_type: str) -> Any:
        generator = [torch.Generator().manual_seed(k) for k in range(2)]
        return sample_clips(pipeline, PROMPTS, size, generator=generator, output_type=output_type)

    kept = torch.stack([read_latents(sample.latents) for sample in samples if sample.latents])
    torch.testing.assert_close(kept, as_exchanged(pipeline, made("latent"), size), rtol=0, atol=0)
    assert kept.shape == find_family(pipeline).encode_media(pipeline, pixels_for(size)).shape
    for sample, clip in zip(samples, pixels_of(SimpleNamespace(frames=made("pil"))), strict=True):
        np.testing.assert_array_equal(read_pixels(sample.file), clip)


@torch.no_grad()
def test_kept_latents_have_the_precision_of_encoding(tmp_path):
    """LTX-Video's loop is in float32 whatever its network's precision."""
    pipeline, size = build_video("ltx").to(torch.bfloat16), VIDEO_BUILDERS["ltx"].sizes[0]
    file = tmp_path / "0.safetensors"
    sample = Sample(PROMPTS[0], 0, tmp_path / "0.mp4", size, size.fps, {"k": 0}, file)
    settings = Generate(num_candidates=2, num_inference_steps=2, guidance_scale=1.0, batch_size=1, keep_latents=True)
    make_samples(lambda: pipeline, [sample], settings, description="")
    assert read_latents(file).dtype == find_family(pipeline).encode_media(pipeline, pixels_for(size)).dtype


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_noise_and_target_are_the_schedulers_own(name):
    """CogVideoX' scheduler shifts the signal-to-noise ratio and ends in pure noise; Wan has two schedulers of one flow."""
    pipeline = build_video(name)
    family, scheduler = find_family(pipeline), pipeline.scheduler
    latents, noise = torch.randn(2, 2, 4, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    if not is_flow(scheduler):
        timesteps = torch.tensor([10, scheduler.config.num_train_timesteps - 1])
        noisy, target = family.add_noise(pipeline, latents, noise, timesteps)
        torch.testing.assert_close(noisy, scheduler.add_noise(latents, noise, timesteps), rtol=1e-5, atol=1e-5)
        v = scheduler.config.prediction_type == "v_prediction"
        expected = scheduler.get_velocity(latents, noise, timesteps) if v else noise
        torch.testing.assert_close(target, expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(noisy[1], noise[1]) == name.startswith("cogvideox")
        return
    scheduler.set_timesteps(5, **({"mu": 0.8} if scheduler.config.get("use_dynamic_shifting") else {}))
    for k, t in enumerate(scheduler.timesteps):
        ours, v = family.add_noise(pipeline, latents[:1], noise[:1], scheduler.sigmas[k : k + 1] * 1000)
        assert float(t) == pytest.approx(float(scheduler.sigmas[k]) * 1000, abs=1)
        scheduler._step_index = k
        if hasattr(scheduler, "convert_model_output"):
            torch.testing.assert_close(
                scheduler.convert_model_output(v, sample=ours), latents[:1], rtol=1e-3, atol=1e-3
            )
        else:
            torch.testing.assert_close(ours, scheduler.scale_noise(latents[:1], t[None], noise[:1]))
            following = scheduler.sigmas[k + 1]
            expected = (1 - following) * latents[:1] + following * noise[:1]
            torch.testing.assert_close(scheduler.step(v, t, ours).prev_sample, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", VIDEO_BUILDERS["ltx"].sizes)
@torch.no_grad()
def test_ltx_trains_at_the_shift_that_it_samples_with(size):
    """Longer clips are shifted further."""
    pipeline = build_video("ltx")
    pipeline.scheduler.register_to_config(shift_terminal=None)  # depends on the number of steps
    latents = as_exchanged(pipeline, sample_clips(pipeline, PROMPTS, size, output_type="latent"), size)
    mu = shift_mu(find_family(pipeline), pipeline.scheduler, latents.shape[1:])
    assert mu == mu_of_tokens(pipeline.scheduler.config, 3 * 2 * {9: 2, 17: 3}[size.frames or 0])
    a = timestep_shift(settings_of(), pipeline.scheduler, mu)
    shares = torch.tensor([1.0, 0.5])
    torch.testing.assert_close(pipeline.scheduler.sigmas[:2], a * shares / (1 + (a - 1) * shares))


@torch.no_grad()
def test_ltx_is_told_each_clips_own_rate():
    pipeline = build_video("ltx")
    family = find_family(pipeline)
    conditioning = family.encode_prompts(pipeline, PROMPTS)
    noisy = torch.randn(2, 4, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([500.0, 500.0])
    both = family.predict(pipeline, noisy, timesteps, conditioning | {"fps": torch.tensor([8.0, 25.0])})
    for row, fps in enumerate([8.0, 25.0]):
        alone = family.predict(pipeline, noisy, timesteps, conditioning | {"fps": torch.full((2,), fps)})
        torch.testing.assert_close(both[row], alone[row])
        assert (both[1 - row] - alone[1 - row]).abs().max() > 1e-5


def clip_fields(model: Path, folder: Path, size: Size, judge: str = "http://127.0.0.1:1/v1") -> dict:
    """The small recipe for clips: two clips for each of two prompts; eight questions, so that no two clips are answered alike."""
    fields = small_fields(model, folder)
    (folder / "train.txt").write_text("\n".join(TRAIN_PROMPTS[:2]), "utf-8")
    (folder / "heldout.txt").write_text("a white ring in the night sky", "utf-8")
    fields["model"]["sizes"] = [size_fields(size)]
    fields["generate"] |= {"num_candidates": 2, "batch_size": 2}
    fields["evaluate"] |= {"num_seeds": 1, "batch_size": 2}
    fields["judge"] = {
        "name": "server", "checklist": "video", "questions": [f"{name}_{k}" for name in ("alignment", "clear") for k in (1, 2, 3, 4)],
        "options": {"base_urls": judge, "model": "tiny"},
    }  # fmt: skip
    fields["train"] |= {
        "num_steps": 5, "checkpoint_interval_steps": 5, "learning_rate": 5e-3, "beta": 5000.0, "num_draws": 1,
        "batch_size": 2,
    }  # fmt: skip
    return fields


@pytest.mark.parametrize(
    ("name", "size", "remedy"),
    [
        ("cogvideox_2b", [48, 32, 13, 8], r"multiples of 16 pixels and 8k\+1 frames; use \[48, 32, 17, 8\]"),
        ("cogvideox_1_5", [40, 32, 9, 8], r"multiples of 16 pixels.*; use \[32, 32, 9, 8\]"),
        ("animatediff", [24, 16, 16, 8], r"multiples of 8 pixels and at most 12 frames; use \[24, 16, 12, 8\]"),
        ("wan", [48, 32, 8, 16], r"multiples of 16 pixels and 4k\+1 frames; use \[48, 32, 9, 16\]"),
        ("wan_5b", [48, 32, 5, 24], r"multiples of 32 pixels.*; use \[64, 32, 5, 24\]"),
        ("ltx", [80, 64, 16, 25], r"multiples of 32 pixels and 8k\+1 frames; use \[64, 64, 17, 25\]"),
        ("hunyuan_video", [48, 32, 6, 24], r"multiples of 16 pixels and 4k\+1 frames; use \[48, 32, 5, 24\]"),
    ],
)
def test_a_size_that_a_model_cannot_make_is_refused_with_the_nearest(name, size, remedy, tmp_path):
    build_video(name).save_pretrained(tmp_path / "model")
    for good in VIDEO_BUILDERS[name].sizes:
        check_model(parse_recipe(clip_fields(tmp_path / "model", tmp_path, good), source=name))
    fields = clip_fields(tmp_path / "model", tmp_path, parse_size(size))
    with pytest.raises(MpoError, match=rf"model\.sizes holds \[.*\]: \w+ takes {remedy}"):
        check_model(parse_recipe(fields, source=name))


RUNS = ["cogvideox_1_5", "animatediff", "wan_a14b", "ltx", "hunyuan_video"]  # one of each family: they take seconds


@pytest.fixture(scope="module", params=RUNS)
def trained(request, tmp_path_factory) -> tuple[str, Path]:
    """Of Wan 2.2 A14B the network for low noise is tuned."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, five_steps(request.param, folder, "low" if request.param == "wan_a14b" else None)


def five_steps(name: str, folder: Path, expert: str | None = None) -> Path:
    """The small recipe's whole run on a family, five steps on the same pairs at the same noises; returns its folder."""
    build_video(name).save_pretrained(folder / "model")
    with StandInServer() as judge:
        fields = clip_fields(folder / "model", folder, VIDEO_BUILDERS[name].sizes[0], judge.url)
        fields["model"]["expert"] = expert
        run_recipe(parse_recipe(fields, source=name), folder / "run")
    return folder / "run"


@torch.no_grad()
@pytest.mark.parametrize("expert", ["high", "low"])
def test_an_expert_is_trained_on_the_noise_that_it_works_on(expert, tmp_path):
    """Wan 2.2 A14B hands over at timestep 875; its scheduler's shift (3) makes that the share 0.7 of the draws."""
    build_video("wan_a14b").save_pretrained(tmp_path / "model")
    fields = clip_fields(tmp_path / "model", tmp_path, VIDEO_BUILDERS["wan_a14b"].sizes[0])
    fields["model"]["expert"] = expert
    recipe = parse_recipe(fields, source=expert)
    check_model(recipe)
    pipeline = load_pipeline(recipe.model, without=("text_encoders", "other_expert"))
    assert ("transformer_2" if expert == "high" else "transformer") not in _present(pipeline)
    assert denoiser_of(pipeline) is pipeline.components["transformer" if expert == "high" else "transformer_2"]
    own = trained_range(recipe.train, pipeline.scheduler, expert, pipeline.config.boundary_ratio)
    assert own == pytest.approx((0.7, 1.0) if expert == "high" else (0.0, 0.7))
    settings = recipe.train.model_copy(update={"timestep_range": own})
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_timestep(settings, pipeline.scheduler, generator) for _ in range(400)]
    assert (min(drawn) >= 874.99, max(drawn) <= 875.01) == ((True, False) if expert == "high" else (False, True))
    assert min(abs(t - 875) for t in drawn) < 5

    fields["train"]["timestep_range"] = [0.2, 0.9]
    remedy = {"high": r"\[0.7, 1.0\]", "low": r"\[0.0, 0.7\]"}[expert]
    with pytest.raises(
        MpoError, match=rf"train.timestep_range=\[0.2, 0.9\]: the expert '{expert}' works within {remedy}"
    ):
        check_model(parse_recipe(fields, source=expert))
    fields["train"]["timestep_range"] = [0.8, 0.9] if expert == "high" else [0.2, 0.7]
    check_model(parse_recipe(fields, source=expert))


def test_a_recipe_says_which_of_two_experts_it_tunes(tmp_path):
    for name, expert, problem in [
        (
            "wan_a14b",
            None,
            "model.expert is missing: this WanPipeline has a network for high noise .*; give 'high' or 'low'",
        ),
        ("wan", "low", "model.expert='low': this model has one network for all noise; remove it"),
    ]:
        build_video(name).save_pretrained(tmp_path / name)
        fields = clip_fields(tmp_path / name, tmp_path, VIDEO_BUILDERS[name].sizes[0])
        fields["model"]["expert"] = expert
        with pytest.raises(MpoError, match=problem):
            check_model(parse_recipe(fields, source=name))


def test_one_file_of_a_pipeline_that_loads_none_is_refused(tmp_path):
    build_video("wan").save_pretrained(tmp_path / "model")
    (tmp_path / "wan.safetensors").write_bytes(b"")
    fields = clip_fields(tmp_path / "wan.safetensors", tmp_path, VIDEO_BUILDERS["wan"].sizes[0])
    fields["model"]["config"] = str(tmp_path / "model")
    with pytest.raises(MpoError, match=r"model.path='.*wan.safetensors': diffusers loads no WanPipeline from one file"):
        check_model(parse_recipe(fields, source="wan"))


@torch.no_grad()
def test_wans_autoencoder_stays_in_float32(tmp_path):
    """As its authors run it; the network takes its latents in its own precision, with a gradient to a LoRA in float32."""
    build_video("wan").save_pretrained(tmp_path / "model")
    size = VIDEO_BUILDERS["wan"].sizes[0]
    fields = clip_fields(tmp_path / "model", tmp_path, size)
    fields["model"] |= {"dtype": "bfloat16", "vae_tiling": True}
    recipe = parse_recipe(fields, source="wan")
    check_model(recipe)
    pipeline = load_pipeline(recipe.model)
    assert (pipeline.vae.dtype, pipeline.text_encoder.dtype, pipeline.transformer.dtype) == (
        torch.float32, torch.bfloat16, torch.bfloat16
    )  # fmt: skip
    family = find_family(pipeline)
    latents, conditioning = family.encode_media(pipeline, pixels_for(size)), family.encode_prompts(pipeline, PROMPTS)
    assert latents.dtype == torch.float32
    denoiser = add_lora(pipeline, recipe.train)
    with torch.enable_grad():
        family.predict(pipeline, latents, torch.tensor([500.0, 20.5]), conditioning).float().square().mean().backward()
    gradients = [p.grad for p in denoiser.parameters() if p.requires_grad]
    assert all(g is not None and g.dtype == torch.float32 for g in gradients)
    assert any(g.abs().max() > 0 for g in gradients)
    assert sample_clips(pipeline, PROMPTS, size, output_type="np").shape == (2, size.frames, size.height, size.width, 3)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "wan_euler"])
@torch.no_grad()
def test_each_stage_loads_what_it_needs(name, tmp_path):
    """Encoding no network that is tuned, training no text encoder; the rest works without them."""
    build_video(name).save_pretrained(tmp_path / "model")
    size = VIDEO_BUILDERS[name].sizes[0]
    model = parse_recipe(clip_fields(tmp_path / "model", tmp_path, size), source=name).model
    encoder = load_pipeline(model, without=("denoiser",))
    assert not {"unet", "transformer", "transformer_2", "motion_adapter"} & _present(encoder)
    family = find_family(encoder)
    latents = family.encode_media(encoder, pixels_for(size))
    conditioning = family.encode_prompts(encoder, PROMPTS) | {
        "fps": torch.tensor([size.fps] * 2),
        "guidance": torch.ones(2),
    }
    trainer = load_pipeline(model, without=("text_encoders",))
    assert not {"text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"} & _present(trainer)
    predicted = family.predict(trainer, latents, torch.tensor([500, 20]), conditioning)
    assert predicted.shape == latents.shape
    assert predicted.isfinite().all()


def _present(pipeline: Any) -> set[str]:
    return {name for name, part in pipeline.components.items() if part is not None}


@pytest.mark.parametrize("name", ["cogvideox_2b", "wan", "ltx", "hunyuan_video"])
@torch.no_grad()
def test_large_clips_go_through_the_autoencoder_in_tiles(name, tmp_path):
    """In space, and for autoencoders that take all frames at once, in time: no piece is larger than a tile.

    Takes a second: a clip must be larger than a tile.
    """
    build_video(name).save_pretrained(tmp_path / "model")
    fields = clip_fields(tmp_path / "model", tmp_path, Size(64, 64, 33, 8.0))
    fields["model"]["vae_tiling"] = True
    pipeline = load_pipeline(parse_recipe(fields, source=name).model, without=("denoiser", "text_encoders"))
    vae = pipeline.vae
    vae.enable_tiling(tile_sample_min_height=32, tile_sample_min_width=32)  # small, so that the clip may be small
    if hasattr(vae, "tile_sample_stride_height"):
        vae.tile_sample_stride_height = vae.tile_sample_stride_width = 32
    pieces = []
    vae.encoder.register_forward_pre_hook(lambda m, args: pieces.append(args[0].shape))
    latents = find_family(pipeline).encode_media(pipeline, pixels_for(Size(64, 64, 33, 8.0))[:1])
    assert latents.isfinite().all()
    assert len(pieces) > 4
    assert max(shape[2] for shape in pieces) <= 17
    assert max(shape[3] for shape in pieces) <= 40


def test_five_steps_move_the_margin_up(trained):
    """Takes seconds: every stage on every family, through its own classes."""
    _, folder = trained
    log = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    assert log[0]["loss"] == pytest.approx(np.log(2), abs=1e-3)
    assert all(entry["grad_norm"] > 0 for entry in log)
    assert log[-1]["margin"] > log[0]["margin"] + 1e-4
    assert (folder / "evaluation" / "report.html").exists()


def test_the_card_shows_clips_that_browsers_play(trained):
    """The strip holds the first held-out prompt at four strengths, side by side, in time."""
    _, folder = trained
    sizes = read_recipe(folder / "recipe.yaml").model.sizes
    assert sizes
    size = sizes[0]
    card = (folder / "lora" / "README.md").read_text()
    shown = re.findall(r'<video src="(.*?)"', card)
    assert shown[-1] == "samples/strengths.mp4"
    assert len(shown) >= 3
    for file in shown:
        with av.open(str(folder / "lora" / file)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.pix_fmt == "yuv420p"
            width = size.width * (4 if "strengths" in file else 1)
            frames = sum(1 for _ in container.decode(stream))
            assert (stream.width, stream.height, frames) == (
                width + width % 2,
                size.height + size.height % 2,
                size.frames,
            )


@torch.no_grad()
def test_the_stock_pipeline_takes_the_lora_at_its_strength(trained):
    """Alpha (8) differs from the rank (4); the clip is the one that evaluation made."""
    _, folder = trained
    run, recipe = RunFolder(folder), read_recipe(folder / "recipe.yaml")
    assert recipe.model.sizes
    size = recipe.model.sizes[0]
    own = load_pipeline(recipe.model)
    load_lora(add_lora(own, recipe.train), run.checkpoints / "step-000005" / "lora.safetensors")
    stock: Any = DiffusionPipeline.from_pretrained(recipe.model.path)
    stock.set_progress_bar_config(disable=True)
    into = {}
    if recipe.model.expert == "low":
        stock.tuned_network, into = "transformer_2", {"load_into_transformer_2": True}
    family = find_family(own)
    conditioning = family.encode_prompts(own, PROMPTS[:1]) | {
        "guidance": torch.ones(1),
        "fps": torch.tensor([size.fps]),
    }
    latents = family.encode_media(own, pixels_for(size)[:1])
    inputs = (latents, torch.tensor([500]), conditioning)
    base = family.predict(stock, *inputs)
    stock.load_lora_weights(str(run.lora), **into)
    loaded, expected = family.predict(stock, *inputs), family.predict(own, *inputs)
    effect = (expected - base).abs().max()
    assert effect > 1e-5
    assert (loaded - expected).abs().max() < 0.02 * effect
    adapted = [len(getattr(m, "peft_config", {})) for m in (denoiser_of(stock), denoiser_of(own))]
    assert adapted == [1, 1]

    row = next(r for r in read_table(run.evaluation_table, made_by="evaluate").to_pylist() if r["model"] == "tuned")
    prompts = {r["prompt_id"]: r["prompt"] for r in read_table(run.heldout_prompts, made_by="run").to_pylist()}
    generator = [torch.Generator().manual_seed(row["seed"])]
    prompt = [prompts[row["prompt_id"]]]
    frames = sample_clips(stock, prompt, size, generator=generator, output_type="pil")
    kept = read_pixels(run.samples / row["file"])
    (clip,) = pixels_of(SimpleNamespace(frames=frames))
    assert clip.shape == kept.shape == (size.frames, size.height, size.width, 3)
    assert np.abs(clip.astype(int) - kept).max() <= 1


def test_the_expert_for_high_noise_is_tuned_as_the_other_is(tmp_path):
    """Wan 2.2 A14B's second LoRA: a whole run, exported and loaded into its own network."""
    trained = "wan_a14b", five_steps("wan_a14b", tmp_path, "high")
    test_five_steps_move_the_margin_up(trained)
    test_the_stock_pipeline_takes_the_lora_at_its_strength(trained)
