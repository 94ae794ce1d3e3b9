import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AnimateDiffPipeline, StableDiffusionPipeline

from mpo.embedded.clips import NUM_FRAMES
from mpo.embedded.train_clips import (
    MOTION_WORDS,
    PICTURE_MODEL,
    Clips,
    ClipTraining,
    Phase,
    by_motion,
    grow,
    only_frames,
    sample_batch,
    train,
)

SMALL = ClipTraining(
    num_clips=4,
    clips_per_file=2,
    phases=(
        Phase(1, ("left", "right"), num_clips=1, num_frames=2, high_noise=8),
        Phase(2, ("left", "right"), num_clips=1, num_frames=NUM_FRAMES, high_noise=1),
    ),
    warmup_steps=1,
    cooldown_steps=1,
    checkpoint_interval_steps=1,
)


class KilledError(Exception):
    pass


def weights(folder) -> dict[str, torch.Tensor]:
    pipeline = AnimateDiffPipeline.from_pretrained(folder)
    return {**pipeline.unet.state_dict(), **pipeline.text_encoder.state_dict()}


def test_training_makes_a_stock_pipeline_and_goes_on_after_a_kill_as_if_there_had_been_none(tmp_path):
    """Half a minute or more: the script that made the weights still makes a pipeline that loads, and a kill costs no step of it."""
    train(SMALL, tmp_path / "unbroken", log=lambda **event: None)

    def log(**event) -> None:
        if event.get("step") == 1:  # taken, and not yet kept
            raise KilledError

    with pytest.raises(KilledError):
        train(SMALL, tmp_path / "killed", log=log)
    assert not (tmp_path / "killed").exists()
    steps = []
    train(SMALL, tmp_path / "killed", log=lambda **event: steps.append(event))
    assert [event["step"] for event in steps] == [1], "what was kept is not done again"

    unbroken, resumed = weights(tmp_path / "unbroken"), weights(tmp_path / "killed")
    for name, value in unbroken.items():
        assert torch.equal(value, resumed[name]), name
    index = json.loads((tmp_path / "killed" / "model_index.json").read_text())
    assert index["_class_name"] == "AnimateDiffPipeline"
    assert index["motion_adapter"] == [None, None]


@pytest.fixture(scope="module")
def grown():
    pipeline = StableDiffusionPipeline.from_pretrained(PICTURE_MODEL, dtype=torch.float32)
    return grow(pipeline, seed=0)


@torch.no_grad()
def test_new_motion_modules_change_nothing(grown):
    """Before training each frame is the picture that the picture model draws."""
    generator = torch.Generator().manual_seed(0)
    noise, context = torch.randn(1, 4, 3, 16, 16, generator=generator), torch.randn(3, 24, 96, generator=generator)
    picture_unet = StableDiffusionPipeline.from_pretrained(PICTURE_MODEL, dtype=torch.float32).unet
    pictures = picture_unet(noise[0].transpose(0, 1), 500, context).sample
    frames = grown.unet(noise, 500, context).sample[0].transpose(0, 1)
    torch.testing.assert_close(frames, pictures, atol=1e-5, rtol=1e-4)


def test_each_word_of_motion_is_a_token_of_its_own(grown):
    captions = ("an orange star moves up on a blue background", "a red ring stands still in a meadow")
    for caption in captions:
        assert len(grown.tokenizer(caption).input_ids) == len(caption.split()) + 2
    assert grown.text_encoder.config.vocab_size == len(grown.tokenizer)
    assert set(MOTION_WORDS) <= set(grown.tokenizer.get_vocab())


@torch.no_grad()
def test_some_frames_know_which_they_are(grown):
    """Frames 2 and 5 of a clip are given the positions 2 and 5, not 0 and 1; afterwards all is as before."""
    states = {name: value.clone() for name, value in grown.unet.state_dict().items()}
    (pe, *_) = (value for name, value in states.items() if name.endswith("pos_embed.pe"))
    with only_frames(grown.unet, torch.tensor([2, 5])):
        (inside, *_) = (value for name, value in grown.unet.state_dict().items() if name.endswith("pos_embed.pe"))
        torch.testing.assert_close(inside, pe[:, [2, 5]])
    for name, value in grown.unet.state_dict().items():
        assert torch.equal(value, states[name]), name


def test_batches_repeat_and_follow_their_phase():
    captions = [
        "a red ring moves right on the sea",
        "a red ring moves up on the sea",
        "a red ring stands still on the sea",
    ]
    of_motion = by_motion(captions)
    assert {motion: index.tolist() for motion, index in of_motion.items()} == {
        "left": [], "right": [0], "up": [1], "down": [], "still": [2],
    }  # fmt: skip
    latents = torch.arange(3.0)[:, None, None, None, None].expand(3, NUM_FRAMES, 4, 16, 16)
    clips = Clips(latents, torch.zeros(3, 24).long(), torch.ones(1, 24).long(), of_motion)
    config = replace(
        SMALL,
        phases=(
            Phase(5, ("up",), num_clips=64, num_frames=2, high_noise=8),
            Phase(10, ("up", "still"), num_clips=64, num_frames=NUM_FRAMES, high_noise=1),
        ),
    )
    early, late = sample_batch(clips, 2, config), sample_batch(clips, 7, config)
    assert early.latents.shape == (64, 4, 2, 16, 16)
    assert early.latents.unique().tolist() == [1]
    assert (np.diff(early.frames) > 0).all()
    assert late.latents.shape == (64, 4, NUM_FRAMES, 16, 16)
    assert late.latents.unique().tolist() == [1, 2]
    assert late.frames.tolist() == list(range(NUM_FRAMES))
    # Of 1 - u^8 the median is 1 - 0.5^8 = 0.996; of 1 - u it is 0.5.
    assert early.timesteps.median() > 900
    assert 300 < late.timesteps.median() < 700
    for a, b in zip(early, sample_batch(clips, 2, config), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(early.noise, sample_batch(clips, 3, config).noise)
