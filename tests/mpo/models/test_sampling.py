import pytest
import torch

from mpo import MpoError
from mpo.data.encoded import EncodedPairs
from mpo.dependencies import STAGES
from mpo.models.families import find_family, sampling_arguments
from mpo.models.loading import load_pipeline
from mpo.models.sampling import Sample, make_samples, size_of
from mpo.recipe import Generate, parse_recipe
from mpo.run import run_recipe
from mpo.run_folder.latents import read_latents
from mpo.run_folder.media import read_pixels
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
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
