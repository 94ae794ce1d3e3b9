"""What no judge sees: measured on pictures and clips whose variety and motion are known."""

import numpy as np
import pytest
from PIL import Image

from mpo.comparison.guards import diversity, guards, motion, ratio_of
from mpo.run_folder.media import write_media
from reward import Clip


def flat(level: int) -> Image.Image:
    return Image.new("RGB", (64, 48), (level,) * 3)


def moving(step: float, *, fps: float = 8.0, side: int = 64) -> Clip:
    """A textured square that moves right by `step` pixels a frame."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (side // 4, side // 4, 3), np.uint8).repeat(2, 0).repeat(2, 1)
    frames = np.full((9, side, side, 3), 128, np.uint8)
    for k, frame in enumerate(frames):
        left = round(k * step)
        frame[16 : 16 + len(texture), left : left + len(texture)] = texture
    return Clip(frames, np.arange(9) / fps)


def test_diversity_is_the_mean_colour_difference_of_all_pairs():
    assert diversity([flat(90), flat(90), flat(90)]) == 0
    # Black, white, white: of three pairs two differ by 100, the whole range of lightness.
    assert diversity([flat(0), flat(255), flat(255)]) == pytest.approx(200 / 3, abs=0.01)


def test_diversity_sees_layout_and_not_grain():
    rng = np.random.default_rng(0)
    grain = [Image.fromarray(rng.integers(118, 138, (256, 256, 3), np.uint8)) for _ in range(2)]
    halves = [np.full((256, 256, 3), 118, np.uint8) for _ in range(2)]
    halves[0][:, :128] = halves[1][:, 128:] = 138
    assert diversity(grain) < 0.3 * diversity([Image.fromarray(each) for each in halves])


def test_motion_is_a_speed_in_sides_a_second():
    slow, fast = motion(moving(1)), motion(moving(2))
    assert slow == pytest.approx(8 / 64, rel=0.25)  # 1 pixel a frame, 8 frames a second, 64 pixels
    assert fast == pytest.approx(2 * slow, rel=0.25)
    assert motion(moving(1, fps=16)) == pytest.approx(2 * slow, rel=1e-6)
    assert motion(moving(0)) == 0
    assert motion(Clip(moving(1).frames[:1], np.zeros(1))) == 0


def test_a_ratio_and_its_interval():
    rng = np.random.default_rng(0)
    base = rng.uniform(1, 2, 200)
    found = ratio_of(base, 0.8 * base, num_bootstrap=500, seed=0)
    assert found["ratio"] == pytest.approx(0.8)
    assert found["ci95"] == pytest.approx([0.8, 0.8])  # paired: the same prompts in both
    unpaired = ratio_of(base, rng.uniform(1, 2, 200), num_bootstrap=500, seed=0)
    assert unpaired["ci95"][0] < 1 < unpaired["ci95"][1]
    assert ratio_of(np.zeros(3), np.zeros(3), num_bootstrap=10, seed=0)["ratio"] == 1


def test_the_guards_of_files(tmp_path):
    """A tuned model that makes one picture for every seed has lost its diversity."""
    files = []
    for model, levels in {"base": (20, 200, 60, 180), "tuned": (90, 90, 120, 120)}.items():
        for k, level in enumerate(levels):  # two prompts, two seeds
            files.append(tmp_path / f"{model}-{k}.png")
            flat(level).save(files[-1])
    found = guards(files, "image", num_seeds=2, num_bootstrap=100, seed=0)
    assert list(found) == ["diversity"]
    assert found["diversity"]["ratio"] == pytest.approx(0, abs=1e-9)
    assert guards(files, "image", num_seeds=1, num_bootstrap=100, seed=0) == {}
    clips = []
    for name, step in {"base-0": 2, "base-1": 1, "tuned-0": 0, "tuned-1": 0}.items():
        clips.append(tmp_path / f"{name}.mp4")
        write_media(clips[-1], moving(step).frames, fps=8)
    found = guards(clips, "video", num_seeds=1, num_bootstrap=100, seed=0)
    assert list(found) == ["motion"]
    assert found["motion"]["ratio"] < 0.05
    assert guards(clips[1:3], "video", num_seeds=1, num_bootstrap=100, seed=0) == {}  # of one prompt
