from mpo.recipe import parse_recipe
from mpo.run import run_recipe


def test_trackers_write_their_files(fields, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    fields["train"] |= {"trackers": ["tensorboard", "wandb"], "num_steps": 2}
    run_recipe(
        parse_recipe(fields, source="small"),
        tmp_path / "run",
        stages=("generate", "score", "select", "encode", "train"),
    )
    assert list((tmp_path / "run" / "trackers").rglob("events.out.tfevents.*"))
    assert list((tmp_path / "run" / "trackers").rglob("*.wandb"))
