import pytest
import torch

from mpo import MpoError
from mpo.run_folder.latents import holds_origin, read_latents, write_latents

ORIGIN = {"prompt": "a café", "seed": 2**62}


def test_latents_come_back_as_they_were_and_say_what_they_are_from(tmp_path):
    file, latents = tmp_path / "a.safetensors", torch.randn(4, 3, 2, 2).to(torch.bfloat16)
    write_latents(file, latents, ORIGIN)
    assert torch.equal(read_latents(file), latents)
    assert holds_origin(file, ORIGIN)
    assert not holds_origin(file, ORIGIN | {"seed": 1})
    whole = file.read_bytes()
    write_latents(file, latents, dict(reversed(ORIGIN.items())))
    assert file.read_bytes() == whole


def test_a_missing_or_cut_file_is_named(tmp_path):
    file = tmp_path / "a.safetensors"
    with pytest.raises(MpoError, match=r"a.safetensors cannot be read"):
        read_latents(file)
    assert not holds_origin(file, ORIGIN)
    write_latents(file, torch.zeros(8), ORIGIN)
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(MpoError, match=r"a.safetensors cannot be read"):
        read_latents(file)
    assert not holds_origin(file, ORIGIN)
