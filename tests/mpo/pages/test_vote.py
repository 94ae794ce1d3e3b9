"""The server of `mpo vote`, asked over HTTP as its page does."""

import json
import shutil
from typing import Any

import pytest

from mpo import MpoError
from mpo.pages.server import LocalServer
from mpo.pages.vote import SCRIPTS, vote_routes
from mpo.run_folder.paths import RunFolder
from tests.helpers.servers import ask, serving


@pytest.fixture
def run(finished, tmp_path) -> RunFolder:
    return RunFolder(shutil.copytree(finished, tmp_path / "run"))


def post(server: LocalServer, path: str, **record: Any) -> tuple[int, Any]:
    """Status, and the record or the words that came back."""
    headers = {"Content_Type": "application/json", "Origin": server.url.rstrip("/")}
    status, _, content = ask(server, path, "POST", json.dumps(record).encode(), **headers)
    return status, json.loads(content) if status == 200 else content.decode()


def test_a_rater_votes_goes_back_and_comes_to_the_end(run):
    """Four pairs, one of them again: five ballots, each told without the names of the models."""
    with serving(*vote_routes(run, "anna")) as server:
        booth = json.loads(ask(server, "/booth.json")[2])
        assert (booth["rater"], booth["questions"][0]) == ("anna", "overall")
        assert post(server, "last", question="overall")[1]["id"] is None
        _, ballot = post(server, "next", question="overall")
        assert (ballot["position"], ballot["count"], ballot["kind"]) == (1, 5, "image")
        seen = []
        while ballot["id"]:
            seen.append(ballot["id"])
            pictures = {ask(server, f"/ballot/{ballot['id']}/{side}.png")[2] for side in ("left", "right")}
            assert all(picture.startswith(b"\x89PNG") for picture in pictures)
            assert not any(b"tuned" in picture or b"base" in picture or b"mpo" in picture for picture in pictures)
            assert not {"base", "tuned"} & {word for value in ballot.values() for word in str(value).split()}
            _, ballot = post(server, "cast", id=ballot["id"], choice="left", seconds=1.5)
        assert len(set(seen)) == 5
        _, again = post(server, "last", question="overall")
        assert again["id"] == seen[-1]
        post(server, "cast", id=again["id"], choice="tie", seconds=0.5)
    lines = [json.loads(line) for line in (run.votes / "overall" / "anna.jsonl").read_text().splitlines()]
    assert [line["choice"] for line in lines] == ["left"] * 5 + ["tie"]
    assert lines[-1]["replaces"] == lines[-2]["id"]
    assert sum(line["repeat"] for line in lines[:5]) == 1


def test_a_dimension_is_asked_about_apart(run):
    with serving(*vote_routes(run, "ben")) as server:
        _, ballot = post(server, "next", question="quality")
        post(server, "cast", id=ballot["id"], choice="both_bad", seconds=None)
    assert json.loads((run.votes / "quality" / "ben.jsonl").read_text())["question"] == "quality"
    assert not (run.votes / "overall").exists()


@pytest.mark.parametrize(
    ("path", "record", "words"),
    [
        ("next", {"question": "wit"}, "question 'wit' is unknown"),
        ("cast", {"id": "overall.anna.0", "choice": "left", "seconds": 1}, "ask for the next ballot"),
        ("cast", {"id": "overall.anna.0", "choice": "up", "seconds": 1}, "choice 'up' is unknown"),
        ("cast", {"id": "overall.anna.0"}, "choice is missing"),
    ],
)
def test_what_cannot_be_a_vote_is_told_and_not_stored(run, path, record, words):
    with serving(*vote_routes(run, "anna")) as server:
        status, told = post(server, path, **record)
    assert (status, words in told) == (400, True), told
    assert not list(run.votes.rglob("*.jsonl"))


def test_only_the_page_and_its_ballots_are_served(run):
    with serving(*vote_routes(run, "anna")) as server:
        for name in ("", "style.css", *SCRIPTS):
            assert ask(server, f"/{name}")[0] == 200
        _, ballot = post(server, "next", question="overall")
        for path in ("/evaluation/samples/base/0.png", f"/ballot/{ballot['id']}/base.png", "/page.html", "/tabs.js"):
            assert ask(server, path)[0] == 404
        assert ask(server, "/ballot/nosuch/left.png")[0] == 400
        assert post(server, "nosuch")[0] == 404


def test_mistakes_are_told_before_the_page_opens(run, tmp_path):
    with pytest.raises(MpoError, match="rater 'a b' is no name"):
        vote_routes(run, "a b")
    with pytest.raises(MpoError, match="is not a run"):
        vote_routes(RunFolder(tmp_path), "anna")
