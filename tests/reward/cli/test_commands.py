import csv
import io
import json
import re
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mpo.run_folder.media import write_media
from reward import load_checklist
from reward.cli import main
from tests.reward.judges.stand_in_server import StandInServer

PROMPT = "a red circle on a white background"


@pytest.fixture
def run(monkeypatch, capsys):
    """`run(*words)` -> (exit code, standard output, standard error)."""

    def command(*words) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reward", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        code = stopped.value.code
        return code if isinstance(code, int) else 0, captured.out, captured.err

    return command


@pytest.fixture
def pictures(tmp_path):
    for name, colours in {
        "red.png": ((240, 240, 240), (200, 20, 20)),
        "dark.png": ((20, 20, 20), (40, 40, 60)),
    }.items():
        image = Image.new("RGB", (128, 96), colours[0])
        ImageDraw.Draw(image).ellipse((30, 20, 90, 80), fill=colours[1])
        image.save(tmp_path / name)
    (tmp_path / "bad.png").write_text("x")
    return tmp_path


def test_score_prints_a_row_each(run, pictures):
    code, out, err = run("score", pictures / "red.png", pictures / "dark.png", "-p", PROMPT)
    assert code == 0
    assert "red.png" in out
    assert "composition" in out
    assert "40 questions of checklist 'image' are left out" in err


def test_what_fails_is_named_the_rest_is_scored_and_the_code_says_so(run, pictures):
    code, out, err = run("score", pictures / "red.png", pictures / "bad.png", "-p", PROMPT, "--csv")
    assert code == 1
    (row,) = csv.DictReader(io.StringIO(out))
    assert float(row["total"]) > 0
    assert "bad.png' cannot be decoded" in err
    assert "1 could not be scored" in err


def test_a_clip_without_frames_is_named_and_the_rest_is_scored(run, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
    write_media(tmp_path / "whole.mp4", frames, fps=8)
    for name in ("empty.mp4", "empty.png"):
        (tmp_path / name).write_bytes(b"")
    words = ("--checklist", "video-measured", "-p", "a red circle moves left on a white background")
    code, out, err = run("score", tmp_path / "whole.mp4", tmp_path / "empty.mp4", *words, "--csv")
    assert code == 1
    assert [row["file"] for row in csv.DictReader(io.StringIO(out))] == [str(tmp_path / "whole.mp4")]
    assert f"reward: clip '{tmp_path / 'empty.mp4'}' is empty (0 bytes); replace it\n" in err
    assert "1 could not be scored" in err
    assert "Traceback" not in err
    _, _, err = run("score", tmp_path / "empty.png", "-p", PROMPT)
    assert f"reward: picture '{tmp_path / 'empty.png'}' is empty (0 bytes); replace it\n" in err


def test_json_carries_answers_and_failures(run, pictures):
    code, out, _ = run("score", pictures / "red.png", pictures / "absent.png", "-p", PROMPT, "--json")
    found = json.loads(out)
    assert code == 1
    (row,) = found["scores"]
    assert row["total"] == pytest.approx(sum(row[name] for name in found["dimensions"]))
    assert len(row["p_yes"]) == len(found["questions"]) == 20
    assert row["prompt"] == PROMPT
    (failure,) = found["failures"]
    assert failure["file"] == str(pictures / "absent.png")
    assert "does not exist" in failure["why"]


def test_a_file_may_come_twice(run, pictures):
    lines = [{"file": "red.png", "prompt": prompt} for prompt in (PROMPT, "a blue star on the sea")]
    (pictures / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = json.loads(run("score", pictures / "list.jsonl", "--json")[1])
    first, second = found["scores"]
    assert first["p_yes"] != second["p_yes"]
    (pictures / "list.jsonl").write_text('{"file": "red.png", "prompt": null}')
    code, _, err = run("score", pictures / "list.jsonl")
    assert code == 2
    assert "line 1: prompt is None" in err


def test_prompts_from_a_file(run, pictures):
    lines = [{"file": "red.png", "prompt": PROMPT}, {"file": "dark.png", "prompt": "a blue star on the sea"}]
    (pictures / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    code, out, _ = run("score", pictures / "list.jsonl", "--csv", "--cache", pictures / "cache")
    assert code == 0
    assert len(out.splitlines()) == 3
    assert (pictures / "cache" / "answers.sqlite").exists()
    assert run("score", pictures / "list.jsonl", "--csv", "--cache", pictures / "cache")[1] == out
    assert run("score", pictures / "list.jsonl", "-p", "a star", "--csv")[2].endswith("leave one out\n")
    (pictures / "list.jsonl").write_text('{"file": "red.png"}')
    assert run("score", pictures / "list.jsonl", "-p", PROMPT, "--csv")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["score"], "give files"),
        (["score", "x.png", "--judge", "oracle"], "judge='oracle' is unknown"),
        (["score", "x.png", "--checklist", "nowhere.yaml"], "nowhere.yaml"),
        (["score", "x.png", "--questions", "clarity_9"], "clarity_9"),
        (["score", "x.png", "--checklist", __file__], "is not YAML"),
        (["score", "x.png", "--judge", "vlm"], "needs the option 'model'"),
        (["score", "x.png", "--judge", "vlm", "-o", "model"], "'model' is not KEY=VALUE"),
        (["score", "x.png", "--judge", "cogvlm2", "-o", "model=x"], "trust_remote_code"),
        (["score", "x.mp4", "--checklist", "video", "--questions", "safety_1"], "safety_1"),
        (["fit", "x.jsonl", "--output", "y.yaml"], "x.jsonl cannot be read"),
        (["agree", "x.jsonl", "--format", "csv"], "formats: jsonl"),
        (["serve-check", "http://127.0.0.1:9/v1"], "does not answer"),
    ],
)
def test_a_mistake_is_one_line(run, words, message):
    code, out, err = run(*words)
    assert code == 2
    assert message in err
    assert err.startswith("reward: ")
    assert len(err.splitlines()) == 1
    assert not out


