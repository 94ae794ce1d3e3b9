from collections.abc import Callable
from typing import Any

import pytest

from mpo import MpoError
from mpo.run_folder.paths import RunFolder
from mpo.votes.store import read_votes, standing
from mpo.votes.voting import Ballot, cast, find_ballot, last_ballot, next_ballot, questions
from tests.helpers.votes import vote_on_all


def shown(which: Callable[..., Ballot | None], *arguments: Any) -> Ballot:
    """The ballot that there is."""
    ballot = which(*arguments)
    assert ballot is not None
    return ballot


def test_a_rater_is_shown_every_pair_and_a_repeat_and_then_nothing(run):
    positions, prompts = [], []
    while ballot := next_ballot(run, "ann", "overall"):
        assert next_ballot(run, "ann", "overall") == ballot  # until it is cast
        assert {ballot.left.parent.name, ballot.right.parent.name} == {"base", "tuned"}
        assert ballot.left.name == ballot.right.name
        positions.append((ballot.position, ballot.count))
        prompts.append(ballot.prompt)
        cast(run, ballot.id, "left", 2.0)
    assert positions == [(k, 9) for k in range(1, 10)]  # 8 pairs, and one again
    assert {prompts.count(prompt) for prompt in prompts} == {2, 3}
    assert next_ballot(run, "bob", "overall") is not None


def test_what_is_stored_says_who_saw_what_where(run):
    ballot = shown(next_ballot, run, "ann", "quality")
    vote = cast(run, ballot.id, "both_bad", 3.25)
    assert read_votes(run) == [vote]
    assert (vote.rater, vote.question, vote.choice, vote.seconds) == ("ann", "quality", "both_bad", 3.25)
    folder = run.votes / "quality"
    assert (folder / vote.a).resolve() == ballot.left.resolve()
    assert (folder / vote.b).resolve() == ballot.right.resolve()
    assert vote.left == ballot.left.parent.name
    assert (vote.prompt, vote.seed // 1000) == (ballot.prompt, vote.prompt_id)


def test_going_back_replaces_the_last_vote_and_changes_no_line(run):
    assert last_ballot(run, "ann", "overall") is None
    first = shown(next_ballot, run, "ann", "overall")
    cast(run, first.id, "left", 1.0)
    second = shown(next_ballot, run, "ann", "overall")
    cast(run, second.id, "left", 1.0)
    before = (run.votes / "overall" / "ann.jsonl").read_bytes()
    again = shown(last_ballot, run, "ann", "overall")
    assert again == second
    cast(run, again.id, "tie", 1.0)
    assert (run.votes / "overall" / "ann.jsonl").read_bytes().startswith(before)
    assert [vote.choice for vote in standing(read_votes(run))] == ["left", "tie"]
    assert shown(next_ballot, run, "ann", "overall").position == 3
    cast(run, first.id, "right", 1.0)  # further back, by its id
    assert find_ballot(run, first.id).id == first.id
    assert sorted(vote.choice for vote in standing(read_votes(run))) == ["right", "tie"]


def test_the_same_ballot_sent_twice_counts_once(run):
    ballot = shown(next_ballot, run, "ann", "overall")
    for _ in range(3):
        cast(run, ballot.id, "left", 1.0)
    assert len(standing(read_votes(run))) == 1
    assert shown(next_ballot, run, "ann", "overall").position == 2


def test_the_questions_are_those_of_the_checklist(run):
    assert questions(run) == ("overall", "composition", "quality")


def test_a_pair_made_anew_is_shown_again_and_the_others_are_not(run):
    count = vote_on_all(run, "ann", lambda *_: "left")
    stale = run.samples / "tuned" / "000001-00.png"
    stale.write_bytes((run.samples / "tuned" / "000000-00.png").read_bytes())
    ballot = shown(next_ballot, run, "ann", "overall")
    assert (ballot.prompt, ballot.count) == ("a blue circle", count)
    assert vote_on_all(run, "ann", lambda *_: "left") in (1, 2)  # 2 where the repeat falls on it


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"choice": "best"}, "choice 'best' is unknown; use left, right, tie, both_bad"),
        ({"seconds": -1.0}, "seconds=-1.0 is no duration"),
        ({"seconds": float("nan")}, "seconds=nan is no duration"),
        ({"ballot_id": "overall.ann.0123456789abcdef"}, "is of no pair of this evaluation"),
        (
            {"ballot_id": "beauty.ann.0123456789abcdef"},
            "question 'beauty' is unknown; ask overall, composition, quality",
        ),
        ({"ballot_id": "overall.../../x.0"}, "rater '' is no name"),
    ],
)
def test_what_cannot_be_a_vote_is_refused_and_nothing_stored(run, change, words):
    ballot = shown(next_ballot, run, "ann", "overall")
    with pytest.raises(MpoError, match=words):
        cast(run, **{"ballot_id": ballot.id, "choice": "left", "seconds": 1.0, **change})
    assert not run.votes.exists()


@pytest.mark.parametrize("name", ["", "ann b", "../ann", "a" * 65, "ä"])
def test_a_rater_s_name_can_be_a_file_s(run, name):
    with pytest.raises(MpoError, match="letters, digits, dashes"):
        next_ballot(run, name, "overall")


def test_a_run_that_is_not_evaluated_is_named(run, tmp_path):
    with pytest.raises(MpoError, match=r"no recipe\.yaml"):
        next_ballot(RunFolder(tmp_path / "other"), "ann", "overall")
    run.summary.unlink()
    with pytest.raises(MpoError, match="run `mpo evaluate"):
        next_ballot(run, "ann", "overall")
