import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from reward import VisionReward, load_checklist
from reward.leaderboard import (
    LAYOUTS,
    MEASURES,
    Benchmark,
    measure_board,
    parse_benchmarks,
    published_figures,
    read_benchmarks,
)
from reward.preferences import PREFERENCE_FORMATS
from tests.helpers.command import reward
from tests.helpers.judges import CountingJudge

CHECKLIST = """
{name: red, version: 1, kind: image, subdimensions: [
  {name: s, dimension: colour, questions: [{id: share, text: 'How red?', weight: 1, continuous: true}]}]}
"""
JUDGE = ("--judge", "tests.helpers.judges:CountingJudge")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two benchmarks in their publishers' layouts, of pictures 0.png to 5.png whose red is 0, 1/5, … 1, which is their score."""
    folder = tmp_path_factory.mktemp("benchmarks")
    for fifths in range(6):
        Image.new("RGB", (4, 4), (51 * fifths, 0, 0)).save(folder / f"{fifths}.png")
    (folder / "red.yaml").write_text(CHECKLIST)

    def embedded(fifths: int) -> dict:
        return {"bytes": (folder / f"{fifths}.png").read_bytes(), "path": None}

    votes = [(5, 0, "leftvote"), (4, 1, "rightvote"), (3, 0, "leftvote"), (2, 2, "tievote")]
    rows = [
        {"prompt": f"p{i}", "left_image": embedded(left), "right_image": embedded(right), "vote_type": vote}
        for i, (left, right, vote) in enumerate(votes)
    ]
    (folder / "genai").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "genai" / "test-00000-of-00001.parquet")
    ranked = [
        {"prompt": "p", "image_path": ["1.png", "4.png", "3.png"], "rank": [2, 0, 1]},
        {"prompt": "q", "image_path": ["5.png", "0.png"], "rank": [1, 0]},
    ]
    (folder / "test.json").write_text(json.dumps(ranked))
    return folder


def board(folder: Path, *others: object) -> tuple[int, str, str]:
    named = (f"genai-bench={folder / 'genai'}", f"hpdv2={folder}")
    return reward("leaderboard", *named, *JUDGE, "--checklist", folder / "red.yaml", "-q", *others)


