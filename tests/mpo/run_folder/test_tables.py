import pytest

from mpo import MpoError
from mpo.run_folder.tables import CANDIDATES, read_table, write_table


def test_equal_tables_are_equal_bytes_and_damaged_ones_are_named(tmp_path):
    columns = {"candidate_id": [0], "prompt_id": [0], "seed": [2**62], "file": ["x.png"], "sha256": ["0"]}
    columns |= {"latents": [None], "latents_sha256": [None]}
    for name in ("a", "b"):
        write_table(tmp_path / name, columns, CANDIDATES, {"k": "v"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_table(tmp_path / "a", made_by="generate").to_pylist()[0]["seed"] == 2**62
    (tmp_path / "a").write_bytes(b"PAR1")
    with pytest.raises(MpoError, match=r"cannot be read .*mpo status"):
        read_table(tmp_path / "a", made_by="generate")
