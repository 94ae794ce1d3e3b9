import pytest
import torch

from mpo import MpoError
from mpo.data.encoded import EncodedPairs, encoded_ids
from mpo.run_folder.paths import RunFolder
from tests.helpers.runs import trainable


def test_rows_are_read_by_their_ids_in_the_order_asked_for(finished):
    encoded = EncodedPairs(RunFolder(finished))
    candidates, prompts = encoded_ids(RunFolder(finished))
    first, last = encoded.latents([candidates[0]]), encoded.latents([candidates[-1]])
    assert first.shape == (1, *encoded.shape(candidates[0])) == (1, 4, 16, 16)
    assert (first - last).abs().max() > 0
    torch.testing.assert_close(encoded.latents([candidates[-1], candidates[0]]), torch.cat([last, first]))
    for values in encoded.conditioning(prompts.tolist()).values():
        assert len(values) == len(prompts) == 3


def test_a_missing_shard_is_named_with_the_stage_that_makes_it(finished, fields, tmp_path):
    run = trainable(finished, tmp_path / "run", fields)
    (run.encoded / "prompts-00000.safetensors").unlink()
    with pytest.raises(MpoError, match=r"prompts-00000.safetensors is missing; run `mpo encode"):
        EncodedPairs(run)
