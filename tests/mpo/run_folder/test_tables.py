import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpo import MpoError
from mpo.run_folder.tables import (
    CANDIDATES,
    PROMPTS,
    lists_of,
    read_table,
    rows_of,
    take_rows,
    write_batches,
    write_table,
)


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


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.sets(st.integers(0, 40)))
def test_rows_are_taken_from_the_parts_that_hold_them(tmp_path_factory, sizes, wanted):
    """As from the whole table, with its metadata."""
    path = tmp_path_factory.mktemp("tables") / "prompts.parquet"
    starts = np.cumsum([0, *sizes])
    parts = (
        {"prompt_id": pa.array(range(a, b)), "prompt": pa.array([f"p{k}" for k in range(a, b)])}
        for a, b in itertools.pairwise(starts)
    )
    write_batches(path, parts, PROMPTS, {"k": "v"})
    rows = sorted(row for row in wanted if row < starts[-1])
    taken = take_rows(path, rows, made_by="run", columns=["prompt"])
    whole = read_table(path, made_by="run")
    assert taken.column("prompt").to_pylist() == [f"p{k}" for k in rows]
    assert taken.schema.metadata == {b"k": b"v"}
    assert list(rows_of(whole)) == whole.to_pylist()


def test_taking_rows_of_a_missing_table_names_the_stage(tmp_path):
    with pytest.raises(MpoError, match=r"none.parquet is missing; run `mpo select"):
        take_rows(tmp_path / "none.parquet", [0], made_by="select", columns=["prompt"])


def test_rows_of_numbers_become_lists():
    values = np.arange(6.0).reshape(3, 2)
    assert lists_of(values).to_pylist() == values.tolist()
    assert lists_of(values[::2]).to_pylist() == values[::2].tolist()
