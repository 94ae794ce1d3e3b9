import torch

from mpo.training.checkpoints import join_state, split_state


def test_a_nested_state_is_kept():
    state = {0: {"step": 3, "quantised": {"absmax": torch.ones(2), "blocks": 4}}, 1: {"m": torch.zeros(1)}}
    assert join_state(*split_state(state)) == state
