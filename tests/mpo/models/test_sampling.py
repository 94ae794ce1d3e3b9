import pytest

from mpo.models.sampling import Sample, make_samples, size_of
from mpo.recipe import Generate, parse_recipe
from tests.helpers.pipelines import build_pipeline
from tests.helpers.recipes import TRAIN_PROMPTS


def paint(samples: list[Sample], load=build_pipeline) -> dict[str, bytes]:
    settings = Generate(num_candidates=2, num_inference_steps=2, guidance_scale=1.0, batch_size=2)
    make_samples(load, samples, settings, description="paint")
    return {sample.file.name: sample.file.read_bytes() for sample in samples}


def samples_in(folder) -> list[Sample]:
    sizes = [(32, 32), (48, 32), (32, 32), (32, 32), (48, 32)]
    return [Sample(TRAIN_PROMPTS[k % 3], k, folder / f"{k}.png", size, {"seed": k}) for k, size in enumerate(sizes)]


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
    assert [size_of(recipe, prompt_id) for prompt_id in range(3)] == [(32, 32), (48, 32), (32, 32)]
