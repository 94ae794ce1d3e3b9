import json

import pytest
import torch
from safetensors.torch import load_file

from mpo.embedded import train_oracle
from mpo.embedded.oracle import Oracle
from mpo.embedded.train_oracle import OracleTraining, train

SMALL = OracleTraining(
    num_scenes=4,
    num_decoded=4,
    scenes_per_file=2,
    num_steps=3,
    batch_size=4,
    warmup_steps=1,
    checkpoint_interval_steps=2,
)


class KilledError(Exception):
    pass


def test_training_goes_on_after_a_kill_as_if_there_had_been_none(tmp_path):
    train(SMALL, tmp_path / "unbroken", log=lambda **event: None)

    def log(**event) -> None:
        if event.get("step") == 2:  # taken, and not yet kept
            raise KilledError

    with pytest.raises(KilledError):
        train(SMALL, tmp_path / "killed", log=log)
    assert not (tmp_path / "killed").exists()
    again = []
    train(SMALL, tmp_path / "killed", log=lambda **event: again.append(event))
    assert [event["step"] for event in again] == [2], "what was kept is not done again"

    file = tmp_path / "unbroken" / "oracle.safetensors"
    unbroken, resumed = load_file(file), load_file(tmp_path / "killed" / "oracle.safetensors")
    assert all(torch.equal(value, resumed[name]) for name, value in unbroken.items())
    assert Oracle(str(file)).fingerprint != Oracle().fingerprint


def test_the_command_names_its_folder(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(train_oracle, "OracleTraining", lambda: SMALL)
    monkeypatch.setattr("sys.argv", ["train_oracle", "--output", str(tmp_path / "made")])
    train_oracle.main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["step"] for line in lines if line["phase"] == "reader"] == [0, 2]
    assert (tmp_path / "made" / "oracle.safetensors").is_file()
