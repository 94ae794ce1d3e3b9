from pathlib import Path

import pytest

from mpo.models.loading import load_pipeline
from mpo.recipe import Model


@pytest.mark.slow
def test_the_training_script_runs_end_to_end(tmp_path):
    """In the small: the script that made the weights still makes a pipeline that loads."""
    from mpo.embedded import train_base

    small = train_base.BaseTraining(num_scenes=250, autoencoder_steps=2, denoiser_steps=2, denoiser_batch=4)
    train_base.train(small, Path(tmp_path) / "model", log=lambda **event: None)
    made = load_pipeline(Model(path=str(tmp_path / "model")))
    assert made("a red circle", num_inference_steps=1).images[0].size == (64, 64)
