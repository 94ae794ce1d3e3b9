from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reward.errors import RewardError
from reward.sources import Files, open_source
from tests.helpers.pictures import datasets, picture

NAMES = ["0.png", "1.png"]


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "pictures").mkdir()
    for name in NAMES:
        picture(40).save(tmp_path / "pictures" / name)
    pq.write_table(pa.table({"file": NAMES, "prompt": ["a", "b"]}), tmp_path / "list.parquet")
    data = datasets.Dataset.from_dict({"file": NAMES, "prompt": ["a", "b"]})
    data.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": data}).save_to_disk(tmp_path / "splits")
    return tmp_path


def test_a_folder_of_pictures_and_named_files_have_one_prompt(folder):
    given = [str(folder / "pictures" / "1.png"), str(folder / "pictures")]
    source = open_source(given, "image", prompt="a star")
    assert isinstance(source, Files)
    assert source.num_items == 3
    chunks = dict(source.chunks(2))
    assert [[Path(item.file or "").name for item in chunk] for chunk in chunks.values()] == [
        ["1.png", "0.png"],
        ["1.png"],
    ]
    assert {item.prompt for chunk in chunks.values() for item in chunk} == {"a star"}
    others = [open_source(given[::-1], "image", prompt="a star"), open_source(given, "image", prompt="a ring")]
    assert len({source.fingerprint, *(other.fingerprint for other in others)}) == 3


def test_what_does_not_go_together_is_one_line(folder):
    options: Any
    table = str(folder / "list.parquet")
    for words, options, message in (
        ([table, "x.png"], {}, "is a table, and other files are given with it"),
        ([table], {"prompt": "a star"}, "has the column 'prompt', and --prompt is given, too"),
        ([table], {"media_column": "picture"}, "has no column 'picture'; name one with --media-column"),
        ([table], {"revision": "v2"}, "--revision v2: .*list.parquet is a file and has none"),
        (["x.png"], {"media_column": "image"}, "--media-column image is for a table or a data set"),
        ([str(folder / "saved")], {"split": "test"}, "--split test: .*saved holds a data set without splits"),
        ([str(folder / "saved")], {"revision": "v2"}, "--revision v2: .*saved is a folder and has none"),
        ([str(folder / "splits")], {"split": "dev"}, "splits cannot be read .*dev"),
        (["nobody/nothing"], {}, "nobody/nothing cannot be read .*"),
        (["absent.parquet"], {}, "absent.parquet cannot be read .*No such file"),
    ):
        with pytest.raises(RewardError, match=message) as raised:
            open_source(words, "image", **options)
        assert "\n" not in str(raised.value)
