import torch

from mpo.models.noise import min_snr_weight


def test_min_snr_weights():
    snr = torch.tensor([0.5, 5.0, 50.0])
    torch.testing.assert_close(min_snr_weight(snr, gamma=5.0, prediction_type="epsilon"), torch.tensor([1.0, 1.0, 0.1]))
    expected = torch.tensor([0.5 / 1.5, 5 / 6, 5 / 51])
    torch.testing.assert_close(min_snr_weight(snr, gamma=5.0, prediction_type="v_prediction"), expected)
