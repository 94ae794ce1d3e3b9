import shutil

import pytest
import torch

from mpo import MpoError
from mpo.models.families import denoiser_of
from mpo.stages.train import train
from mpo.training.batches import Draw
from mpo.training.reference_errors import ReferenceErrors, fingerprint
from tests.helpers.pipelines import build
from tests.helpers.runs import trainable


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"train": {"seed": 5}}, "train"),
        ({"train": {"timestep_range": [0.0, 0.5]}}, "train"),
        ({"model": {"dtype": "bfloat16"}}, "denoiser and dtype"),
    ],
)
def test_kept_errors_of_another_model_or_other_draws_are_refused(changes, named, finished, fields, tmp_path):
    fields["train"] |= {
        "num_steps": 1,
        "checkpoint_interval_steps": 1,
        "warmup_steps": 0,
        "reference_cache": "../errors",
    }
    train(trainable(finished, tmp_path / "first", fields).folder)
    for section, values in changes.items():
        fields[section] |= values
    with pytest.raises(MpoError, match=f"another {named}.*use another folder"):
        train(trainable(finished, tmp_path / "second", fields).folder)


def test_half_a_line_of_kept_errors_is_dropped(tmp_path):
    errors = ReferenceErrors(tmp_path, {"a": 1})
    errors.put([Draw(0, 0), Draw(1, 0)], torch.tensor([[0.1, 0.2], [0.3, 0.4]]))
    with (tmp_path / "errors.jsonl").open("ab") as file:
        file.write(b'{"draws": [[7, 0]], "err')
    again = ReferenceErrors(tmp_path, {"a": 1})
    assert len(again) == 2
    torch.testing.assert_close(again.get([Draw(1, 0)], "cpu"), torch.tensor([[0.2], [0.4]]), rtol=0, atol=0)
    again.put([Draw(2, 0)], torch.tensor([[0.5], [0.6]]))
    assert len(ReferenceErrors(tmp_path, {"a": 1})) == 3


@pytest.mark.parametrize("text", ['{"a"', "[1]", '{"b": 1}', None], ids=["cut", "a list", "of something else", "lost"])
def test_a_damaged_description_is_named_and_without_the_folder_training_starts_anew(text, tmp_path):
    folder = tmp_path / "errors"
    ReferenceErrors(folder, {"a": 1}).put([Draw(0, 0)], torch.tensor([[0.1], [0.2]]))
    file = folder / "description.json"
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    with pytest.raises(MpoError, match=rf"{file} is (damaged|missing).*delete the folder {folder},") as error:
        ReferenceErrors(folder, {"a": 1})
    assert "\n" not in str(error.value)
    shutil.rmtree(folder)
    assert len(ReferenceErrors(folder, {"a": 1})) == 0


def test_errors_that_are_not_finite_are_not_kept(tmp_path):
    errors = ReferenceErrors(tmp_path, {"a": 1})
    errors.put([Draw(0, 0)], torch.tensor([[0.1], [float("nan")]]))
    errors.put([Draw(1, 0)], torch.tensor([[0.1], [0.2]]))
    assert [Draw(k, 0) in ReferenceErrors(tmp_path, {"a": 1}) for k in range(2)] == [False, True]


def test_two_runs_may_keep_errors_in_one_folder(tmp_path):
    """One opens it while the other has written half a line."""
    first, second = ReferenceErrors(tmp_path, {"a": 1}), ReferenceErrors(tmp_path, {"a": 1})
    first.put([Draw(0, 0)], torch.tensor([[0.1], [0.2]]))
    second.put([Draw(0, 0)], torch.tensor([[0.5], [0.6]]))
    second.put([Draw(1, 0)], torch.tensor([[0.3], [0.4]]))
    again = ReferenceErrors(tmp_path, {"a": 1})
    torch.testing.assert_close(again.get([Draw(0, 0), Draw(1, 0)], "cpu"), torch.tensor([[0.1, 0.3], [0.2, 0.4]]))


def test_the_fingerprint_sees_a_change_in_any_weight_tensor():
    denoiser = denoiser_of(build("sana"))
    before = fingerprint(denoiser)
    assert fingerprint(denoiser_of(build("sana"))) == before
    with torch.no_grad():
        next(iter(denoiser.parameters())).mul_(1.01)
    assert fingerprint(denoiser) != before
