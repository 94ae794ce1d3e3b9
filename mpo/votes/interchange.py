"""Pairs to be judged elsewhere, and votes from there: Label Studio's JSON, and CSV."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpo import MpoError
from mpo.run_folder.files import replacing, write_text
from mpo.run_folder.media import kind_of, without_origin
from mpo.run_folder.paths import RunFolder
from mpo.votes.answers import Answer, Showings, in_file, media_name, sample_name
from mpo.votes.ballots import Showing, order_of
from mpo.votes.comma_separated import read_rows, write_rows
from mpo.votes.label_studio import annotation_of, labelling_interface, read_tasks
from mpo.votes.pairs import MODELS, OVERALL, Pair, open_evaluation
from mpo.votes.store import Vote, checked_rater, make_vote, of_evaluation, opened, read_votes, standing
from mpo.votes.voting import current_vote, new_id, utc_now

LOCAL_FILES = "/data/local-files/?d="  # where Label Studio serves files of the folder that it is told of
ANYBODY = "tasks"  # whose order and sides tasks have that are for nobody in particular


@dataclass(frozen=True)
class Imported:
    """What an import has done."""

    num_new: int
    num_corrected: int  # a later answer than the one that was stored
    num_known: int  # stored already, or an older answer than the one that is
    num_unanswered: int  # tasks, annotations or rows without an answer


def export_tasks(
    run: RunFolder, file: Path, *, question: str = OVERALL, rater: str | None = None, media_url: str = LOCAL_FILES
) -> list[Path]:
    """All pairs in a random order, repeats included, to be judged elsewhere; returns what was written.

    A .json file for Label Studio and beside it its labelling interface (.xml), or a .csv file; and the folder FILE-media with the
    samples under names that do not show which model made them. media_url: what their paths begin with. Raises MpoError if
    something of it exists.
    """
    evaluation = open_evaluation(run)
    evaluation.checked_question(question)
    order = order_of(evaluation.pairs, checked_rater(rater or ANYBODY), question, evaluation.recipe.evaluate.seed)
    media = _media_folder(file)
    _make_room(file, media)
    tasks = [{"data": _data(showing, question, f"{media_url}{media.name}/")} for showing in order]
    if file.suffix == ".csv":
        rater_of = {} if rater is None else {"rater": rater}
        write_rows(
            file, [{**_row(showing, question), **_sides(showing, f"{media.name}/"), **rater_of} for showing in order]
        )
        return [file, _write_media(evaluation.pairs, media)]
    return _write_tasks(file, tasks, question, evaluation.pairs, media)


def export_votes(
    run: RunFolder, file: Path, *, question: str | None = None, rater: str | None = None, media_url: str = LOCAL_FILES
) -> list[Path]:
    """The votes that count, as a .csv file, or as .json for Label Studio like `export_tasks`; returns what was written.

    question, rater: only these. Raises MpoError if there are none.
    """
    evaluation = open_evaluation(run)
    votes = [
        vote
        for vote in of_evaluation(standing(read_votes(run)), evaluation)
        if question in (None, vote.question) and rater in (None, vote.rater)
    ]
    if not votes:
        raise MpoError(
            f"{run.votes} holds no such vote on the present evaluation; leave out --question and --rater, or export --tasks"
        )
    pairs = {pair.id: pair for pair in evaluation.pairs}
    shown = [Showing(pairs[vote.pair], vote.repeat, vote.left) for vote in votes]
    if file.suffix == ".csv":
        _make_room(file)
        write_rows(file, [_row_of_vote(showing, vote) for showing, vote in zip(shown, votes, strict=True)])
        return [file]
    media = _media_folder(file)
    _make_room(file, media)
    tasks = [
        {"data": _data(showing, vote.question, f"{media_url}{media.name}/"), "annotations": [annotation_of(vote)]}
        for showing, vote in zip(shown, votes, strict=True)
    ]
    return _write_tasks(file, tasks, question or OVERALL, [showing.pair for showing in shown], media)


def import_votes(run: RunFolder, file: Path, *, rater: str | None = None) -> Imported:
    """Store the answers in a file that was exported from this run and judged elsewhere.

    rater: who judged; None = as the file says. All is checked before the first vote is stored. Importing the same file again
    changes nothing; of two answers of a rater to the same pair, the later counts. Raises MpoError naming file, task or line, and field.
    """
    evaluation = open_evaluation(run)
    if file.suffix not in (".json", ".csv"):
        raise MpoError(f"{file} does not end in .json or .csv; give such a file")
    read = read_tasks if file.suffix == ".json" else read_rows
    answers, num_unanswered = read(file, Showings(evaluation))
    named = _named(answers, rater, file)
    counts = {"new": 0, "corrected": 0, "known": 0}
    taken = {vote.id for vote in read_votes(run)}  # an export that is imported for two raters must not give an id twice
    for (question, name), of in named.items():
        with opened(run, question, name) as votes:
            found, states = _votes(of, votes.votes, question, name, taken)
            if found:
                votes.append(*found)
        for state in states:
            counts[state] += 1
    return Imported(counts["new"], counts["corrected"], counts["known"], num_unanswered)


def _named(answers: Iterable[Answer], rater: str | None, file: Path) -> dict[tuple[str, str], list[Answer]]:
    """Answers by question and rater. Raises MpoError for those of nobody, and of several people under one name."""
    people = sorted({answer.rater or "" for answer in answers})
    if rater is not None and len(people) > 1:
        raise MpoError(
            f"{file} has answers of {len(people)} people ({', '.join(name or 'without a name' for name in people)}), and --rater={rater} names one; leave out --rater, or give a file for each"
        )
    if rater is None and "" in people:
        raise MpoError(f"{file} does not say whose its answers are; name the rater with --rater")
    grouped: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for answer in answers:
        name = rater or answer.rater or ""
        grouped[answer.question, in_file(str(file), lambda name=name: checked_rater(name))].append(answer)
    return grouped


def _votes(
    answers: Sequence[Answer], stored: Sequence[Vote], question: str, rater: str, taken: set[str]
) -> tuple[list[Vote], list[str]]:
    """What is to be stored, and for each answer whether it is new, corrected or known. taken: ids, to which those given are added."""
    found, states = [], []
    for answer in answers:
        showing, when = answer.showing, answer.time or utc_now()
        held = current_vote([*stored, *found], showing.pair.id, repeat=showing.repeat)
        if held and ((held.left, held.choice) == (showing.left, answer.choice) or when <= held.time):
            states.append("known")
            continue
        id_ = answer.id if isinstance(answer.id, str) and answer.id not in taken else new_id()
        taken.add(id_)
        states.append("corrected" if held else "new")
        found.append(
            make_vote(
                showing.pair, id=id_, time=when, rater=rater, question=question, left=showing.left, choice=answer.choice,
                repeat=showing.repeat, seconds=answer.seconds, replaces=held.id if held else None,
            )
        )  # fmt: skip
    return found, states


def _media_folder(file: Path) -> Path:
    return file.with_name(f"{file.stem}-media")


def _make_room(file: Path, *others: Path) -> None:
    if file.suffix not in (".json", ".csv"):
        raise MpoError(f"--export {file} does not end in .json or .csv; give a name that does")
    for path in (file, *others):
        if path.exists():
            raise MpoError(f"--export {file}: {path} exists, and may hold people's work; give another name")


def _data(showing: Showing, question: str, media: str) -> dict[str, Any]:
    return {"comparison": showing.id, "question": question, "prompt": showing.pair.prompt, **_sides(showing, media)}


def _sides(showing: Showing, media: str) -> dict[str, str]:
    """Where the samples are, as those see it who judge them."""
    suffix = showing.pair.base.suffix
    return {
        "left": f"{media}{media_name(showing.pair, showing.left)}{suffix}",
        "right": f"{media}{media_name(showing.pair, showing.right)}{suffix}",
    }


def _row(showing: Showing, question: str) -> dict[str, Any]:
    pair = showing.pair
    return {
        "comparison": showing.id, "question": question, "prompt_id": pair.prompt_id, "seed": pair.seed, "prompt": pair.prompt
    }  # fmt: skip


def _row_of_vote(showing: Showing, vote: Vote) -> dict[str, Any]:
    sides = {"left": sample_name(showing.pair, showing.left), "right": sample_name(showing.pair, showing.right)}
    told = {
        "rater": vote.rater,
        "choice": vote.choice,
        "repeat": vote.repeat,
        "time": vote.time,
        "seconds": vote.seconds,
    }
    return {**_row(showing, vote.question), **sides, **told, "id": vote.id}


def _write_tasks(
    file: Path, tasks: Sequence[dict[str, Any]], question: str, pairs: Sequence[Pair], media: Path
) -> list[Path]:
    interface = file.with_suffix(".xml")
    clips = kind_of(pairs[0].base) == "video"
    written = _write_media(pairs, media)
    write_text(interface, labelling_interface(question, clips=clips))
    write_text(file, json.dumps(tasks, indent=1, ensure_ascii=False) + "\n")
    return [file, interface, written]


def _write_media(pairs: Sequence[Pair], folder: Path) -> Path:
    """Copies that say nothing about where they come from: a run's own say it in a text field."""
    for pair in pairs:
        for model in MODELS:
            source = pair.file(model)
            target = folder / f"{media_name(pair, model)}{source.suffix}"
            if not target.exists():
                with replacing(target) as temporary:
                    temporary.write_bytes(without_origin(source))
    return folder
