import json
import sys
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from PIL import Image

from mpo import MpoError
from mpo.recipe import load_recipe, parse_recipe
from mpo.run import run_recipe
from mpo.run_folder.media import write_media
from mpo.training.trackers import NUM_PICTURES, check_trackers, log_pictures, start_trackers, wandb_mode
from reward.media import probe_clip


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    """No account, key or settings of the person who runs the tests."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_CONFIG_DIR", "WANDB_DIR", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture
def pictures(tmp_path) -> list[tuple[str, Path]]:
    """More than are shown; picture k is evenly of gray 20 k."""
    files = []
    for k in range(NUM_PICTURES + 3):
        file = tmp_path / f"{k}.png"
        Image.fromarray(np.full((6, 4, 3), 20 * k, np.uint8)).save(file)
        files.append((f"prompt {k}", file))
    return files


def accelerator(recipe, folder: Path) -> Accelerator:
    AcceleratorState._reset_state()
    return Accelerator(log_with=list(recipe.tracking.trackers) or None, project_dir=folder)


def finish(started: Accelerator) -> None:
    for tracker in started.trackers:
        tracker.finish()


def test_training_writes_tensorboard_and_one_wandb_run_that_a_resumed_run_continues(fields, tmp_path):
    """A training of two steps in two halves, with wandb's own process beside it: what only both show together."""
    fields["tracking"] = {
        "trackers": ["tensorboard", "wandb"],
        "project": "shapes",
        "tags": ["small"],
        "entity": "us",
        "name": "two",
        "run_id": None,
    }
    fields["train"] |= {"num_steps": 2, "checkpoint_interval_steps": 1, "warmup_steps": 0}
    recipe, run = parse_recipe(fields, source="small"), tmp_path / "run"
    run_recipe(recipe, run, stages=("generate", "score", "select", "encode", "train"))
    trackers = run / "trackers"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trackers / "shapes")).Reload()
    logged = [json.loads(line)["loss"] for line in (run / "training.jsonl").read_text().splitlines()]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(logged)
    (run / "trained.json").unlink()
    run_recipe(recipe, run, stages=("train",))
    kept = (trackers / "wandb_run_id.txt").read_text().strip()
    assert len({path.name for path in trackers.rglob(f"run-{kept}.wandb")}) == 1
    assert {path.name.split("-")[-1] for path in trackers.glob("wandb/offline-run-*")} == {kept}


def test_a_limited_number_of_pictures_with_captions_go_to_both(fields, pictures, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fields["tracking"] = {"trackers": ["tensorboard", "wandb"], "run_id": "mine"}
    recipe = parse_recipe(fields, source="small")
    started = accelerator(recipe, tmp_path / "trackers")
    start_trackers(started, recipe)
    log_pictures(started, pictures, step=5)
    finish(started)
    events = EventAccumulator(str(tmp_path / "trackers" / "mpo")).Reload()
    tags = [tag for tag in events.Tags()["images"] if tag.startswith("pictures/")]
    assert tags == [f"pictures/{k} prompt {k}" for k in range(NUM_PICTURES)]
    (third,) = events.Images("pictures/3 prompt 3")
    assert (third.step, third.width, third.height) == (5, 4, 6)
    copied = sorted((tmp_path / "trackers").glob("wandb/offline-run-*-mine/files/media/images/pictures_*.png"))
    assert len(copied) == NUM_PICTURES
    assert {int(np.asarray(Image.open(file))[0, 0, 0]) for file in copied} == {20 * k for k in range(NUM_PICTURES)}


def test_clips_go_to_both(fields, tmp_path):
    """Wandb plays them; TensorBoard has their frames in a row."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_media(tmp_path / "a.mp4", np.full((5, 16, 24, 3), 90, np.uint8), fps=8)
    fields["tracking"] = {"trackers": ["tensorboard", "wandb"], "run_id": "mine"}
    recipe = parse_recipe(fields, source="small")
    started = accelerator(recipe, tmp_path / "trackers")
    start_trackers(started, recipe)
    log_pictures(started, [("a prompt", tmp_path / "a.mp4")], step=5)
    finish(started)
    events = EventAccumulator(str(tmp_path / "trackers" / "mpo")).Reload()
    (shown,) = events.Images("pictures/0 a prompt")
    assert (shown.width, shown.height) == (5 * 24, 16)
    (copied,) = (tmp_path / "trackers").glob("wandb/offline-run-*-mine/files/media/videos/pictures_*.mp4")
    assert probe_clip(copied).fps == 8


def test_no_tracker_no_file(fields, pictures, tmp_path):
    recipe = parse_recipe(fields, source="small")
    started = accelerator(recipe, tmp_path / "trackers")
    start_trackers(started, recipe)
    log_pictures(started, pictures, step=1)
    assert not (tmp_path / "trackers").exists()


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_tracker_that_is_not_installed_is_named_with_its_remedy(name, fields, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    fields["tracking"] = {"trackers": [name]}
    with pytest.raises(MpoError, match=f"tracking.trackers names '{name}', which is not installed; pip install"):
        check_trackers(parse_recipe(fields, source="small"))
    check_trackers(load_recipe("quickstart"))


def test_wandb_is_online_only_for_who_has_logged_in_to_its_server(tmp_path, monkeypatch):
    assert wandb_mode() == "offline"
    home = tmp_path / "home"
    (home / ".netrc").write_text("machine api.wandb.ai login user password abc\n")
    assert wandb_mode() == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080/")
    assert wandb_mode() == "offline"  # a key for another server
    (home / "keys").write_text("machine wandb.example.org:8080 login user password abc\n")
    monkeypatch.setenv("NETRC", str(home / "keys"))
    assert wandb_mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode() == "disabled"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("NETRC")
    monkeypatch.setenv("WANDB_API_KEY", "abc")
    assert wandb_mode() == "online"


def test_wandb_settings_files_name_the_server_and_the_mode(tmp_path):
    home = tmp_path / "home"
    (home / ".netrc").write_text("machine wandb.example.org login user password abc\n")
    assert wandb_mode() == "offline"
    settings = home / ".config" / "wandb"
    settings.mkdir(parents=True)
    (settings / "settings").write_text("[default]\nbase_url = https://wandb.example.org\n")
    assert wandb_mode() == "online"
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text("[default]\nmode = offline\n")
    assert wandb_mode() == "offline"


@pytest.mark.parametrize(
    ("mode", "words"),
    [("on", "WANDB_MODE='on' is unknown; use one of online"), ("online", "no key for https://api.wan")],
)
def test_a_mode_that_would_fail_or_ask_on_the_terminal_is_refused(mode, words, fields, monkeypatch):
    fields["tracking"] = {"trackers": ["wandb"]}
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(MpoError, match=words):
        check_trackers(parse_recipe(fields, source="small"))


@pytest.mark.parametrize(
    ("tracking", "words"),
    [
        ({"trackers": ["tensorboard"], "entity": "team"}, "entity is used by tracker 'wandb' alone"),
        ({"trackers": ["tensorboard"], "tags": ["a"]}, "tags is used by tracker 'wandb' alone"),
        ({"run_id": "a"}, "run_id is used by tracker 'wandb' alone"),
        ({"project": "shapes"}, "project is used by trackers alone"),
        ({"trackers": ["wandb"], "project": "a/b"}, "tracking.project='a/b'"),
    ],
)
def test_settings_that_nothing_uses_are_refused(tracking, words, fields):
    fields["tracking"] = tracking
    with pytest.raises(MpoError, match=words):
        parse_recipe(fields, source="small")
