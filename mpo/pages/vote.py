"""`mpo vote`: blind votes in the browser, served on this machine alone.

The page gets two samples as left and right, by addresses that say no more; which is which stays here until the votes are counted.
"""

import json
from collections.abc import Mapping
from typing import Any

from mpo import MpoError
from mpo.pages.report import STYLES
from mpo.pages.server import TYPES, Answer, Get, NotFoundError, Post, blind, linked, static
from mpo.run_folder.media import kind_of
from mpo.run_folder.paths import RunFolder
from mpo.votes.voting import Ballot, cast, count_ballots, find_ballot, last_ballot, next_ballot, questions

SCRIPTS = ("dom.js", "media.js", "vote.js")


def vote_routes(run: RunFolder, rater: str) -> tuple[Get, Post]:
    """What the page of one rater asks for, and what it sends. Raises MpoError if the run has not been evaluated, or for such a name."""
    asked = questions(run)
    next_ballot(run, rater, asked[0])  # so that a mistake is told before the page opens

    def get(path: str) -> Answer:
        if path in ("", "index.html"):
            return linked("vote.html", STYLES, SCRIPTS)
        if path in (*STYLES, *SCRIPTS):
            return static(path)
        if path == "booth.json":
            return json.dumps({"run": run.folder.name, "rater": rater, "questions": asked}).encode(), TYPES[".json"]
        place, _, rest = path.partition("/")
        ballot_id, _, side = rest.partition("/")
        if place == "ballot" and side.partition(".")[0] in ("left", "right"):
            ballot = find_ballot(run, ballot_id)
            return blind(ballot.left if side.startswith("left") else ballot.right)
        raise NotFoundError

    def post(path: str, record: Mapping[str, Any]) -> Mapping[str, Any]:
        match path:
            case "next" | "last":
                question = _field(record, "question")
                find = next_ballot if path == "next" else last_ballot
                return _told(run, rater, question, find(run, rater, question))
            case "cast":
                id_, choice, seconds = (_field(record, name) for name in ("id", "choice", "seconds"))
                vote = cast(run, id_, choice, seconds)
                return _told(run, rater, vote.question, next_ballot(run, rater, vote.question))
        raise NotFoundError

    return get, post


def _field(record: Mapping[str, Any], name: str) -> Any:
    if name not in record:
        raise MpoError(f"{name} is missing from what the page sent; load it again")
    return record[name]


def _told(run: RunFolder, rater: str, question: str, ballot: Ballot | None) -> Mapping[str, Any]:
    """What the page learns of a ballot; without an id if there is none."""
    if ballot is None:
        return {"id": None, "count": count_ballots(run, rater, question)}
    return {
        "id": ballot.id,
        "kind": kind_of(ballot.left),
        "prompt": ballot.prompt,
        "position": ballot.position,
        "count": ballot.count,
    }
