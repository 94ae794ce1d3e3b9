import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpo import MpoError
from mpo.data.encoded import EncodedPairs
from mpo.dependencies import STAGES
from mpo.models.families import find_family, sampling_arguments
from mpo.models.loading import load_pipeline
from mpo.models.sampling import Sample, Sampling, make_samples, size_of
from mpo.recipe import Generate, parse_recipe
from mpo.run import run_recipe
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
        batches = [batch for piece in pieces for batch in piece.content.samples]
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
