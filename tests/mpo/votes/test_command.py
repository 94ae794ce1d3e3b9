"""`mpo votes` on the command line, and the whole way from a finished run to weights learnt from its votes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw, ImageFilter

from mpo.cli import main
from mpo.recipe import read_recipe
from mpo.run import prepare, run_stage
from mpo.run_folder.paths import RunFolder
from mpo.votes.store import read_votes
from mpo.votes.voting import cast, next_ballot
from tests.helpers.command import reward
from tests.helpers.votes import evaluated_run, vote_for, vote_on_all


@pytest.fixture
def mpo(capsys, monkeypatch):
    """Exit code, standard output and standard error of `mpo ARGUMENTS`."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mpo", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return call


def test_results_in_words_and_as_json(run, mpo):
    vote_for(run, "ann", 0, "right")
    vote_for(run, "ann", 2, "right")
    code, out, _ = mpo("votes", run.folder)
    assert (code, "| overall | ann | 2 | 2 | 1.000 (1.000 to 1.000) |" in out) == (0, True)
    code, out, _ = mpo("votes", run.folder, "--json")
    assert (code, json.loads(out)["num_votes"]) == (0, 2)


def test_tasks_go_out_and_votes_come_in(run, mpo, tmp_path):
    code, out, _ = mpo(
        "votes", run.folder, "--export", tmp_path / "t.json", "--tasks", "--media-url", "https://host/x/"
    )
    assert (code, out.split()) == (0, [str(tmp_path / name) for name in ("t.json", "t.xml", "t-media")])
    tasks = json.loads((tmp_path / "t.json").read_text("utf-8"))
    assert tasks[0]["data"]["left"].startswith("https://host/x/t-media/")
    tasks[0]["annotations"] = [{"result": [{"type": "pairwise", "value": {"selected": "left"}}], "completed_by": 1}]
    (tmp_path / "labelled.json").write_text(json.dumps(tasks), "utf-8")
    code, out, _ = mpo("votes", run.folder, "--import", tmp_path / "labelled.json", "--rater", "ann")
    assert (code, out) == (0, "1 new votes, 0 corrected, 0 known already, 8 without an answer\n")
    code, out, _ = mpo(
        "votes", run.folder, "--export", tmp_path / "votes.csv", "--question", "overall", "--rater", "ann"
    )
    assert (code, out) == (0, f"{tmp_path / 'votes.csv'}\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--export", "x.json", "--import", "y.json"], "--export with --import"),
        (["--tasks"], "--tasks is for --export FILE"),
        (["--question", "overall"], "--question is for --export FILE"),
        (["--import", "x.json", "--media-url", "u"], "--media-url is for --export FILE"),
        (["--rater", "ann"], "--rater=ann is for --export and --import"),
        (["--import", "x.json", "--json"], "--json is for the results"),
        (["--import", "absent.json"], "absent.json"),
        (["--export", "x.json", "--tasks", "--question", "wit"], "question 'wit' is unknown"),
        ([], "holds no vote; vote with"),
    ],
)
def test_a_mistake_is_one_line(run, mpo, monkeypatch, tmp_path, options, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = mpo("votes", run.folder, *options)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.splitlines()) == 1


def test_votes_outlive_an_evaluation_that_is_made_anew(finished, tmp_path, mpo):
    """Seconds: a run is copied, and evaluated twice more, to the same samples and to others."""
    run = RunFolder(shutil.copytree(finished, tmp_path / "run"))
    before = mpo("status", run.folder)
    count = vote_on_all(run, "ann", lambda prompt, left, right: "left" if left == "tuned" else "right")
    assert count == 5  # 4 pairs, and one again
    assert mpo("status", run.folder) == before
    assert mpo("compare", run.folder)[0] == 0
    other = prepare(read_recipe(run.recipe), tmp_path / "other", source=run.folder)  # as `mpo run --from` begins
    assert (other.scores.exists(), other.votes.exists()) == (True, False)
    run_stage(run.folder, "evaluate", redo=True)  # the same bytes again
    results = json.loads(mpo("votes", run.folder, "--json")[1])
    assert (results["num_votes"], results["num_set_aside"], results["rates"][0]["win_rate"]["value"]) == (5, 0, 1.0)
    code, out, _ = reward("agree", run.votes / "overall", "--json", "--quiet")
    assert (code, json.loads(out)[0]["num_pairs"]) == (0, 5)

    fields = yaml.safe_load(run.recipe.read_text("utf-8"))
    fields["evaluate"]["seed"] = 2
    run.recipe.write_text(yaml.safe_dump(fields), "utf-8")
    votes = (run.votes / "overall" / "ann.jsonl").read_bytes()
    run_stage(run.folder, "evaluate", redo=True)
    assert (run.votes / "overall" / "ann.jsonl").read_bytes() == votes
    assert "0 votes; 5 more are set aside: their samples have been made anew since" in mpo("votes", run.folder)[1]
    code, _, err = reward("agree", run.votes / "overall", "--quiet")
    assert (
        code,
        "5 of 5 rows are left out: their files are missing or are no longer those that were judged" in err,
    ) == (2, True)
    assert vote_on_all(run, "ann", lambda *_: "tie") == 5


