import json

import pytest

from mpo.pages.facts import facts_of, words
from mpo.run_folder.paths import RunFolder


def test_a_run_says_on_what_and_with_what_it_was_made(finished):
    facts = dict(facts_of(RunFolder(finished)))
    assert "CPU cores" in facts["hardware"] or "GiB" in facts["hardware"]
    assert "torch " in facts["versions"]
    assert "GiB" in facts["memory while training"]
    assert {"time", "generate", "train", "evaluate"} <= set(facts)


def test_a_stage_counts_from_its_last_start(tmp_path):
    """Begun at :00 and killed; begun again at 1:00:10, done at 1:02:10: two minutes."""
    events = [("10:00:00", "start"), ("11:00:10", "start"), ("11:02:10", "done")]
    lines = [json.dumps({"time": f"2030-01-01T{at}Z", "event": event, "stage": "train"}) for at, event in events]
    (tmp_path / "log.jsonl").write_text(
        "\n".join([*lines, json.dumps({"time": "2030-01-01T12:00:00Z", "event": "repair"})]) + "\n"
    )
    assert facts_of(RunFolder(tmp_path)) == [("time", "2 min in all"), ("train", "2 min")]


@pytest.mark.parametrize(("seconds", "text"), [(12, "12 s"), (150, "2 min"), (7500, "2 h 5 min")])
def test_times_are_told_as_people_do(seconds, text):
    assert words(seconds) == text
