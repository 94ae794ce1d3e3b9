"""Pairs and votes as Label Studio reads and writes them: a JSON list of tasks, and the labelling interface in XML.

A preference is a result of the control tag Pairwise, a tie and "both bad" are results of Choices. Written by the forms that Label
Studio 1.23 takes and gives in its API's import and in its export "JSON"; on import it keeps a task's data and drops what it
does not know of an annotation, such as who made it.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mpo import MpoError
from mpo.votes.answers import Answer, Showings, checked_seconds, checked_time
from mpo.votes.pairs import OVERALL
from mpo.votes.store import Choice, Vote

PAIRWISE, CHOICES = "preferred", "neither"  # names of the two control tags
WORDS: dict[str, Choice] = {"tie": "tie", "both bad": "both_bad"}
CONFIG = """<View>
  <Header value="{question} Click on it, or choose:"/>
  <Text name="prompt" value="$prompt"/>
  <Choices name="neither" toName="prompt" choice="single" showInline="true">
    <Choice value="tie"/>
    <Choice value="both bad"/>
  </Choices>
  <Pairwise name="preferred" toName="left,right"/>
  <View style="display: flex; gap: 1em">
    <View style="flex: 1"><{tag} name="left" value="$left"/></View>
    <View style="flex: 1"><{tag} name="right" value="$right"/></View>
  </View>
</View>
"""


def labelling_interface(question: str, *, clips: bool) -> str:
    """What to paste as the project's labelling interface ("Code")."""
    words = "Which is better?" if question == OVERALL else f"Which is better in {question.replace('_', ' ')}?"
    return CONFIG.format(question=words, tag="Video" if clips else "Image")


def annotation_of(vote: Vote) -> dict[str, Any]:
    """A vote as a task's annotation. `rater` is no field of Label Studio's, which drops it."""
    if vote.choice in ("left", "right"):
        result = {"from_name": PAIRWISE, "to_name": PAIRWISE, "type": "pairwise", "value": {"selected": vote.choice}}
    else:
        word = next(word for word, choice in WORDS.items() if choice == vote.choice)
        result = {"from_name": CHOICES, "to_name": "prompt", "type": "choices", "value": {"choices": [word]}}
    return {
        "unique_id": vote.id,
        "rater": vote.rater,
        "created_at": vote.time,
        "lead_time": vote.seconds,
        "result": [{"id": vote.id[:8], **result}],
    }


def read_tasks(file: Path, showings: Showings) -> tuple[list[Answer], int]:
    """The answers in an export, and how many tasks and annotations have none. Raises MpoError naming file, task and field."""
    try:
        tasks = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise MpoError(f"{file} is not JSON ({error}); export from Label Studio as JSON") from None
    if not isinstance(tasks, list):
        raise MpoError(
            f"{file} holds no list of tasks; export from Label Studio as JSON, not as JSON-MIN or of one task"
        )
    answers, unanswered = [], 0
    for number, task in enumerate(tasks, 1):
        where = f"{file}, task {number}"
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise MpoError(f"{where}: there is no data; export from Label Studio as JSON, not as JSON-MIN")
        annotations = task.get("annotations") or []
        if not isinstance(annotations, list):
            raise MpoError(f"{where}: annotations is no list; export from Label Studio as JSON")
        found = list(_answers(task["data"], annotations, showings, where))
        answers += found
        unanswered += max(1, len(annotations)) - len(found)
    return answers, unanswered


def _answers(data: dict[str, Any], annotations: Sequence[Any], showings: Showings, where: str) -> Iterator[Answer]:
    showing = showings.find(data.get("comparison"), data.get("left"), f"{where}, data")
    question = showings.checked_question(data.get("question"), f"{where}, data")
    for number, annotation in enumerate(annotations, 1):
        place = f"{where}, annotation {number}"
        if not isinstance(annotation, dict):
            raise MpoError(f"{place}: it is no record; export from Label Studio as JSON")
        choice = None if annotation.get("was_cancelled") else _choice(annotation.get("result"), place)
        if choice is not None:
            changed = "updated_at" if annotation.get("updated_at") else "created_at"
            yield Answer(
                showing=showing,
                question=question,
                rater=_rater(annotation),
                choice=choice,
                time=checked_time(annotation.get(changed), changed, place),
                seconds=checked_seconds(annotation.get("lead_time"), "lead_time", place),
                id=annotation.get("unique_id"),
            )


def _choice(result: Any, where: str) -> Choice | None:
    """None = submitted without an answer."""
    if not isinstance(result, list) or not all(isinstance(each, dict) for each in result):
        raise MpoError(f"{where}: result is no list of records; export from Label Studio as JSON")
    chosen: list[Choice] = []
    for each in result:
        value = each.get("value") if isinstance(each.get("value"), dict) else {}
        if each.get("type") == "pairwise":
            selected: Any = value.get("selected")
            if selected not in ("left", "right"):
                raise MpoError(f"{where}: selected={selected!r} is neither left nor right; label the task again")
            chosen.append(selected)
        elif each.get("type") == "choices":
            words = value.get("choices")
            if not isinstance(words, list) or any(word not in WORDS for word in words):
                raise MpoError(
                    f"{where}: choices={words!r} is neither ['tie'] nor ['both bad']; use the interface as it was exported"
                )
            chosen.extend(WORDS[word] for word in words)
    if len(chosen) > 1:
        raise MpoError(
            f"{where}: it says {' and '.join(chosen)}; take one of them back in Label Studio, and export again"
        )
    return chosen[0] if chosen else None


def _rater(annotation: dict[str, Any]) -> str | None:
    """Of the project's own export, the rater; else a name for Label Studio's user."""
    if isinstance(annotation.get("rater"), str):
        return annotation["rater"]
    user = annotation.get("completed_by")
    user = user.get("id") if isinstance(user, dict) else user
    return None if user is None else f"annotator-{user}"