def one_line(result: tuple[int, str, str], message: str) -> None:
    code, out, err = result
    assert code == 2
    assert err.startswith("reward: ")
    assert len(err.splitlines()) == 1
    assert message in err
    assert not out


def test_a_model_that_takes_no_clips_is_refused_in_one_line(run, tmp_path):
    """Though neither its weights nor x.mp4 are there: nothing is loaded or read before."""
    from tests.reward.judges.small_vlms import save_without_weights

    save_without_weights("idefics3", tmp_path / "model")
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"media": "x.mp4", "prompt": "", "answers": {"color_1": true}}', "utf-8")
    judge = ("--judge", "vlm", "-o", f"model={tmp_path / 'model'}")
    for words in (
        ("score", "x.mp4", "-p", PROMPT, *judge),
        ("tune", answers, "--model", tmp_path / "model", "--output", tmp_path / "tuned"),
    ):
        code, _, err = run(*words, "--quiet", "--checklist", "video")  # other libraries print as they are loaded
        assert code == 2
        (said,) = [line for line in err.splitlines() if line.startswith("reward: ")]
        assert f"judge 'vlm' with model='{tmp_path / 'model'}' takes images only; use a judge or model that" in said
        assert "takes videos, with a place for them in its chat template" in said
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\xff\x00", "is not UTF-8 text"),
        ("name: ärger".encode("latin-1"), "is not UTF-8 text"),
        (b"name: x\x00", "is not YAML"),
        (b"", "is not a mapping"),
        (b"{name: own, version: 1, kind: image}", "subdimensions: Field required"),
        (b"{name: own, version: one, kind: sound, subdimensions: 5}", "version"),
        (b"{1: 2}", "name: Field required"),
        (None, "Is a directory"),
    ],
)
def test_a_bad_checklist_file_is_one_line(run, pictures, content, message):
    if content is None:
        (pictures / "own.yaml").mkdir()
    else:
        (pictures / "own.yaml").write_bytes(content)
    one_line(run("score", pictures / "red.png", "-p", PROMPT, "--checklist", pictures / "own.yaml"), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"file": "ü.png", "prompt": "ü"}'.encode("latin-1"), "is not UTF-8 text"),
        (b"[1, 2]", "line 1: [1, 2] is not an object"),
        (b'{"file": "red.png", "prompt": "a"}\n\n[]', "line 3: [] is not an object"),
        (b'"text"', "is not an object"),
        (b'{"file": "red.png", "prompt": "a"}\n{"file"', "line 2: "),
        (b'{"file": 5, "prompt": "a"}', "line 1: file is 5"),
        (
            b'{"prompt": "a"}',
            "has no column 'file' or 'image' or 'video'; name one with --media-column (it has: prompt)",
        ),
        (b'{"file": "red.png", "prompt": "a"}\n{"prompt": "a"}', "line 2: has no field 'file'"),
        (
            b'{"file": "red.png", "text": "a"}',
            "has no column 'prompt'; name one with --prompt-column (it has: file, text)",
        ),
        (b"\n", "is empty"),
        (None, "list.jsonl' holds no picture"),
    ],
)
def test_a_bad_table_is_one_line(run, pictures, content, message):
    if content is None:
        (pictures / "list.jsonl").mkdir()
    else:
        (pictures / "list.jsonl").write_bytes(content)
    one_line(run("score", pictures / "list.jsonl"), message)


