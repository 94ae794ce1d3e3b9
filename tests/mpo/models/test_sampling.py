import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import UniPCMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st

from mpo import MpoError
from mpo.data.encoded import EncodedPairs
from mpo.dependencies import STAGES, examine
from mpo.models.families import find_family, sampling_arguments
from mpo.models.loading import load_pipeline
from mpo.models.sampling import Sample, Sampling, draw_samples, make_samples, samples_for, size_of
from mpo.recipe import Generate, dump_recipe, parse_recipe, read_recipe
from mpo.run import run_recipe
from mpo.run_folder.files import write_text
from mpo.run_folder.latents import read_latents
from mpo.run_folder.media import read_pixels
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.runtime.pieces import do_share
from mpo.sizes import Size
from tests.helpers.pipelines import SMALL, build, build_pipeline
from tests.helpers.recipes import TRAIN_PROMPTS


def paint(samples: list[Sample], load=build_pipeline) -> dict[str, bytes]:
    settings = Generate(num_candidates=2, num_inference_steps=2, guidance_scale=1.0, batch_size=2)
    make_samples(load, samples, settings, description="paint")
    return {sample.file.name: sample.file.read_bytes() for sample in samples}


def samples_in(folder) -> list[Sample]:
    sizes = [Size(32, 32), Size(48, 32), Size(32, 32), Size(32, 32), Size(48, 32)]
    return [
        Sample(TRAIN_PROMPTS[k % 3], k, folder / f"{k}.png", size, None, {"seed": k}) for k, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("missing", [[0], [1, 3], [4, 2, 0]], ids=str)
def test_missing_pictures_come_out_as_the_whole_did(missing, tmp_path):
    """Rounding depends on a batch's make-up: their batches are sampled as before. Those that are there stay."""
    whole = paint(samples_in(tmp_path))
    for k in missing:
        (tmp_path / f"{k}.png").unlink()
    kept = {k: (tmp_path / f"{k}.png").stat().st_mtime_ns for k in range(5) if k not in missing}
    assert paint(samples_in(tmp_path)) == whole
    assert {k: (tmp_path / f"{k}.png").stat().st_mtime_ns for k in kept} == kept


def test_a_piece_that_is_done_again_is_sampled_and_its_files_stay(tmp_path):
    """Processes whose forwards gather weights from all must make equally many, whatever is there already."""
    whole, asked = paint(samples_in(tmp_path)), []
    pipeline = build_pipeline()
    pipeline.unet.register_forward_pre_hook(lambda *_: asked.append(1))
    settings = Generate(num_candidates=2, num_inference_steps=2, guidance_scale=1.0, batch_size=2)
    work = Sampling(lambda: pipeline, samples_in(tmp_path), settings, description="paint")
    work.do(pipeline, work.pieces[0], lambda count: None)
    assert len(asked) == 2
    assert paint(samples_in(tmp_path)) == whole


def test_a_picture_in_anothers_place_is_made_again(tmp_path):
    whole = paint(samples_in(tmp_path))
    (tmp_path / "1.png").write_bytes(whole["4.png"])
    (tmp_path / "0.png").write_bytes(whole["0.png"][:200])
    assert paint(samples_in(tmp_path)) == whole


def test_no_model_is_loaded_where_nothing_is_missing(tmp_path):
    paint(samples_in(tmp_path))
    paint(samples_in(tmp_path), load=lambda: pytest.fail("loaded"))


@given(st.integers(0, 40), st.integers(1, 5), st.integers(1, 4), st.integers(1, 15))
def test_every_sample_is_in_one_batch_of_its_size_and_block(count, num_sizes, batch_size, block):
    """The block is a multiple of the number of sizes, as samples_for's folders are; pieces are those of their block, in order."""
    block *= num_sizes
    settings = Generate(num_candidates=2, num_inference_steps=1, guidance_scale=1.0, batch_size=batch_size)
    samples = [Sample("", k, Path(f"{k}.png"), Size(8 * (1 + k % num_sizes), 8), None, {}) for k in range(count)]
    for records in (None, Path("records")):
        work = Sampling(build_pipeline, samples, settings, description="", records=records, block=block)
        pieces = list(work.pieces)
        assert pieces == [piece for k in range(work.num_blocks) for piece in work.of_block(k)]
        batches = [[samples[place] for place in batch] for piece in pieces for batch in piece.content.places]
        assert sorted(sample.seed for batch in batches for sample in batch) == list(range(count))
        assert all(len({(s.size, s.seed // block) for s in batch}) == 1 for batch in batches)
        full = sum(len(batch) == batch_size for batch in batches)
        assert len(batches) - full <= num_sizes * work.num_blocks
        assert len({piece.files for piece in pieces}) == len(pieces)


def test_what_a_record_names_is_done_whatever_its_files_are(tmp_path):
    """So that work that goes on looks at no file; a record of other work does not count."""
    settings = Generate(num_candidates=2, num_inference_steps=2, guidance_scale=1.0, batch_size=2)

    def sampling(samples: list[Sample], load=build_pipeline) -> Sampling:
        return Sampling(load, samples, settings, description="paint", records=tmp_path / "records", block=4)

    samples = samples_in(tmp_path / "samples")
    first = sampling(samples)
    do_share(first)
    made = [first.made_of(piece) for piece in first.pieces]
    assert [place for rows in made for place in rows["place"]] == [0, 2, 3, 1, 4]
    shutil.rmtree(tmp_path / "samples")
    again = sampling(samples, lambda: pytest.fail("loaded"))
    do_share(again)
    assert [again.made_of(piece) for piece in again.pieces] == made
    do_share(sampling([replace(sample, origin={"seed": -1}) for sample in samples]))
    assert len(list((tmp_path / "samples").iterdir())) == 5


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # of the recipe, and of what samples are asked for
    "steps": ({"generate.num_inference_steps": 3}, {}),
    "scheduler": ({"generate.scheduler": "UniPCMultistepScheduler"}, {}),
    "sizes": ({"model.sizes": [[32, 32], [48, 32]]}, {}),
    "dtype": ({"model.dtype": "bfloat16"}, {}),
    "seed": ({}, {"seed": 1}),
    "purpose": ({}, {"purpose": "evaluation"}),
    "latents": ({}, {"keep_latents": True}),
    "prompt": ({}, {"prompts": [{"prompt_id": 0, "prompt": "another"}]}),
    "place of the prompt": ({}, {"prompts": [{"prompt_id": 1, "prompt": "one"}]}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_pieces_name_changes_with_what_its_samples_are(change, fields, tmp_path):
    """Though no sample is made for it."""

    def name(of_recipe: Mapping[str, Any] = {}, asked: Mapping[str, Any] = {}) -> str:
        for key, value in of_recipe.items():
            section, field = key.split(".")
            fields[section][field] = value
        recipe = parse_recipe(fields, source="small")
        assert recipe.generate is not None
        given: dict[str, Any] = {"prompts": [{"prompt_id": 0, "prompt": "one"}], "purpose": "candidates", "seed": 0}
        samples = samples_for(
            recipe=recipe, settings=recipe.generate, folder=tmp_path, num_seeds=2, in_folders=True, **{**given, **asked}
        )
        work = Sampling(build_pipeline, samples, recipe.generate, description="", records=tmp_path, block=2)
        return work.name(work.pieces[0])

    assert name() == name() != name(*CHANGES[change])


def test_sizes_are_taken_in_turn(fields):
    fields["model"]["sizes"] = [[32, 32], [48, 32]]
    recipe = parse_recipe(fields, source="small")
    assert [size_of(recipe, prompt_id) for prompt_id in range(3)] == [Size(32, 32), Size(48, 32), Size(32, 32)]


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_kept_latents_are_those_that_the_pipeline_decodes(name, tmp_path):
    """In the form that encoding gives: unpacked, on the scale of the network, for each family."""
    pipeline = build(name)
    settings = Generate(num_candidates=2, num_inference_steps=3, guidance_scale=1.0, batch_size=2)
    sizes = Size(*SMALL[name].wide)
    samples = [
        Sample(prompt, k, tmp_path / f"{k}.png", sizes, None, {"k": k}, tmp_path / f"{k}.safetensors")
        for k, prompt in enumerate(TRAIN_PROMPTS[:2])
    ]
    make_samples(lambda: pipeline, samples, settings, description="")
    arguments = sampling_arguments(pipeline, guidance_scale=1.0, num_prompts=2, size=sizes)
    generators = [torch.Generator().manual_seed(k) for k in range(2)]
    torch.manual_seed(samples[0].seed)  # of noise that a scheduler adds by itself
    given = pipeline(
        prompt=TRAIN_PROMPTS[:2], num_inference_steps=3, generator=generators, output_type="latent", **arguments
    )
    kept = torch.stack([read_latents(tmp_path / f"{k}.safetensors") for k in range(2)])
    encoded = find_family(pipeline).encode_media(pipeline, torch.zeros(2, 3, sizes.height, sizes.width))
    assert kept.shape == encoded.shape
    expected = SMALL[name].unpack(pipeline, given.images, sizes.width, sizes.height)
    torch.testing.assert_close(kept, expected, rtol=0, atol=SMALL[name].unpack_error)


def test_kept_latents_are_trained_on_and_watched(fields, tmp_path):
    """They differ from what the autoencoder makes of the picture; a flipped byte is named and made right."""
    fields["generate"]["keep_latents"] = True
    recipe, run = parse_recipe(fields, source="kept"), RunFolder(tmp_path / "run")
    run_recipe(recipe, run.folder, stages=STAGES[:4])
    rows = read_table(run.candidates_table, made_by="generate").to_pylist()
    encoded = EncodedPairs(run)
    chosen = read_table(run.pairs, made_by="select").to_pylist()[0]["chosen_id"]
    latents = read_latents(run.candidates / rows[chosen]["latents"])
    torch.testing.assert_close(encoded.latents([chosen])[0], latents, rtol=0, atol=0)
    pipeline = load_pipeline(recipe.model)
    pixels = torch.from_numpy(read_pixels(run.candidates / rows[chosen]["file"])).movedim(-1, -3)[None] / 255
    again = find_family(pipeline).encode_media(pipeline, pixels)[0]
    assert not torch.allclose(again, latents, atol=1e-3)
    victim = run.candidates / rows[3]["latents"]
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(MpoError, match=rf"{victim.name} is not what stage generate wrote.*--repair"):
        run_recipe(recipe, run.folder, stages=STAGES[:4])
    run_recipe(recipe, run.folder, stages=STAGES[:4], repair=True)
    assert victim.read_bytes() == whole


def settings_with(**changes) -> Generate:
    fields = {"num_candidates": 2, "num_inference_steps": 4, "guidance_scale": 3.0, "batch_size": 2}
    return Generate.model_validate(fields | changes)


def test_a_batch_is_sampled_as_the_recipe_says(tmp_path):
    """By diffusers itself: its sampler from the model's configuration. The pipeline is as before afterwards."""
    pipeline, samples = build_pipeline(), samples_in(tmp_path)[2:4]
    own = pipeline.scheduler
    [made, _] = draw_samples(pipeline, samples, settings_with(scheduler="UniPCMultistepScheduler"))
    [guided, _] = draw_samples(pipeline, samples, settings_with(guidance_range=[0.0, 1.0]))
    [half, _] = draw_samples(pipeline, samples, settings_with(guidance_range=[0.0, 0.5]))
    assert pipeline.scheduler is own
    generators = [torch.Generator().manual_seed(sample.seed) for sample in samples]
    arguments = {
        "prompt": [s.prompt for s in samples],
        "num_inference_steps": 4,
        "guidance_scale": 3.0,
        "width": 32,
        "height": 32,
    }
    assert (np.asarray(pipeline(**arguments, generator=generators).images[0]) == guided).all()
    assert (half != guided).any()
    pipeline.scheduler = UniPCMultistepScheduler.from_config(own.config)
    generators = [torch.Generator().manual_seed(sample.seed) for sample in samples]
    assert (np.asarray(pipeline(**arguments, generator=generators).images[0]) == made).all()


def test_pictures_name_what_made_them_and_nothing_that_is_not_set(fields, tmp_path):
    """So pictures from before there were these settings are still those of a recipe without them."""
    rows = [{"prompt_id": 0, "prompt": TRAIN_PROMPTS[0]}]

    def origin(**changes):
        recipe = parse_recipe(
            {**fields, "generate": {**fields["generate"], "guidance_scale": 2.0, **changes}}, source="x"
        )
        assert recipe.generate is not None
        [sample] = samples_for(
            rows, recipe, recipe.generate, folder=tmp_path, purpose="candidates", seed=0, num_seeds=1
        )
        return sample.origin

    plain = origin()
    assert list(plain) == [
        "prompt", "seed", "size", "model", "identity", "dtype", "num_inference_steps", "guidance_scale", "batch_size", "lora",
    ]  # fmt: skip
    named = {"scheduler": "UniPCMultistepScheduler", "guidance_range": [0.0, 0.5], "compile": True}
    assert origin(**named) == {**plain, **named}


def test_a_run_from_before_these_settings_stays_as_it_is(finished, fields, tmp_path):
    """Its recipe and manifests lack them. Another value is another recipe."""
    run = RunFolder(shutil.copytree(finished, tmp_path / "run"))
    held = yaml.safe_load(run.recipe.read_text("utf-8"))
    for section in ("generate", "evaluate"):
        for name in ("scheduler", "guidance_range", "compile"):
            del held[section][name]
    run.recipe.write_text(yaml.safe_dump(held, sort_keys=False), "utf-8")
    assert "guidance_range" not in "".join(file.read_text("utf-8") for file in run.manifests.iterdir())
    recipe = read_recipe(run.recipe)
    assert {examine(run, recipe, stage).state for stage in STAGES} == {"done"}
    assert recipe.generate is not None
    settings = recipe.generate.model_copy(update={"scheduler": "UniPCMultistepScheduler"})
    verdict = examine(run, recipe.model_copy(update={"generate": settings}), "generate")
    assert (verdict.state, "generate.scheduler='UniPCMultistepScheduler'" in verdict.why) == ("stale", True)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.slow
def test_a_compiled_network_samples_the_same(finished, fields, tmp_path):
    """generate.compile and evaluate.compile: all but rounding, also where only some of the steps are guided."""
    fields["generate"] |= {"compile": True, "guidance_scale": 3.0, "guidance_range": [0.0, 0.5]}
    fields["evaluate"] |= {"compile": True}
    recipe = parse_recipe(fields, source="small")
    write_text(tmp_path / "recipe.yaml", dump_recipe(recipe))
    code = f"""
import numpy as np
from mpo.models.lora import load_with_lora
from mpo.models.sampling import draw_samples, samples_for
from mpo.recipe import read_recipe
from pathlib import Path
from typing import Any
recipe = read_recipe(Path({str(tmp_path / "recipe.yaml")!r}))
rows = [{{"prompt_id": 0, "prompt": "a red circle on a white background"}}]
for settings in (recipe.generate, recipe.evaluate):
    samples = samples_for(rows, recipe, settings, folder=Path("x"), purpose="candidates", seed=0, num_seeds=2)
    pipelines = [load_with_lora(recipe, None, compiled=compiled) for compiled in (False, True)]
    plain, compiled = (np.stack(draw_samples(pipeline, samples, settings)).astype(int) for pipeline in pipelines)
    blocks = [module for module in pipelines[1].unet.modules() if module._compiled_call_impl is not None]
    assert blocks and not any(module._compiled_call_impl is not None for module in pipelines[0].unet.modules())
    assert abs(plain - compiled).max() <= 2, abs(plain - compiled).max()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )  # compilation leaves threads
    assert done.returncode == 0, done.stderr
