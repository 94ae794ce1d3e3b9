import numpy as np
import pytest
import torch
from PIL import Image

from mpo import MpoError
from mpo.data.encoded import EncodedPairs, encoded_ids
from mpo.models.families import find_family
from mpo.models.loading import load_pipeline
from mpo.recipe import read_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.stages.encode import encode
from tests.helpers.pipelines import build_pipeline
from tests.helpers.runs import trainable


@torch.no_grad()
def test_what_is_encoded_is_what_the_family_makes_of_picture_and_prompt(finished):
    """One by one, in place of in batches."""
    run, encoded = RunFolder(finished), EncodedPairs(RunFolder(finished))
    pipeline = load_pipeline(read_recipe(run.recipe).model)
    family = find_family(pipeline)
    files = {
        row["candidate_id"]: row["file"] for row in read_table(run.candidates_table, made_by="generate").to_pylist()
    }
    prompts = {row["prompt_id"]: row["prompt"] for row in read_table(run.prompts, made_by="run").to_pylist()}
    candidate_ids, prompt_ids = encoded_ids(run)
    for i in candidate_ids:
        pixels = torch.from_numpy(np.array(Image.open(run.candidates / files[i]))).permute(2, 0, 1)[None] / 255
        torch.testing.assert_close(encoded.latents([i]), family.encode_media(pipeline, pixels), rtol=1e-4, atol=1e-5)
    for i in prompt_ids:
        for name, value in family.encode_prompts(pipeline, [prompts[i]]).items():
            torch.testing.assert_close(encoded.conditioning([i])[name], value, rtol=1e-4, atol=1e-5)


def test_latents_that_are_not_finite_are_named(finished, fields, tmp_path):
    pipeline = build_pipeline()
    with torch.no_grad():
        next(pipeline.vae.encoder.parameters()).fill_(torch.nan)
    pipeline.save_pretrained(tmp_path / "model")
    fields["model"]["path"] = str(tmp_path / "model")
    run = trainable(finished, tmp_path / "run", fields)
    for shard in run.encoded.iterdir():
        shard.unlink()
    with pytest.raises(MpoError, match=r"latents of id \d+ is not finite; set model.dtype=float32"):
        encode(run.folder)
    assert not list(run.encoded.glob("latents-*"))