def test_weights_are_learnt_from_the_votes_of_people_with_known_tastes(tmp_path, mpo):
    """Seconds: the whole way, with 198 votes. Ann likes sharp pictures, Bob bright ones."""
    rng = np.random.default_rng(0)
    sharp, bright = (dict(zip(_samples(5, 6), rng.integers(2, size=60).tolist(), strict=True)) for _ in range(2))

    def draw(model: str, prompt: int, seed: int) -> Image.Image:
        light = bright[model, prompt, seed]
        image = Image.new("RGB", (128, 128), (235, 235, 225) if light else (60, 60, 57))
        colour = ((220, 40, 40), (40, 90, 220), (40, 160, 60), (240, 200, 40))[prompt % 4]
        box = (20 + seed, 20 + prompt, 90 + seed, 90 + prompt)
        ImageDraw.Draw(image).ellipse(box, fill=colour if light else tuple(value // 4 for value in colour))
        return image if sharp[model, prompt, seed] else image.filter(ImageFilter.GaussianBlur(3))

    run = evaluated_run(tmp_path / "run", 5, 6, draw=draw)
    tastes = {"ann": sharp, "bob": bright}
    for rater, liked in tastes.items():
        for question in ("overall", "quality", "composition"):
            assert _vote_by(run, rater, liked, question) == 33  # 30 pairs, and three again
    results = json.loads(mpo("votes", run.folder, "--json")[1])
    assert results["num_votes"] == 198
    wins = {
        rater: np.mean([(liked["tuned", p, s] - liked["base", p, s] + 1) / 2 for p in range(5) for s in range(6)])
        for rater, liked in tastes.items()
    }
    found = {row["rater"]: row["win_rate"]["value"] for row in results["rates"] if row["question"] == "overall"}
    assert found == pytest.approx({None: np.mean(list(wins.values())), **wins})
    assert {row["share"]["value"] for row in results["self_agreement"]} == {1.0}
    same = np.mean([_sign(sharp, p, s) == _sign(bright, p, s) for p in range(5) for s in range(6)])
    assert [row["share"]["value"] for row in results["rater_agreement"]] == pytest.approx([same] * 3)

    learnt, cache = tmp_path / "own.yaml", tmp_path / "cache"
    asked = ["--checklist", "image", "--questions", "answerable", "--cache", cache, "--quiet"]
    code, _, err = reward("fit", run.votes / "overall", "--output", tmp_path / "both.yaml", *asked)
    assert code == 0, err
    assert reward("fit", run.votes / "overall" / "ann.jsonl", "--output", learnt, *asked)[0] == 0
    for rater, low, high in (("ann", 0.9, 1.0), ("bob", 0.2, 0.8)):
        votes = run.votes / "overall" / f"{rater}.jsonl"
        code, out, _ = reward("agree", votes, "--checklist", learnt, "--cache", cache, "--json", "--quiet")
        assert code == 0
        assert low <= json.loads(out)[0]["accuracy"]["value"] <= high
    assert all(vote.seconds == 1.5 for vote in read_votes(run))


def _samples(num_prompts: int, num_seeds: int) -> list[tuple[str, int, int]]:
    return [(model, p, s) for model in ("base", "tuned") for p in range(num_prompts) for s in range(num_seeds)]


def _sign(liked: dict, prompt: int, seed: int) -> int:
    return liked["tuned", prompt, seed] - liked["base", prompt, seed]


def _vote_by(run: RunFolder, rater: str, liked: dict, question: str) -> int:
    """Of two samples, the one that is liked, else a tie."""
    count = 0
    while ballot := next_ballot(run, rater, question):
        left, right = (liked[_sample_of(side)] for side in (ballot.left, ballot.right))
        cast(run, ballot.id, "tie" if left == right else "left" if left > right else "right", 1.5)
        count += 1
    return count


def _sample_of(file: Path) -> tuple[str, int, int]:
    prompt, seed = file.stem.split("-")
    return file.parent.name, int(prompt), int(seed)
