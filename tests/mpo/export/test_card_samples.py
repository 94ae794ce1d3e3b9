import numpy as np

from mpo.export.card_samples import STRENGTHS, write_samples
from mpo.models.loading import load_pipeline
from mpo.recipe import read_recipe
from mpo.run_folder.media import read_pixels
from mpo.run_folder.paths import RunFolder


def test_the_strip_goes_from_base_over_tuned_to_more(finished):
    """At strengths 0 and 1 it holds the evaluation's own pictures; those between lie between."""
    run, recipe = RunFolder(finished), read_recipe(finished / "recipe.yaml")
    strip = read_pixels(run.lora / "samples" / "strengths.png").astype(int)
    panels = np.split(strip, len(STRENGTHS["image"]), axis=1)
    base, tuned = (read_pixels(run.lora / "samples" / f"0-{model}.png").astype(int) for model in ("base", "tuned"))
    at = dict(zip(STRENGTHS["image"], panels, strict=True))
    np.testing.assert_array_equal(at[0], base)
    np.testing.assert_array_equal(at[1], tuned)
    effect = np.abs(tuned - base).sum()
    assert effect > 0
    assert (
        np.abs(at[0.25] - base).sum()
        < np.abs(at[0.75] - base).sum()
        <= 1.1 * effect
        < 1.3 * np.abs(at[1.5] - base).sum()
    )
    assert recipe.evaluate.num_seeds


def test_the_pipeline_is_left_at_strength_1(finished, tmp_path):
    run, recipe = RunFolder(finished), read_recipe(finished / "recipe.yaml")
    pipeline = load_pipeline(recipe.model)
    pipeline.load_lora_weights(str(run.lora))
    samples = write_samples(tmp_path, run, recipe, pipeline)
    assert (tmp_path / samples.strip).read_bytes() == (run.lora / "samples" / "strengths.png").read_bytes()
    assert {layer.scaling["default_0"] for layer in pipeline.unet.modules() if hasattr(layer, "scaling")} == {2.0}
