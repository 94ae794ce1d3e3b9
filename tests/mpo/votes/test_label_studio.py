"""The shapes are those of Label Studio 1.23: what its interface stored after clicks on a picture and on a choice."""

import json
from xml.etree import ElementTree

import pytest

from mpo import MpoError
from mpo.votes.interchange import export_tasks, import_votes
from mpo.votes.label_studio import labelling_interface
from mpo.votes.store import read_votes

PAIRWISE = {
    "id": "-rvyyYyrxy",
    "from_name": "preferred",
    "to_name": "preferred",
    "type": "pairwise",
    "origin": "manual",
}
CHOICES = {"id": "ailpZX69Ve", "from_name": "neither", "to_name": "prompt", "type": "choices", "origin": "manual"}
RESULTS = {
    "left": [{**PAIRWISE, "value": {"selected": "left"}}],
    "right": [{**PAIRWISE, "value": {"selected": "right"}}],
    "tie": [{**CHOICES, "value": {"choices": ["tie"]}}],
    "both_bad": [{**CHOICES, "value": {"choices": ["both bad"]}}],
    None: [],
}


def labelled(task: dict, result: list, number: int = 1, **changes) -> dict:
    """A task as Label Studio's export gives it, with one annotation."""
    annotation = {
        "id": number, "completed_by": 1, "result": result, "was_cancelled": False, "ground_truth": False,
        "created_at": "2026-11-29T10:55:05.411051Z", "updated_at": "2026-11-29T10:55:05.411131Z", "draft_created_at": None,
        "lead_time": 21.062, "prediction": {}, "result_count": len(result), "unique_id": f"c12de464-26cb-410b-93ce-{number:012d}",
        "import_id": None, "last_action": None, "task": number, "project": 3, "updated_by": 1, **changes,
    }  # fmt: skip
    return {
        "id": number,
        "annotations": [annotation],
        "drafts": [],
        "predictions": [],
        "meta": {},
        "inner_id": number,
        **task,
    }


@pytest.fixture
def tasks(run, tmp_path):
    export_tasks(run, tmp_path / "tasks.json")
    return json.loads((tmp_path / "tasks.json").read_text("utf-8"))


def imported(run, tmp_path, tasks, **options):
    (tmp_path / "labelled.json").write_text(json.dumps(tasks), "utf-8")
    return import_votes(run, tmp_path / "labelled.json", **options)


def test_what_was_labelled_is_stored_as_votes(run, tmp_path, tasks):
    choices = ["left", "right", "tie", "both_bad", None]
    done = imported(
        run,
        tmp_path,
        [labelled(task, RESULTS[choice], k) for k, (task, choice) in enumerate(zip(tasks, choices, strict=False))]
        + tasks[5:],
        rater="ann",
    )
    assert (done.num_new, done.num_corrected, done.num_known, done.num_unanswered) == (4, 0, 0, len(tasks) - 4)
    votes = read_votes(run)
    assert [vote.choice for vote in votes] == ["left", "right", "tie", "both_bad"]
    assert {(vote.rater, vote.question, vote.time, vote.seconds) for vote in votes} == {
        ("ann", "overall", "2026-11-29T10:55:05Z", 21.062)
    }
    for vote, task in zip(votes, tasks, strict=False):
        assert vote.prompt == task["data"]["prompt"]
        shown = (tmp_path / "tasks-media" / task["data"]["left"].rpartition("/")[2]).read_bytes()
        assert shown == (tmp_path / "tasks-media" / shown_name(tmp_path, run.votes / "overall" / vote.a)).read_bytes()


def shown_name(tmp_path, sample) -> str:
    """The copy in tasks-media with a sample's pixels."""
    from reward.media import read_image

    pixels = read_image(sample).tobytes()
    (name,) = [file.name for file in (tmp_path / "tasks-media").iterdir() if read_image(file).tobytes() == pixels]
    return name


def test_without_a_name_users_are_told_apart(run, tmp_path, tasks):
    imported(run, tmp_path, [labelled(tasks[0], RESULTS["left"]), labelled(tasks[1], RESULTS["left"], 2, completed_by={"id": 7, "email": "a@b"})])  # fmt: skip
    assert sorted(vote.rater for vote in read_votes(run)) == ["annotator-1", "annotator-7"]
    with pytest.raises(MpoError, match=r"answers of 2 people \(annotator-1, annotator-2\), and --rater=ann names one"):
        imported(run, tmp_path, [labelled(tasks[k], RESULTS["left"], k, completed_by=k) for k in (1, 2)], rater="ann")


def test_cancelled_annotations_are_no_votes(run, tmp_path, tasks):
    done = imported(run, tmp_path, [labelled(tasks[0], RESULTS["left"], was_cancelled=True)], rater="ann")
    assert (done.num_new, done.num_unanswered) == (0, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {"tasks": t}, "holds no list of tasks; export from Label Studio as JSON"),
        (lambda t: [t[0], {"prompt": "p", "preferred": []}], "task 2: there is no data; .*not as JSON-MIN"),
        (lambda t: [t[0], {**t[1], "annotations": {}}, {**t[1], "annotations": 5}], "task 3: annotations is no list"),
        (lambda t: [labelled(t[0], [{**PAIRWISE, "value": {"selected": "up"}}])], "task 1, annotation 1: selected='up' is neither"),
        (lambda t: [labelled(t[0], [{**CHOICES, "value": {"choices": ["same"]}}])], r"annotation 1: choices=\['same'\] is neither"),
        (lambda t: [labelled(t[0], RESULTS["left"] + RESULTS["tie"])], "annotation 1: it says left and tie; take one of them back"),
        (lambda t: [labelled(t[0], RESULTS["left"], lead_time=-3)], "annotation 1: lead_time=-3 is no duration"),
        (lambda t: [labelled(t[0], RESULTS["left"], updated_at="noon")], "annotation 1: updated_at='noon' is no time"),
        (lambda t: [{**t[0], "annotations": [{"result": "left"}]}], "annotation 1: result is no list"),
        (lambda t: [{"data": {**t[0]["data"], "comparison": "x"}}], "task 1, data: comparison='x' is no pair of this evaluation"),
        (lambda t: [{"data": {**t[0]["data"], "left": t[1]["data"]["left"]}}], "task 1, data: left=.* is neither of the pair's"),
        (lambda t: [{"data": {**t[0]["data"], "question": "wit"}}], "task 1, data: question 'wit' is unknown; ask overall"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_and_nothing_stored(run, tmp_path, tasks, change, words):
    good = labelled(tasks[4], RESULTS["left"], 9)
    content = change(tasks)
    with pytest.raises(MpoError, match=words):
        imported(run, tmp_path, [*content, good] if isinstance(content, list) else content, rater="ann")
    assert not run.votes.exists()


def test_the_interface_names_the_fields_of_the_tasks(tasks):
    for clips, tag in ((False, "Image"), (True, "Video")):
        view = ElementTree.fromstring(labelling_interface("main_object", clips=clips))
        values = {element.get("value", "") for element in view.iter()}
        assert {value[1:] for value in values if value.startswith("$")} <= set(tasks[0]["data"])
        assert len(view.findall(f".//{tag}")) == 2
        header, pairwise = view.find("Header"), view.find("Pairwise")
        assert header is not None
        assert pairwise is not None
        assert "Which is better in main object?" in header.get("value", "")
        assert pairwise.get("toName") == "left,right"
