import torch

from reward.judges.scorers.published import renamed
from reward.judges.scorers.qwen2_vl import PREFIXES, RewardModel, build_without_weights
from tests.reward.judges.scorers.small_scorers import old_names, qwen2_vl, qwen2_vl_model


def test_padding_on_either_side_changes_nothing_and_each_token_has_the_next_place(tmp_path):
    qwen2_vl(tmp_path)
    whole = qwen2_vl_model(tmp_path, 1)
    head = torch.nn.Linear(64, 64, bias=False)
    torch.nn.init.eye_(head.weight)
    model = RewardModel(whole.model, head)
    read = whole.lm_head.out_features - 1
    words = [40, 41, 42, read, 43]
    states = []
    for left, right in ((0, 0), (3, 0), (0, 3)):
        ids = torch.tensor([[0] * left + words + [0] * right])
        mask = torch.tensor([[0] * left + [1] * len(words) + [0] * right])
        states.append(model({"input_ids": ids, "attention_mask": mask}, [read])[0, 0])
    places = torch.arange(len(words)).expand(3, 1, -1)
    expected = whole.model.language_model(input_ids=torch.tensor([words]), position_ids=places).last_hidden_state[0, 3]
    for state in states:
        torch.testing.assert_close(state, expected, atol=1e-5, rtol=1e-5)


def test_older_and_newer_names_are_todays(tmp_path):
    qwen2_vl(tmp_path)
    newer = qwen2_vl_model(tmp_path, 1).state_dict()
    today = set(build_without_weights(str(tmp_path), lambda _: torch.nn.Identity(), ["<|x|>"]).backbone.state_dict())
    assert set(renamed(newer, PREFIXES)) == set(renamed(old_names(newer), PREFIXES)) == today