def test_a_prompt_may_hold_the_line_separator_of_unicode(run, pictures):
    (pictures / "list.jsonl").write_text('{"file": "red.png", "prompt": "a red\u2028circle"}\n', "utf-8")
    code, out, _ = run("score", pictures / "list.jsonl", "--json")
    assert code == 0
    assert json.loads(out)["scores"][0]["prompt"] == "a red\u2028circle"


def test_json_and_csv_at_once_are_refused(run, pictures):
    one_line(run("score", pictures / "red.png", "-p", PROMPT, "--json", "--csv"), "--json and --csv")


def test_a_cache_that_is_no_folder_or_no_database_is_one_line(run, pictures):
    words = ("score", pictures / "red.png", "-p", PROMPT, "--quiet", "--cache")
    one_line(run(*words, pictures / "bad.png"), "cannot be created as a folder")
    (pictures / "answers.sqlite").write_bytes(b"no database" * 100)
    one_line(run(*words, pictures), "answers.sqlite' cannot be used")


def test_a_folder_stands_for_the_pictures_in_it(run, pictures):
    (pictures / "below").mkdir()
    (pictures / "bad.png").unlink()
    Image.new("RGB", (64, 64), (9, 99, 9)).save(pictures / "below" / "deep.png")
    Image.new("RGB", (64, 64), (9, 99, 9)).save(pictures / "A.JPG")
    (pictures / "notes.txt").write_text("no picture")
    (pictures / ".hidden.png").write_text("no picture")
    code, out, _ = run("score", pictures, pictures / "below" / "deep.png", "-p", PROMPT, "--csv")
    assert code == 0
    files = [row["file"] for row in csv.DictReader(io.StringIO(out))]
    assert files == [str(pictures / name) for name in ("A.JPG", "dark.png", "red.png", "below/deep.png")]
    (pictures / "empty").mkdir()
    one_line(run("score", pictures / "empty", "-p", PROMPT), "empty' holds no picture (.avif")
    one_line(run("score", pictures / "empty", "--checklist", "video", "-p", PROMPT), "holds no clip (.avi")


