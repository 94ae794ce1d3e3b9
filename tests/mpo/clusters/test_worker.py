from pathlib import Path

from mpo.clusters import worker
from mpo.clusters.worker import MARK, StageWorker, named, works_of
from mpo.run_folder.paths import RunFolder
from mpo.stages.evaluate import evaluate
from tests.helpers.clusters import undone


def test_a_worker_does_the_pieces_that_are_named_and_no_others(finished, tmp_path):
    run = undone(finished, tmp_path / "run", ["evaluate"])
    work = next(works_of("evaluate", run.folder))
    names = named(work, range(len(work.pieces)))
    own = StageWorker(str(run.folder), str(Path.cwd()))
    assert own.do("evaluate", 0, names[1:2]) == ""
    assert sorted(run.samples.rglob("*.png")) == sorted(work.pieces[1].files)
    made = [file.stat().st_mtime_ns for file in work.pieces[1].files]
    assert own.do("evaluate", 0, names) == ""
    assert [file.stat().st_mtime_ns for file in work.pieces[1].files] == made  # what is done stays
    evaluate(run.folder)
    assert run.evaluation_table.read_bytes() == RunFolder(finished).evaluation_table.read_bytes()


def test_a_worker_that_would_make_something_else_says_so(finished, tmp_path):
    """Such as one with another model, or another version of mpo."""
    run = undone(finished, tmp_path / "run", ["generate"])
    said = StageWorker(str(run.folder), str(Path.cwd())).do("generate", 0, [(0, "0" * 64)])
    assert said.startswith("stage generate: ")
    assert said.endswith("knows of other work than the machine that deals it out; give both the same mpo, model and prompts")  # fmt: skip
    assert not run.candidates.exists()


def test_what_a_user_can_put_right_comes_back_as_a_line(finished, tmp_path):
    run = undone(finished, tmp_path / "run", ["score"])
    next(run.candidates.rglob("000000-00.png")).write_bytes(b"no picture")
    [work] = works_of("score", run.folder)
    said = StageWorker(str(run.folder), str(Path.cwd())).do("score", 0, named(work, [0]))
    assert "000000-00.png' cannot be decoded" in said
    assert said.endswith(f"run `mpo generate {run.folder} --repair`, which makes it again")


def test_a_machine_that_sees_another_folder_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "SEEN_S", 0.1)
    monkeypatch.chdir(tmp_path)
    own = StageWorker(str(tmp_path), str(tmp_path / "gone"))
    for text in (None, "an older driver"):
        if text:
            (tmp_path / MARK).write_text(text, "utf-8")
        assert f"does not see {tmp_path} as the machine does where mpo was started; put --output on a disk that all share" in own.look("this driver")  # fmt: skip
    (tmp_path / MARK).write_text("this driver", "utf-8")
    assert f"has no folder {tmp_path / 'gone'}, where mpo was started" in own.look("this driver")
    assert StageWorker(str(tmp_path), str(tmp_path)).look("this driver") == ""
