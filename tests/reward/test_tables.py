import json
import pickle
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward.errors import RewardError
from reward.media import read_image
from reward.sources import open_source
from reward.tables import Item
from tests.helpers.pictures import datasets, picture

NAMES = [f"{i}.png" for i in range(5)]
PROMPTS = [f"prompt {i}" for i in range(5)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Five pictures with their prompts, in every kind of table."""
    folder = tmp_path_factory.mktemp("tables")
    pictures = folder / "pictures"
    pictures.mkdir()
    for i, name in enumerate(NAMES):
        picture(40 * i).save(pictures / name)
    rows = list(zip(NAMES, PROMPTS, strict=True))
    (pictures / "list.jsonl").write_text("\n".join(json.dumps({"file": f, "prompt": p}) for f, p in rows))
    (pictures / "list.csv").write_text("file,prompt\n" + "".join(f'{f},"{p}"\n' for f, p in rows))
    pq.write_table(pa.table({"file": NAMES, "prompt": PROMPTS}), pictures / "list.parquet")
    embedded = [{"bytes": (pictures / name).read_bytes(), "path": name} for name in NAMES]
    data = datasets.Dataset.from_dict({"image": embedded, "prompt": PROMPTS}).cast_column("image", datasets.Image())
    data.to_parquet(folder / "embedded.parquet", batch_size=2)
    data.save_to_disk(folder / "saved")
    datasets.DatasetDict({"train": data.select([0]), "test": data}).save_to_disk(folder / "splits")
    for name in NAMES:
        (folder / "imagefolder").mkdir(exist_ok=True)
        (folder / "imagefolder" / name).write_bytes((pictures / name).read_bytes())
    described = [json.dumps({"file_name": f, "prompt": p}) for f, p in rows]
    (folder / "imagefolder" / "metadata.jsonl").write_text("\n".join(described))
    return folder


def items(source, size: int = 2, wanted=lambda number: True) -> list[Item]:
    return [item for _, chunk in source.chunks(size, wanted) for item in chunk]


@pytest.mark.parametrize(
    "table",
    ["pictures/list.jsonl", "pictures/list.csv", "pictures/list.parquet", "embedded.parquet", "saved", "splits", "imagefolder"],
)  # fmt: skip
def test_every_kind_of_table_gives_the_same_pictures_and_prompts(folder, table):
    source = open_source([str(folder / table)], "image", split="test" if table == "splits" else None)
    assert source.num_items == 5
    found = items(source)
    assert [item.prompt for item in found] == PROMPTS
    assert [Path(item.file or "").name for item in found] == NAMES
    for i, item in enumerate(found):
        assert read_image(item.media).tobytes() == picture(40 * i).tobytes()
    sent = pickle.loads(pickle.dumps(source))  # as to a worker
    assert [item.file for item in items(sent, wanted=lambda number: number != 1)] == [
        item.file for i, item in enumerate(found) if i not in (2, 3)
    ]
    assert sent.fingerprint == source.fingerprint


@settings(max_examples=60, deadline=None)
@given(num_rows=st.integers(1, 40), group=st.integers(1, 15), size=st.integers(1, 12), step=st.integers(1, 3))
def test_chunks_of_parquet_are_slices_however_the_file_is_grouped(num_rows, group, size, step):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.parquet"
        names = [f"{i}.png" for i in range(num_rows)]
        pq.write_table(pa.table({"file": names, "prompt": names}), file, row_group_size=group)
        chunks = dict(open_source([str(file)], "image").chunks(size, lambda number: number % step == 0))
    expected = {number: names[number * size : (number + 1) * size] for number in range(0, -(-num_rows // size), step)}
    assert {number: [item.prompt for item in chunk] for number, chunk in chunks.items()} == expected


def test_columns_may_have_any_name(folder, tmp_path):
    rows = [{"picture": "a.png", "caption": "x", "image": "b.png", "prompt": "y"}]
    (tmp_path / "a.jsonl").write_text(json.dumps(rows[0]))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        table = [str(tmp_path / name)]
        (item,) = items(open_source(table, "image"))
        assert (item.media, item.prompt) == (tmp_path / "b.png", "y")
        named = open_source(table, "image", media_column="picture", prompt_column="caption")
        (item,) = items(named)
        assert (item.media, item.prompt) == (tmp_path / "a.png", "x")
        assert named.fingerprint != open_source(table, "image").fingerprint


def test_an_empty_cell_is_no_picture_of_its_own(tmp_path):
    """It is an item that cannot be read, not an error of the whole table."""
    types = pa.schema([("file", pa.string()), ("prompt", pa.string())])
    pq.write_table(pa.Table.from_pylist([{"file": None, "prompt": None}], types), tmp_path / "a.parquet")
    (item,) = items(open_source([str(tmp_path / "a.parquet")], "image"))
    assert (item.file, item.prompt) == (None, None)
    with pytest.raises(RewardError, match="has neither bytes nor path"):
        read_image(item.media)


def test_a_table_that_changes_has_another_fingerprint(tmp_path):
    for write in (
        lambda prompts: (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"file": "x", "prompt": p}) for p in prompts)),
        lambda prompts: (tmp_path / "a.csv").write_text("file,prompt\n" + "".join(f"x,{p}\n" for p in prompts)),
        lambda prompts: pq.write_table(pa.table({"file": ["x"] * len(prompts), "prompt": prompts}), tmp_path / "a.parquet"),
    ):  # fmt: skip
        found = []
        for prompts in (["one", "two"], ["one", "ten"], ["one", "two", "two"], ["one", "two"]):
            write(prompts)
            (table,) = tmp_path.glob("a.*")
            found.append(open_source([str(table)], "image").fingerprint)
        assert found[0] == found[3]
        assert len(set(found)) == 3
        table.unlink()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; give a row for each item"),
        ("file,prompt\n", "is empty"),
        ('file,prompt\nx,"a', "cannot be read .*end of data"),
        (
            "text,url\nx,y\n",
            "has no column 'file' or 'image' or 'video'; name one with --media-column .it has: text, url",
        ),
        ("image,text\nx,y\n", "has no column 'prompt'; name one with --prompt-column .it has: image, text"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(RewardError, match=message) as raised:
        open_source([str(tmp_path / "a.csv")], "image")
    assert "\n" not in str(raised.value)


def test_a_parquet_file_that_is_damaged_within_is_one_line(tmp_path):
    """Its footer is whole, so it is found only when the rows are read."""
    file = tmp_path / "a.parquet"
    names = [f"{i * 7919}.png" for i in range(2000)]
    pq.write_table(pa.table({"file": names, "prompt": names}), file)
    content = bytearray(file.read_bytes())
    content[100:400] = bytes(300)
    file.write_bytes(content)
    source = open_source([str(file)], "image")
    with pytest.raises(RewardError, match=r"a\.parquet cannot be read \(.*; check the path$") as raised:
        items(source)
    assert "\n" not in str(raised.value)
