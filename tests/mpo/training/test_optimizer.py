"""What train.optimizer_options may hold."""

import pytest
import torch

from mpo import MpoError
from mpo.recipe import RecipeError, parse_recipe
from mpo.run import run_recipe
from mpo.stages.train import train
from mpo.training.checkpoints import join_state, split_state
from mpo.training.optimizer import build_optimizer, check_optimizer, known_optimizers
from tests.helpers.recipes import settings_of
from tests.helpers.runs import resumes_exactly, trainable


@pytest.mark.parametrize("name", ["Adafactor", "SGD", "RMSprop", "NAdam"])
def test_optimizers_of_torch_train_and_resume(name, finished, fields, tmp_path):
    fields["train"] |= {"num_steps": 4, "checkpoint_interval_steps": 2, "optimizer": name}
    whole = trainable(finished, tmp_path / "whole", fields)
    train(whole.folder)
    resumes_exactly(whole, tmp_path, fields)


@pytest.mark.parametrize("name", [n for n in known_optimizers() if n != "AdamW8bit"])
def test_every_optimizer_takes_a_step_and_its_state_is_kept(name):
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(4, 4))
    optimizer = build_optimizer([parameter], settings_of(optimizer=name))
    before = parameter.detach().clone()
    parameter.square().sum().backward()
    optimizer.step()
    assert (parameter.detach() - before).abs().max() > 0
    state = optimizer.state_dict()["state"]
    joined = join_state(*split_state(state))
    assert {k: sorted(v) for k, v in joined.items()} == {k: sorted(v) for k, v in state.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "Adam8"}, "'Adam8' is unknown; known: .*AdamW"),
        ({"optimizer": "LBFGS"}, "'LBFGS' is unknown"),
        ({"optimizer_options": {"bettas": [0.9, 0.99]}}, "takes no 'bettas'; it takes: .*betas"),
        ({"optimizer_options": {"betas": [0.9, 1.5]}}, "optimizer_options=.*[Bb]eta"),
        ({"optimizer": "Rprop", "weight_decay": 0.1}, "weight_decay=0.1 is not used by Rprop"),
    ],
)
def test_what_an_optimizer_cannot_take_is_named_before_anything_runs(changes, message, fields, tmp_path):
    fields["train"] |= changes
    with pytest.raises(MpoError, match=message):
        run_recipe(parse_recipe(fields, source="small"), tmp_path / "run", stages=())
    assert not (tmp_path / "run").exists()


def test_the_8_bit_optimizer_is_used_or_named(finished, fields, tmp_path):
    fields["train"] |= {"num_steps": 4, "checkpoint_interval_steps": 2, "optimizer": "AdamW8bit"}
    try:
        import bitsandbytes  # noqa: F401  # type: ignore[import-not-found]
    except ImportError:
        with pytest.raises(MpoError, match=r"needs bitsandbytes; pip install 'mpo\[gpu\]'"):
            build_optimizer([], settings_of(optimizer="AdamW8bit"))
        return
    whole = trainable(finished, tmp_path / "whole", fields)
    train(whole.folder)
    resumes_exactly(whole, tmp_path, fields)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"lr": 1.0}, r"optimizer_options\.lr: set train\.learning_rate instead"),
        ({"weight_decay": 0.1}, r"optimizer_options\.weight_decay: set train\.weight_decay instead"),
        ({"betas": [0.9, 0.99], "params": []}, r"optimizer_options\.params: .*remove it"),
    ],
    ids=["lr", "weight_decay", "params"],
)
def test_a_setting_has_one_home(option, message, fields):
    fields["train"]["optimizer_options"] = option
    with pytest.raises(RecipeError, match=message) as error:
        parse_recipe(fields, source="small")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"foreach": "no"}, r"optimizer_options\.foreach='no': .*boolean; the default is None"),
        ({"amsgrad": 3}, r"optimizer_options\.amsgrad=3: .*boolean; the default is False"),
        ({"betas": 0.9}, r"optimizer_options\.betas=0\.9: .*tuple; the default is \(0\.9, 0\.999\)"),
        ({"betas": [0.9]}, r"optimizer_options\.betas=\[0\.9\]: .*"),
        ({"betas": [0.9, 1.5]}, r"optimizer_options=.*refused by AdamW .*[Bb]eta"),
        ({"eps": "small"}, r"optimizer_options\.eps='small': .*number"),
        ({"epsilon": 1e-8}, r"takes no 'epsilon'; it takes: betas, eps"),
        ({"foreach": True, "fused": True}, r"refused by AdamW"),
    ],
    ids=str,
)
def test_what_an_optimizer_cannot_take_is_one_line(options, message):
    with pytest.raises(MpoError, match=message) as error:
        check_optimizer(settings_of(optimizer_options=options))
    assert "\n" not in str(error.value)


def test_options_reach_the_optimizer():
    options = {"betas": [0.8, 0.95], "eps": 1e-6, "amsgrad": True, "foreach": False}
    settings = settings_of(optimizer_options=options, weight_decay=0.25)
    group = build_optimizer([torch.nn.Parameter(torch.zeros(1))], settings).param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (1e-3, 0.25)
    assert (group["betas"], group["eps"], group["amsgrad"], group["foreach"]) == ((0.8, 0.95), 1e-6, True, False)