def test_a_checklist_about_the_other_medium_is_named(run, pictures):
    """Nothing is read: the suffix is enough. Of files of both media, those of the other are named one by one, as before."""
    clips = pictures / "clips"
    clips.mkdir()
    for name in ("a.mp4", "b.webm"):
        (clips / name).write_bytes(b"no clip")
    (clips / "notes.txt").write_text("no picture")
    (pictures / "list.jsonl").write_text(json.dumps({"file": "clips/a.mp4", "prompt": PROMPT}))
    said = f"is asked about images, and only videos are given, such as {clips / 'a.mp4'}; use --checklist "
    a, b = clips / "a.mp4", clips / "b.webm"
    for words in (("score", a, b), ("score", clips), ("score", a, clips), ("compare", a, b), ("explain", a)):
        one_line(run(*words, "-p", PROMPT), said + "video-measured\n")
    one_line(run("score", pictures / "list.jsonl"), said + "video-measured\n")
    one_line(run("score", a, "-p", PROMPT, "--judge", "vlm", "-o", "model=a/b"), said + "video\n")
    words = ("score", pictures / "red.png", "-p", PROMPT, "--checklist", "video-measured")
    one_line(
        run(*words), f"is asked about videos, and only images are given, such as {words[1]}; use --checklist image\n"
    )

    code, out, err = run("score", pictures / "red.png", a, "-p", PROMPT, "--csv")
    assert (code, len(out.splitlines())) == (1, 2)
    assert "a.mp4' cannot be decoded" in err
    Image.new("RGB", (64, 64), (9, 99, 9)).save(clips / "c.gif")  # of both
    assert run("score", clips, "-p", PROMPT)[0] == 0
    assert run("score", clips / "c.gif", "-p", PROMPT)[0] == 0


def test_without_alignment_no_prompt_is_needed(run, pictures):
    """Of the questions that the measured judge answers, alignment alone asks about the prompt."""
    code, _, err = run("score", pictures / "red.png")
    assert code == 1
    assert "asks about the prompt, which is empty" in err
    code, out, _ = run("score", pictures / "red.png", "--no-alignment", "--json")
    found = json.loads(out)
    assert code == 0
    assert "alignment" not in found["questions"]
    assert len(found["questions"]) == 19
    (pictures / "list.jsonl").write_text('{"file": "red.png"}')
    found["scores"][0]["file"] = "red.png"
    assert json.loads(run("score", pictures / "list.jsonl", "--no-alignment", "--json")[1]) == found
    assert "red.png is better" in run("compare", pictures / "dark.png", pictures / "red.png", "--no-alignment")[1]
    parts = json.loads(run("explain", pictures / "red.png", "--no-alignment", "--json")[1])
    assert parts["total"] == pytest.approx(found["scores"][0]["total"])
    one_line(run("score", pictures / "red.png", "--questions", "alignment", "--no-alignment"), "give prompts")


def test_explain_as_json(run, pictures):
    code, out, _ = run("explain", pictures / "red.png", "-p", PROMPT, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["total"] == pytest.approx(sum(each["difference"] for each in found["contributions"]))
    first = found["contributions"][0]
    assert (first["question_id"], first["dimension"]) == ("alignment", "alignment")
    assert PROMPT in first["question"]
    assert first["difference"] == pytest.approx(2.3542882631150923 * first["answer"])
    assert "other_answer" not in first


def test_quiet_leaves_errors_alone_on_standard_error(run, pictures):
    words = ("score", pictures / "red.png", pictures / "bad.png", "-p", PROMPT)
    _, out, err = run(*words)
    assert "40 questions" in err
    assert "score: 2 of 2 items" in err
    code, quiet_out, quiet_err = run(*words, "--quiet")
    assert (code, quiet_out) == (1, out)
    assert len(quiet_err.splitlines()) == 2
    assert "bad.png' cannot be decoded" in quiet_err
    assert "1 could not be scored" in quiet_err
    for command in (("explain",), ("compare", pictures / "dark.png")):
        assert run(*command, pictures / "red.png", "-p", PROMPT, "-q")[2] == ""


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("folder", "is a folder"),
        ("weights.json", "does not end in .yaml"),
        ("bad.png/own.yaml", "its folder cannot be made"),
        ("there.yaml", "there.yaml exists; give another name"),
    ],
)
def test_where_fit_cannot_write_is_said_before_anything_is_judged(run, pictures, output, message):
    """Found at the end only, it would cost what a large judge answered for hours."""
    (pictures / "folder.yaml").mkdir()
    (pictures / "there.yaml").write_text("")
    output = "folder.yaml" if output == "folder" else output
    cache = pictures / "cache"
    one_line(run("fit", pictures / "absent.jsonl", "--output", pictures / output, "--cache", cache), message)
    assert not cache.exists()
    assert (pictures / "there.yaml").read_text() == ""


