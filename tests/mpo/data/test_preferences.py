import json

import numpy as np
import pytest

from mpo import MpoError
from mpo.data.preferences import Preference, read_preferences
from mpo.recipe import Preferences
from reward.media import read_image
from tests.helpers.pictures import datasets, jpeg, pickapic, picture
from tests.helpers.recipes import TRAIN_PROMPTS


def test_pick_a_pics_rows_are_read_and_ties_left_out(tmp_path):
    read = list(read_preferences(Preferences(path=str(pickapic(tmp_path)), layout="pickapic"), "image"))
    assert [p.prompt for p in read] == [TRAIN_PROMPTS[0], TRAIN_PROMPTS[1], TRAIN_PROMPTS[0]]
    assert read[0] == Preference(TRAIN_PROMPTS[0], jpeg(10), jpeg(110))
    assert read[1].chosen == jpeg(120)
    assert read[2] == Preference(TRAIN_PROMPTS[0], jpeg(140), jpeg(10))
    assert (
        len(
            list(
                read_preferences(
                    Preferences(path=str(tmp_path / "pickapic.parquet"), layout="pickapic", limit=1), "image"
                )
            )
        )
        == 1
    )


def test_pairs_as_files_as_pictures_and_as_a_folder_are_the_same(tmp_path):
    for side, value in (("chosen", 100), ("rejected", 10)):
        (tmp_path / "folder" / side).mkdir(parents=True)
        for k in range(2):
            picture(value + k).save(tmp_path / "folder" / side / f"{k}.png")
    for k in range(2):
        (tmp_path / "folder" / f"{k}.txt").write_text(TRAIN_PROMPTS[k], "utf-8")
    rows = [
        {"prompt": TRAIN_PROMPTS[k], "chosen": f"folder/chosen/{k}.png", "rejected": f"folder/rejected/{k}.png"}
        for k in range(2)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    sides = {s: [str(tmp_path / r[s]) for r in rows] for s in ("chosen", "rejected")}
    data = datasets.Dataset.from_dict({"prompt": TRAIN_PROMPTS[:2], **sides})
    data = data.cast_column("chosen", datasets.Image()).cast_column("rejected", datasets.Image())
    data.save_to_disk(tmp_path / "disk")
    for path, layout in (("folder", "folder"), ("pairs.jsonl", "pairs"), ("disk", "pairs")):
        read = list(
            read_preferences(Preferences.model_validate({"path": str(tmp_path / path), "layout": layout}), "image")
        )
        assert [p.prompt for p in read] == TRAIN_PROMPTS[:2]
        for k, preference in enumerate(read):
            for side, value in (("chosen", 100), ("rejected", 10)):
                opened = read_image(getattr(preference, side))
                np.testing.assert_array_equal(np.asarray(opened), np.asarray(picture(value + k)))


def test_a_folder_with_a_gap_is_named(tmp_path):
    (tmp_path / "chosen").mkdir()
    settings = Preferences(path=str(tmp_path), layout="folder")
    with pytest.raises(MpoError, match="holds no chosen"):
        list(read_preferences(settings, "image"))
    picture(1).save(tmp_path / "chosen" / "a.png")
    with pytest.raises(MpoError, match=r"a.png has no rejected one of the same name"):
        list(read_preferences(settings, "image"))
    (tmp_path / "rejected").mkdir()
    picture(2).save(tmp_path / "rejected" / "a.png")
    with pytest.raises(MpoError, match=r"a.png has no text of the same name"):
        list(read_preferences(settings, "image"))
    (tmp_path / "a.txt").write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(MpoError, match=r"a.txt is not UTF-8; save it as such"):
        list(read_preferences(settings, "image"))


def test_a_row_without_a_prompt_is_named(tmp_path):
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"prompt": None, "chosen": "a.png", "rejected": "b.png"}))
    with pytest.raises(MpoError, match="a prompt is None; give text, or remove the row"):
        list(read_preferences(Preferences(path=str(tmp_path / "pairs.jsonl"), layout="pairs"), "image"))