def test_a_board_by_hand(folder):
    code, out, err = board(folder, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    genai, hpdv2 = found["measured"]
    # Scores 1 > 0 as voted, 0.8 > 0.2 against the vote, 0.6 > 0 as voted, 0.4 = 0.4 as tied. No margin above 0 is better
    # called a tie, so of three decided pairs two are right, and of all four three.
    assert (genai["benchmark"], genai["total"]["num_pairs"], genai["total"]["num_ties"]) == ("genai-bench", 4, 1)
    assert genai["total"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert genai["total"]["tau"]["value"] == pytest.approx(3 / 4)
    assert genai["total"]["accuracy"]["low"] <= 2 / 3 <= genai["total"]["accuracy"]["high"]
    # p: 0.8 (rank 0) > 0.6 (1) > 0.2 (2), three pairs as ranked; q: 1 > 0 against the ranks.
    assert hpdv2["total"]["num_pairs"] == 4
    assert hpdv2["total"]["accuracy"]["value"] == hpdv2["total"]["tau"]["value"] == pytest.approx(3 / 4)
    assert [each["name"] for each in hpdv2["dimensions"]] == ["colour"]
    assert found["judge"] == "tests.helpers.judges:CountingJudge"
    assert (found["fingerprint"], found["kind"]) == ("counting", "image")
    assert found["checklist"] == load_checklist(folder / "red.yaml").fingerprint
    # The board is of pictures: of GenAI-Bench only figures of clips are known, so none is shown beside it.
    assert {(p["benchmark"], p["kind"]) for p in found["published"]} == {("hpdv2", "image")}
    assert found["published_are"] == "published: not measured here, but as their sources say"


def test_the_table_says_which_figures_are_published_and_where(folder):
    code, out, _ = board(folder)
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    (ours,) = [line for line in lines if line[:1] == ["tests.helpers.judges:CountingJudge"]]
    assert [word for word in ours if word.replace(".", "").isdigit()] == ["75.0", "66.7", "75.0", "75.0"]
    assert ours[-2:] == ["measured", "here"]
    assert ["HPSv2", "83.3", "arXiv", "2412.21059v4,", "table", "2"] in lines
    assert ["HPSv3", "85.4", "arXiv", "2508.03789"] in lines
    assert (
        "The figures of arXiv 2412.21059v4, table 2, arXiv 2508.03789 are published ones: they were not measured" in out
    )
    assert "genai-bench 4 pairs, 1 of them ties; hpdv2 4 pairs, 0 of them ties." in out
    assert "No published figure is known for genai-bench (images)." in out


def test_a_board_is_written_as_json_or_markdown_once(folder, tmp_path):
    _, out, _ = board(folder, "--output", tmp_path / "board.json", "--json")
    assert json.loads((tmp_path / "board.json").read_text()) == json.loads(out)
    assert board(folder, "--output", tmp_path / "board.md")[0] == 0
    text = (tmp_path / "board.md").read_text()
    assert text.startswith("| judge | genai-bench tau | genai-bench diff | hpdv2 tau | hpdv2 diff | source |\n| --- |")
    assert "| HPSv2 |  |  |  | 83.3 | arXiv 2412.21059v4, table 2 |\n" in text
    code, _, err = board(folder, "--output", tmp_path / "board.md")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "board.md exists" in err
    assert board(folder, "--output", tmp_path / "board.md", "--overwrite")[0] == 0
    assert "does not end in .json" in board(folder, "--output", tmp_path / "board.html")[2]


@pytest.mark.parametrize(("name", "layout"), LAYOUTS.items())
def test_every_benchmark_s_layout_is_read(folder, tmp_path, name, layout):
    """Two prompts with one pair each, of which the judge orders the first as people do."""
    pictures = [str(folder / f"{i}.png") for i in (5, 0, 5, 0)]
    rows = {
        "genai-bench": [
            {"prompt": p, "left_image": pictures[0], "right_image": pictures[1], "vote_type": vote}
            for p, vote in (("p", "leftvote"), ("q", "rightvote"))
        ],
        "visionrewarddb": [
            {"prompt": p, "image1_path": pictures[0], "image2_path": pictures[1], "standard_answer": answer}
            for p, answer in (("p", "image1"), ("q", "image2"))
        ],
        "hpdv2": [{"prompt": p, "image_path": pictures[:2], "rank": rank} for p, rank in (("p", [0, 1]), ("q", [1, 0]))],
        "imagerewarddb": [
            {"prompt_id": p, "prompt": p, "image_path": picture, "rank": rank}
            for p, picture, rank in zip("ppqq", pictures, (1, 2, 2, 1), strict=True)
        ],
        "pickapic": [
            {"caption": p, "jpg_0": pictures[0], "jpg_1": pictures[1], "label_0": label} for p, label in (("p", 1), ("q", 0))
        ],
    }[layout]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, out, _ = reward("leaderboard", f"{name}={tmp_path / 'rows.jsonl'}", *JUDGE, "--checklist", folder / "red.yaml", "--json")  # fmt: skip
    assert code == 0
    (found,) = json.loads(out)["measured"]
    assert (found["total"]["num_pairs"], found["total"]["accuracy"]["value"]) == (2, 0.5)
    assert layout in PREFERENCE_FORMATS


def test_only_the_first_pairs_are_read(folder, tmp_path):
    lines = [json.dumps(row) for row in json.loads((folder / "test.json").read_text())]
    (tmp_path / "rows.jsonl").write_text("\n".join([*lines, "not read"]))
    named = (f"hpdv2={tmp_path / 'rows.jsonl'}", "--root", f"hpdv2={folder}")
    code, out, _ = reward("leaderboard", *named, *JUDGE, "--checklist", folder / "red.yaml", "--limit", 4, "--json")
    assert code == 0
    assert json.loads(out)["measured"][0]["total"]["num_pairs"] == 4


def test_an_item_that_fails_leaves_its_pair_out_and_the_code_says_so(folder, tmp_path):
    rows = json.loads((folder / "test.json").read_text())
    rows.append({"prompt": "r", "image_path": [str(tmp_path / "absent.png"), "1.png"], "rank": [1, 0]})
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    named = (f"hpdv2={tmp_path / 'rows.json'}", "--root", f"hpdv2={folder}")
    code, out, err = reward("leaderboard", *named, *JUDGE, "--checklist", folder / "red.yaml", "--json", "-q")
    assert code == 1
    assert "1 could not be scored" in err
    (found,) = json.loads(out)["measured"]
    assert found["total"]["num_pairs"] == 4
    assert "absent.png' does not exist" in found["failures"][0]


def test_a_run_that_stopped_continues_from_the_cache(folder, tmp_path):
    class Stopped(BaseException):
        pass

    class StoppingJudge(CountingJudge):
        def answer(self, media, prompts, questions):
            if self.num_asked >= 4:
                raise Stopped
            return super().answer(media, prompts, questions)

    benchmarks = read_benchmarks([Benchmark("hpdv2", folder / "test.json")])
    checklist = load_checklist(folder / "red.yaml")
    with pytest.raises(Stopped):
        measure_board(VisionReward(StoppingJudge(), checklist, cache=tmp_path), benchmarks, judge="x")
    judge = CountingJudge()
    continued = measure_board(VisionReward(judge, checklist, cache=tmp_path), benchmarks, judge="x")
    assert judge.num_asked == 1  # of five pictures, four of which were kept
    assert continued == measure_board(VisionReward(CountingJudge(), checklist), benchmarks, judge="x")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no benchmark is named; give some as NAME=PATH, of: genai-bench, monetbench, hpdv2, imagerewarddb, pickapic"),
        (["hpdv2"], "'hpdv2' is not NAME=PATH"),
        (["hpdv3=."], "benchmark 'hpdv3' is unknown; .*; did you mean 'hpdv2'?"),
        (["hpdv2=README.md"], "README.md cannot be read"),
        (["hpdv2=absent.json"], "hpdv2=absent.json does not exist"),
        (["hpdv2=tests/helpers"], "hpdv2=tests/helpers holds neither parquet files nor test.json; name the file"),
        (["hpdv2=README.md", "hpdv2=README.md"], "hpdv2 is given twice"),
        (["hpdv2=README.md", "--root", "pickapic=."], "benchmark 'pickapic' is not asked for"),
        (["hpdv2=README.md", "--root", "hpdv2=absent"], "--root hpdv2=absent is no folder"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(monkeypatch, words, message):
    monkeypatch.chdir(Path(__file__).parents[2])
    code, out, err = reward("leaderboard", *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert all(part in err for part in message.split(".*"))


def test_published_figures_are_those_of_the_paper():
    """Four of them, as arXiv 2412.21059v4 has them in table 2; all belong to benchmarks that can be measured."""
    figures = {(p.judge, p.benchmark, p.kind, p.measure): p.value for p in published_figures()}
    assert len(figures) == len(published_figures()) == 9 * 7 + 1
    assert figures["VisionReward", "monetbench", "video", "accuracy"] == 0.721
    assert figures["VideoScore", "monetbench", "video", "accuracy"] == 0.549  # the paper's "surpasses by 17.2 %"
    assert figures["PickScore", "genai-bench", "video", "tau"] == 0.524
    assert figures["HPSv2", "hpdv2", "image", "accuracy"] == 0.833
    for each in published_figures():
        assert each.benchmark in LAYOUTS
        assert each.measure in MEASURES
        assert each.source.startswith("arXiv ")


def test_paths_begin_at_home_or_here(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "test.jsonl").write_text("")
    assert parse_benchmarks(["hpdv2=~"]) == (Benchmark("hpdv2", tmp_path / "test.jsonl"),)