@pytest.mark.parametrize(
    ("num_prompts", "options", "message"),
    [
        (5, ("--method", "newton"), "method='newton' is unknown; methods: exact, projected"),
        (1, (), "1 group of pairs (those about one prompt) are too few for 5 folds; give preferences about at least 5"),
    ],
)
def test_what_cannot_be_fitted_is_said_before_anything_is_judged(run, pictures, num_prompts, options, message):
    rows = [{"prompt": f"{k % num_prompts}", "a": "red.png", "b": "dark.png", "preferred": "a"} for k in range(6)]
    (pictures / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("fit", pictures / "pairs.jsonl", "--output", pictures / "own.yaml", *options)
    one_line(run(*words, "--questions", "clarity_1", "--cache", pictures / "cache"), message)
    assert not (pictures / "cache").exists()


def test_a_fit_that_finds_no_weight_writes_none(run, pictures):
    rows = [{"prompt": f"{k}", "a": "red.png", "b": "dark.png", "preferred": "b"} for k in range(6)]
    (pictures / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("fit", pictures / "pairs.jsonl", "--output", pictures / "own.yaml", "--questions", "color_brightness_1")
    code, out, err = run(*words)
    assert code != 0
    assert "0.000" in out
    assert "every weight is 0" in err
    assert not (pictures / "own.yaml").exists()


def test_a_fit_that_predicts_no_better_than_a_coin_says_so(run, pictures):
    sides = "abababababa"
    rows = [{"prompt": f"{k}", "a": "red.png", "b": "dark.png", "preferred": side} for k, side in enumerate(sides)]
    (pictures / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("fit", pictures / "pairs.jsonl", "--output", pictures / "own.yaml", "--questions", "color_brightness_1")
    code, _, err = run(*words)
    assert code == 0
    assert "no better than a coin (log loss 0.693)" in err


def test_what_tune_cannot_do_is_said_before_a_model_is_loaded(run, pictures):
    words = ("tune", pictures / "answers.jsonl", "--model", pictures / "absent")
    one_line(run(*words, "--output", pictures), "exists and is no empty folder; give another name")
    assert run(*words, "--output", pictures / "new", "--micro-batch-size", "0")[0] == 2
    (pictures / "answers.jsonl").write_text('{"media": "red.png", "prompt": "", "answers": {"clarity_1": true}}')
    uneven = run(*words, "--output", pictures / "new", "--micro-batch-size", "3", "--quiet")
    assert uneven[0] == 2
    assert "batch_size=64 is not a multiple of micro_batch_size=3" in uneven[2]


def test_compare_and_explain(run, pictures):
    code, out, _ = run("compare", pictures / "dark.png", pictures / "red.png", "-p", PROMPT)
    assert code == 0
    assert "red.png is better" in out
    assert PROMPT in out
    found = json.loads(run("compare", pictures / "red.png", pictures / "red.png", "-p", PROMPT, "--json")[1])
    assert (found["preferred"], found["margin"]) == ("tie", 0.0)
    code, out, _ = run("explain", pictures / "red.png", "-p", PROMPT)
    assert code == 0
    assert "+2.354" in out


def test_fit_and_agree(run, tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(24):
        for name, level in (("a", int(rng.integers(10, 120))), ("b", int(rng.integers(10, 120)))):
            noise = rng.integers(0, level, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / f"{i}{name}.png")
        brighter = (
            np.asarray(Image.open(tmp_path / f"{i}a.png")).max() > np.asarray(Image.open(tmp_path / f"{i}b.png")).max()
        )
        rows.append({"prompt": f"{i}", "a": f"{i}a.png", "b": f"{i}b.png", "preferred": "a" if brighter else "b"})
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ids = "color_brightness_1,color_brightness_2,richness_4,clarity_1"
    code, out, _ = run("fit", tmp_path / "pairs.jsonl", "--output", tmp_path / "own.yaml", "--questions", ids)
    assert code == 0
    assert "24 pairs, 0 of them ties" in out
    fitted = load_checklist(tmp_path / "own.yaml")
    assert fitted.name == "own"
    assert fitted.weights.max() > 0
    words = ("fit", tmp_path / "pairs.jsonl", "--questions", ids, "--quiet")
    code, out, err = run(*words, "--output", tmp_path / "new" / "own.yml")
    assert (code, err) == (0, "")
    assert load_checklist(tmp_path / "new" / "own.yml") == fitted
    (tmp_path / "new" / "own.yml").write_text("")
    assert run(*words, "--output", tmp_path / "new" / "own.yml", "--overwrite")[0] == 0
    assert load_checklist(tmp_path / "new" / "own.yml") == fitted
    code, out, _ = run("agree", tmp_path / "pairs.jsonl", "--checklist", tmp_path / "own.yaml", "--json")
    assert code == 0
    total = json.loads(out)[0]
    assert (total["name"], total["num_pairs"]) == ("total", 24)
    assert "accuracy (diff)" in run("agree", tmp_path / "pairs.jsonl", "--questions", ids)[1]


def test_a_judge_against_people_s_answers(run, pictures):
    rows = [
        {"media": "red.png", "prompt": PROMPT, "answers": {"color_brightness_1": True, "face_1": False}},
        {"media": "dark.png", "prompt": PROMPT, "answers": {"color_brightness_1": False}},
    ]
    (pictures / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, out, _ = run("agree", pictures / "answers.jsonl", "--format", "annotations", "--json")
    assert code == 0
    assert json.loads(out) == [  # what the judge cannot answer is not asked
        {"question_id": "color_brightness_1", "balanced_accuracy": 1.0, "num_yes": 1, "num_no": 1}
    ]


def test_people_s_answers_to_a_checklist_of_one_s_own(run, pictures):
    (pictures / "own.yaml").write_text(
        "{name: own, version: 1, kind: image, subdimensions: [{name: s, dimension: d, questions: ["
        "{id: color_brightness_1, text: 'Bright?', weight: 1}, {id: mine, text: 'Mine?', weight: 1}]}]}"
    )
    rows = [
        {"media": "red.png", "answers": {"color_brightness_1": True, "mine": True}},
        {"media": "bad.png", "answers": {"mine": True}},
    ]
    (pictures / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["--checklist", pictures / "own.yaml", "--format", "annotations", "--json"]
    code, out, err = run("agree", pictures / "answers.jsonl", *words)
    assert [each["question_id"] for each in json.loads(out)] == ["color_brightness_1"]
    assert code == 1  # bad.png
    assert "1 questions of checklist" in err


def test_serve_check(run):
    with StandInServer() as server:
        code, out, _ = run("serve-check", server.url)
    assert code == 0
    assert "serves tiny; asked for logprobs of the yes and no tokens by id" in out
    assert out.count("P(yes)") == 2
    with StandInServer(by_id=False, always="no_logprobs") as server:
        code, _, err = run("serve-check", server.url)
    assert code == 2
    assert "no logprobs" in err


def test_help_and_version(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in ("score", "compare", "explain", "fit", "agree", "leaderboard", "tune", "serve-check"):
        assert command in out
    assert run("--version")[1].strip()


SCORER = "tests.helpers.judges:BrightnessScorer"


def test_a_scorer_brings_its_own_checklist(run, pictures):
    code, out, _ = run("score", pictures / "red.png", pictures / "dark.png", "-p", PROMPT, "--judge", SCORER, "--csv")
    assert code == 0
    first, second = csv.DictReader(io.StringIO(out))
    assert float(first["brightness"]) == float(first["total"]) > 100 > float(second["brightness"])


def test_what_a_scorers_number_adds_is_shown(run, pictures):
    """In the table, too, where an answer of a judge is yes or no."""
    words = ("-p", PROMPT, "--judge", SCORER)
    code, out, _ = run("explain", pictures / "red.png", *words)
    assert code == 0
    found = re.search(r"brightness\s+(\d+\.\d{3})", out)
    assert found, out
    number = float(found[1])
    assert number > 100
    assert f"+{number:.3f}" in out
    code, out, _ = run("compare", pictures / "red.png", pictures / "dark.png", *words)
    assert code == 0
    assert f"{number:.3f}" in out


def test_judges_of_a_file_are_asked_together_and_their_weights_learnt(run, pictures):
    """People who like light pictures: what they say gives the scorer its weight, and the judge's questions theirs."""
    judges = pictures / "judges.yaml"
    judges.write_text(
        "- {name: measured, checklist: image, questions: [color_brightness_1, clarity_1, richness_4]}\n"
        f"- {{name: '{SCORER}', weight: 0.01}}\n"
    )
    words = ("score", pictures / "red.png", "-p", PROMPT, "--judge", judges)
    found = json.loads(run(*words, "--json")[1])
    assert found["dimensions"][-1] == "brightness"
    assert found["judge"].endswith("+brightness")
    explained = json.loads(run("explain", *words[1:], "--json")[1])
    assert sum(each["difference"] for each in explained["contributions"]) == pytest.approx(found["scores"][0]["total"])

    rng = np.random.default_rng(0)
    levels = rng.integers(20, 236, (60, 2))
    lines = []
    for row, pair in enumerate(levels):
        for side, level in zip("ab", pair, strict=True):
            Image.new("RGB", (8, 8), (int(level),) * 3).save(pictures / f"{row}{side}.png")
        preferred = "a" if pair[0] + rng.normal(0, 20) > pair[1] else "b"
        lines.append({"prompt": f"p{row}", "a": f"{row}a.png", "b": f"{row}b.png", "preferred": preferred})
    (pictures / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    fitted = pictures / "fitted.yaml"
    code, out, _ = run("fit", pictures / "pairs.jsonl", "--output", fitted, "--judge", judges)
    assert code == 0, out
    learnt = {question.id: question for question in load_checklist(fitted)}
    assert learnt["brightness"].value
    assert learnt["brightness"].weight > 0.02  # of a level in 255: the noise is 20 levels
    # The learnt checklist, given to each judge, is the joint reward again.
    judges.write_text(
        f"- {{name: measured, checklist: {fitted}, questions: answerable}}\n"
        f"- {{name: '{SCORER}', checklist: {fitted}, questions: answerable}}\n"
    )
    again = json.loads(run(*words, "--json")[1])
    assert again["questions"] == found["questions"]
    total = sum(
        learnt[i].weight * (value if learnt[i].value else (1 if value >= 0.5 else -1))
        for i, value in zip(again["questions"], again["scores"][0]["p_yes"], strict=True)
    )
    assert again["scores"][0]["total"] == pytest.approx(total)


def test_options_of_one_judge_do_not_go_with_a_file_of_several(run, pictures):
    (pictures / "judges.yaml").write_text("- {name: measured, checklist: image}\n")
    words = ("score", pictures / "red.png", "-p", PROMPT, "--judge", pictures / "judges.yaml")
    one_line(run(*words, "--checklist", "image"), "--checklist goes with one judge; write it into")
    one_line(run(*words, "-o", "a=1"), "--option goes with one judge; write it into")
