from collections.abc import Callable
from pathlib import Path

import pytest

from mpo import MpoError
from mpo.clusters.attempts import Losses, Setback, attempt_until_whole, one_line
from mpo.run_folder.paths import RunFolder
from mpo.runtime.pieces import Piece
from tests.helpers.clusters import WorkOf

LOST = Setback(ConnectionError("gone"), "the machine is gone", is_loss=True)


def oom(bytes_free: int) -> Setback:
    error = RuntimeError(f"CUDA out of memory, {bytes_free} bytes are free")
    return Setback(error, one_line(error), is_loss=False)


def attempts(run: RunFolder, ends: list[Setback | None], each: Callable[[int], None] = lambda nth: None) -> int:
    """How many are made of attempts that end in this way."""
    made: list[Setback | None] = []

    def attempt() -> Setback | None:
        made.append(ends[len(made)])
        each(len(made))
        return made[-1]

    attempt_until_whole(run, "train", attempt, logs="the logs")
    return len(made)


def checkpoint(run: RunFolder, step: int) -> None:
    (run.checkpoints / f"step-{step:06d}").mkdir(parents=True)


def test_a_lost_worker_is_replaced_so_often_and_the_end_says_why(tmp_path):
    run = RunFolder(tmp_path)
    assert attempts(run, [LOST, LOST, LOST, None]) == 4
    with pytest.raises(MpoError, match=r"^train: failed 4 times, at last so: the machine is gone; see the logs; .* run the same command again") as raised:  # fmt: skip
        attempts(run, [LOST] * 4)
    assert raised.value.__cause__ is LOST.error


def test_an_error_that_comes_back_at_the_same_place_ends_it(tmp_path):
    """Its numbers may differ. With a new checkpoint in between it is another place."""
    run = RunFolder(tmp_path)
    words = (
        r"^train: failed twice at the same place \(RuntimeError: CUDA out of memory, 7 bytes are free\); see the logs"
    )
    with pytest.raises(MpoError, match=words):
        attempts(run, [oom(5), oom(7)])
    assert attempts(run, [oom(5), LOST, oom(5), None]) == 4
    assert attempts(run, [oom(5), oom(5), oom(5), None], lambda nth: checkpoint(run, nth)) == 4


def test_what_a_process_has_left_is_the_reason_rather_than_what_the_others_say(tmp_path):
    """It may be no more than that another one was missed, so that the driver knows of a loss alone."""
    run = RunFolder(tmp_path)

    def leave(nth: int) -> None:
        (run.folder / ".failed").write_text("ImportError: no such library", "utf-8")

    with pytest.raises(MpoError, match=r"failed twice at the same place \(ImportError: no such library\)"):
        attempts(run, [LOST, LOST], leave)
    assert not (run.folder / ".failed").exists()


def test_the_line_of_an_error_is_its_first_or_the_end_of_the_traceback_in_it():
    assert one_line(RuntimeError("first\nsecond")) == "RuntimeError: first"
    assert one_line(KeyError()) == "KeyError"
    text = "the job failed:\n  File x.py\ntorch.OutOfMemoryError: CUDA out of memory\n  more\nsee the logs"
    assert one_line(RuntimeError(text)) == "torch.OutOfMemoryError: CUDA out of memory"


def test_losses_are_borne_until_they_are_too_many():
    work = WorkOf([Piece(0, 1, (Path("first.png"),)), Piece(1, 1, (Path("second.png"),))])
    same = Losses(work, num_workers=9)
    for portion in ([0], [1], [0]):
        same.note(portion, "killed")
    with pytest.raises(
        MpoError, match=r"work: 3 workers were lost over the same work, which begins with first.png, at last so: killed"
    ):
        same.note([0], "killed")
    starting = Losses(work, num_workers=1)
    for _ in range(3):
        starting.note([], "killed")
    starting.forget([])  # one has come up, and done nothing yet
    with pytest.raises(MpoError, match=r"work: 4 workers were lost in a row, at last so: killed; see Ray's logs"):
        starting.note([], "killed")
    others = Losses(work, num_workers=1)
    for _ in range(9):
        others.note([], "killed")
        others.forget([1])  # this one has done something
