import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reward import load_checklist
from reward.preferences import LEVELS, PreferenceError, answers_of_level, read_annotations, read_preferences


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_our_own_lines(tmp_path):
    rows = [
        {"prompt": "p", "a": "x.png", "b": "y.png", "preferred": "a", "dimensions": {"quality": "tie"}},
        {"prompt": 'say "{x}"', "a": "y.png", "b": "x.png", "preferred": "tie"},
    ]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    first, second = read_preferences(tmp_path / "own.jsonl", "jsonl")
    assert (first.a, first.b, first.preferred, first.dimensions) == (
        tmp_path / "x.png",
        tmp_path / "y.png",
        1.0,
        {"quality": 0.5},
    )
    assert (second.prompt, second.preferred) == ('say "{x}"', 0.5)
    assert read_preferences(tmp_path / "own.jsonl", "jsonl", root="/data")[0].a.as_posix() == "/data/x.png"


def test_visionrewarddb_video(tmp_path):
    rows = [
        {
            "internal_id": str(i),
            "prompt": "p",
            "standard_answer": answer,
            "video1_path": "1.mp4",
            "video2_path": "2.mp4",
        }
        for i, answer in enumerate(["video1", "video2", "tie"])
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test.parquet")
    found = read_preferences(tmp_path / "test.parquet", "visionrewarddb")
    assert [each.preferred for each in found] == [1.0, 0.0, 0.5]
    assert found[0].b == tmp_path / "2.mp4"


def test_genai_bench(tmp_path):
    votes = ["leftvote", "rightvote", "tievote", "bothbad_vote"]
    image = {"bytes": jpeg(), "path": None}
    rows = [{"prompt": "p", "left_image": image, "right_image": image, "vote_type": vote} for vote in votes]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test-00000-of-00001.parquet")
    found = read_preferences(tmp_path, "genai-bench")  # a folder of parquet files
    assert [each.preferred for each in found] == [1.0, 0.0, 0.5, 0.5]
    assert found[0].a == jpeg()
    clip = [{"prompt": "p", "left_video": "l.mp4", "right_video": "r.mp4", "vote_type": "leftvote"}]
    (tmp_path / "video.json").write_text(json.dumps(clip))
    assert read_preferences(tmp_path / "video.json", "genai-bench")[0].a == tmp_path / "l.mp4"


def test_hpdv2(tmp_path):
    test = [{"prompt": "p", "image_path": ["a.jpg", "b.jpg", "c.jpg"], "rank": [2, 0, 1], "raw_annotations": []}]
    (tmp_path / "test.json").write_text(json.dumps(test))
    found = read_preferences(tmp_path / "test.json", "hpdv2")
    assert [(each.a.name, each.b.name, each.preferred) for each in found] == [
        ("a.jpg", "b.jpg", 0.0), ("a.jpg", "c.jpg", 0.0), ("b.jpg", "c.jpg", 1.0),
    ]  # fmt: skip
    train = [{"prompt": "p", "file_path": ["a.jpg", "b.jpg"], "human_preference": [1, 0]}]
    (tmp_path / "train.json").write_text(json.dumps(train))
    assert read_preferences(tmp_path / "train.json", "hpdv2")[0].preferred == 1.0


def test_imagerewarddb(tmp_path):
    rows = [
        {"image_path": f"images/{i}.webp", "prompt_id": "7", "prompt": "p", "rank": rank, "overall_rating": 3}
        for i, rank in enumerate([1, 2, 2])
    ] + [{"image_path": "images/9.webp", "prompt_id": "8", "prompt": "q", "rank": 1, "overall_rating": 3}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "metadata-test.parquet")
    found = read_preferences(tmp_path / "metadata-test.parquet", "imagerewarddb")
    assert [each.preferred for each in found] == [1.0, 1.0, 0.5]
    assert {each.group for each in found} == {"p"}


def test_pickapic(tmp_path):
    rows = [
        {"caption": "p", "jpg_0": jpeg(), "jpg_1": jpeg(), "label_0": label, "label_1": 1 - label, "has_label": has}
        for label, has in [(1.0, True), (0.5, True), (0.0, True), (0.0, False)]
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "v1.parquet")
    assert [each.preferred for each in read_preferences(tmp_path / "v1.parquet", "pickapic")] == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("row", "format", "message"),
    [
        ({"prompt": "p", "a": "x", "preferred": "a"}, "jsonl", "row 0: has no field 'b'"),
        ({"prompt": "p", "a": "x", "b": "y", "preferred": "left"}, "jsonl", "preferred='left'"),
        ({"prompt": "p", "vote_type": "leftvote"}, "genai-bench", "left_image"),
        ({"prompt": "p", "image_path": ["a", "b"], "rank": [1]}, "hpdv2", "2 pictures but 1 ranks"),
        ({"caption": "p", "jpg_0": "a", "jpg_1": "b", "label_0": 0.3}, "pickapic", "label 0.3"),
        ({"prompt": "p"}, "csv", "formats: jsonl"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, row, format, message):
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    with pytest.raises(PreferenceError, match=message):
        read_preferences(tmp_path / "rows.jsonl", format)


def test_unreadable_files_are_named(tmp_path):
    for name, content in {"broken.json": "[", "broken.jsonl": "{", "broken.parquet": "x"}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(PreferenceError, match=name.replace(".", r"\.")):
            read_preferences(tmp_path / name, "jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(PreferenceError, match="no preference"):
        read_preferences(tmp_path / "empty.jsonl", "jsonl")
    with pytest.raises(PreferenceError, match=r"absent\.json"):
        read_preferences(tmp_path / "absent.json", "jsonl")


def test_meta_result_is_read_in_the_published_order(tmp_path):
    checklist = load_checklist("image")
    result, mask = np.zeros(59, int), np.ones(59, int)
    result[[0, 3]] = 1
    mask[5] = 0
    rows = [
        {
            "image": {"bytes": jpeg()},
            "prompt": "p",
            "internal_id": "1",
            "meta_result": result.tolist(),
            "meta_mask": mask.tolist(),
        }
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    (found,) = read_annotations(tmp_path / "train.parquet", "image")
    ids = [q.id for q in checklist][1:]
    assert found.answers == {i: bool(r) for i, r, m in zip(ids, result, mask, strict=True) if m}
    assert found.media == jpeg()
    rows[0]["meta_result"] = [1, 0]
    (tmp_path / "short.json").write_text(json.dumps([{**rows[0], "image": "x.png"}]))
    with pytest.raises(PreferenceError, match="2 and meta_mask 59 entries"):
        read_annotations(tmp_path / "short.json", "image")


def test_levels_become_ordered_answers(tmp_path):
    annotation = {
        "symmetry": 0,
        "clarity": 2,
        "richness": -2,
        "body": 0,
        "face": -1,
        "color aesthetic": 1,
        "lighting aesthetic": 2,
    }
    (tmp_path / "a.json").write_text(json.dumps([{"image": "x.png", "prompt": "p", "annotation": annotation}]))
    answers = read_annotations(tmp_path / "a.json", "image")[0].answers
    assert [answers[f"symmetry_{k}"] for k in (1, 2)] == [False, True]
    assert [answers[f"clarity_{k}"] for k in (1, 2, 3, 4)] == [True] * 4
    assert [answers[f"richness_{k}"] for k in (1, 2, 3, 4)] == [False] * 4
    assert answers["has_body"] is False
    assert not any(i.startswith("body_") for i in answers)
    assert answers["has_face"] is True
    assert [answers[f"face_{k}"] for k in (1, 2, 3, 4)] == [False, False, True, True]
    assert not any(i.startswith("lighting_aesthetic") for i in answers)  # four levels, two published questions
    clip = [
        {"video_path": "x.mp4", "prompt": "p", "annotation": {"alignment": 4, "object motion dynamic": 2, "letters": 1}}
    ]
    (tmp_path / "v.json").write_text(json.dumps(clip))
    answers = read_annotations(tmp_path / "v.json", "video")[0].answers
    assert [answers[f"alignment_{k}"] for k in (1, 2, 3, 4)] == [False, True, True, True]
    assert [answers[f"object_motion_{k}"] for k in (1, 2, 3, 4)] == [False, False, False, True]
    assert [answers[f"letters_{k}"] for k in (1, 2, 3)] == [False] * 3


@pytest.mark.parametrize("kind", ["image", "video"])
def test_levels_name_sub_dimensions(kind):
    checklist = load_checklist(kind)
    scored = {sub.name for sub in checklist.subdimensions if not any(q.gate or q.continuous for q in sub.questions)}
    assert set(LEVELS[kind]) == scored


@given(st.integers(-5, 0), st.integers(1, 5), st.data())
def test_a_higher_level_answers_no_question_worse(lowest, highest, data):
    level = data.draw(st.integers(lowest, highest))
    answers = answers_of_level(level, lowest, highest)
    assert len(answers) == highest - lowest
    assert answers == sorted(answers)  # strictest first: once a yes, yes ever after
    assert sum(answers) == level - lowest
    with pytest.raises(ValueError, match="outside"):
        answers_of_level(highest + 1, lowest, highest)


def test_our_own_answers(tmp_path):
    (tmp_path / "own.jsonl").write_text(json.dumps({"media": "x.png", "prompt": "p", "answers": {"clarity_1": True}}))
    (found,) = read_annotations(tmp_path / "own.jsonl", "image")
    assert (found.media, found.answers) == (tmp_path / "x.png", {"clarity_1": True})
    (tmp_path / "own.jsonl").write_text(json.dumps({"media": "x.png", "answers": {"sharp": True}}))
    with pytest.raises(PreferenceError, match="sharp"):
        read_annotations(tmp_path / "own.jsonl", "image")
    (tmp_path / "own.jsonl").write_text(json.dumps({"answers": {"clarity_1": True}}))
    with pytest.raises(PreferenceError, match="no media"):
        read_annotations(tmp_path / "own.jsonl", "image")


@pytest.mark.parametrize(
    "content", ["5", "[1, 2]", '["text"]', '[{"prompt": 7, "a": "x", "b": "y", "preferred": "a"}]']
)
def test_json_of_another_kind_is_named(tmp_path, content):
    (tmp_path / "pairs.json").write_text(content)
    with pytest.raises(PreferenceError, match=r"pairs\.json"):
        read_preferences(tmp_path / "pairs.json", "jsonl")
