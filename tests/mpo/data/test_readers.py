import json

import pytest

from mpo import MpoError
from mpo.data.readers import read_rows
from tests.helpers.pictures import datasets, picture


def read(path, *columns: str) -> list[dict]:
    return list(read_rows(str(path), split=None, revision=None, columns=columns, field="preferences.path"))


def test_rows_have_the_columns_asked_for_from_every_kind_of_file(tmp_path):
    rows = [{"prompt": "a star", "score": 2}, {"prompt": "a ring", "score": 1}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = datasets.Dataset.from_list(rows)
    table.to_csv(tmp_path / "a.csv")
    table.to_parquet(tmp_path / "a.parquet")
    table.save_to_disk(tmp_path / "disk")
    for name in ("a.jsonl", "a.csv", "a.parquet", "disk"):
        assert [row["score"] for row in read(tmp_path / name, "score")] == [2, 1], name


def test_pictures_of_a_data_set_stay_as_they_are_stored(tmp_path):
    picture(3).save(tmp_path / "a.png")
    data = datasets.Dataset.from_dict({"chosen": [str(tmp_path / "a.png")]}).cast_column("chosen", datasets.Image())
    data.save_to_disk(tmp_path / "disk")
    (row,) = read(tmp_path / "disk", "chosen")
    assert set(row["chosen"]) == {"bytes", "path"}


def test_a_split_or_a_revision_that_would_be_ignored_is_refused(tmp_path):
    datasets.Dataset.from_list([{"prompt": "a star"}]).save_to_disk(tmp_path / "disk")
    for field, section in (("preferences.path", "preferences"), ("prompts.train", "prompts.train")):
        for name, value in (("split", "test"), ("revision", "v2")):
            given = {"split": None, "revision": None, name: value}
            with pytest.raises(MpoError, match=rf"^{section}.{name}='{value}': .*disk' .*; remove it$"):
                read_rows(str(tmp_path / "disk"), columns=["prompt"], field=field, **given)


def test_an_absent_column_is_named_with_those_that_are_there(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x", "url": "y"}')
    with pytest.raises(MpoError, match=r"preferences.path='.*a.jsonl' has no column 'caption'; it has: text, url"):
        read(tmp_path / "a.jsonl", "caption")
