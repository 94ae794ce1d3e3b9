import os

import torch

from mpo.run_folder.tensors import write_tensors


def test_others_may_read_tensors_as_any_new_file(tmp_path):
    write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)})
    (tmp_path / "b").write_text("")
    assert os.stat(tmp_path / "a.safetensors").st_mode == os.stat(tmp_path / "b").st_mode
