import pytest
import torch
from safetensors.torch import save_file

from reward.judges.scorers.published import fill, find_file, published_folder, read_weights, renamed


def test_a_folder_is_taken_as_it_is(tmp_path):
    assert published_folder(str(tmp_path), None, "*") == tmp_path


def test_the_first_pattern_that_fits_counts(tmp_path):
    for name in ("a.pt", "b.pt", "c.safetensors"):
        (tmp_path / name).touch()
    assert find_file(tmp_path, "*.bin", "*.pt", "*.safetensors").name == "b.pt"
    with pytest.raises(FileNotFoundError, match=r"^it holds no \*\.bin or x$"):
        find_file(tmp_path, "*.bin", "x")


@pytest.mark.parametrize("below", [None, "model", "state_dict"])
def test_tensors_are_read_from_either_kind_of_file(tmp_path, below):
    weights = {"a": torch.arange(3.0)}
    torch.save(weights if below is None else {below: weights, "step": 7}, tmp_path / "a.pt")
    save_file(weights, tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        assert read_weights(tmp_path / name)["a"].tolist() == [0, 1, 2]
        shape = read_weights(tmp_path / name, device="meta")["a"]
        assert (shape.device.type, shape.shape) == ("meta", (3,))


def test_what_is_no_tensor_is_refused(tmp_path):
    torch.save({"a": 1}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"^a\.pt does not hold tensors by name"):
        read_weights(tmp_path / "a.pt")
    torch.save({"a": print}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"^a\.pt holds more than tensors, or is broken$"):
        read_weights(tmp_path / "a.pt")


def test_names_follow_the_first_prefix_that_fits():
    one = torch.zeros(1)
    names = renamed(dict.fromkeys(["a.b.c", "a.c", "d.a.b", "e"], one), {"a.b.": "x.", "a.": "y.", "d.": None})
    assert set(names) == {"x.c", "y.c", "e"}


def test_a_part_takes_exactly_its_weights():
    layer = torch.nn.Linear(2, 3)
    fill(layer, {"weight": torch.ones(3, 2), "bias": torch.ones(3)})
    assert layer.weight.sum() == 6
    for weights, problem in [
        ({"weight": torch.ones(3, 2)}, r"'bias' is missing, not \(3,\)"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(3)}, r"'weight' is \(2, 3\), not \(3, 2\)"),
        ({"weight": torch.ones(3, 2), "bias": torch.ones(3), "more": torch.ones(1)}, r"'more' is \(1,\), not known"),
    ]:
        with pytest.raises(ValueError, match=problem):
            fill(layer, weights)
