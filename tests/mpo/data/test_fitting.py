from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from mpo.data.fitting import fit, nearest_size, read_fitted
from mpo.run_folder.media import write_media
from mpo.sizes import Size
from reward.errors import MediaError


def ramp(num_frames: int, width: int = 32, height: int = 24) -> np.ndarray:
    """Frames of one grey each, brighter by 8 from frame to frame, so that a frame's number can be read off."""
    greys = (8 * np.arange(num_frames)).astype(np.uint8)
    return np.broadcast_to(greys[:, None, None, None], (num_frames, height, width, 3)).copy()


def numbers(frames: np.ndarray) -> list[int]:
    return (frames[:, 0, 0, 0] // 8).tolist()


def test_pictures_go_to_the_size_of_the_nearest_shape():
    sizes = (Size(64, 64), Size(96, 64), Size(64, 96))
    assert nearest_size(Size(100, 90), sizes) == Size(64, 64)
    assert nearest_size(Size(100, 60), sizes) == Size(96, 64)
    assert nearest_size(Size(30, 50), sizes) == Size(64, 96)


def test_of_clips_with_one_shape_the_nearest_duration_decides():
    sizes = (Size(64, 64, 9, 8.0), Size(64, 64, 49, 8.0))
    assert nearest_size(Size(128, 128, 30, 24.0), sizes) == sizes[0]
    assert nearest_size(Size(128, 128, 150, 24.0), sizes) == sizes[1]


def test_what_does_not_fit_is_cut_off_and_nothing_squeezed():
    wide = Image.new("RGB", (200, 100), "blue")
    wide.paste("red", (50, 0, 150, 100))
    picture = fit(np.asarray(wide), Size(50, 50))
    assert picture[25, 25].tolist() == picture[5, 5].tolist() == [255, 0, 0]
    clip = fit(np.stack([np.asarray(wide)] * 3), Size(50, 50, 3, 8.0))
    assert clip.shape == (3, 50, 50, 3)
    np.testing.assert_array_equal(clip[2], picture)


@pytest.mark.parametrize(
    ("num_frames", "fps", "taken", "changes"),
    [
        (9, 8.0, [0, 1, 2, 3, 4, 5, 6, 7, 8], ()),
        (20, 8.0, [0, 1, 2, 3, 4, 5, 6, 7, 8], ("cut",)),
        (18, 16.0, [0, 2, 4, 6, 8, 10, 12, 14, 16], ()),
        (5, 4.0, [0, 0, 1, 2, 2, 2, 3, 4, 4], ()),
        (6, 8.0, [0, 1, 2, 3, 4, 5, 5, 5, 5], ("padded",)),
    ],
)
def test_clips_are_brought_to_rate_and_frames(num_frames, fps, taken, changes, tmp_path):
    """The frame shown nearest to each moment; what is missing at the end stands still, and is said."""
    write_media(tmp_path / "a.mp4", ramp(num_frames), fps=fps)
    fitted = read_fitted(tmp_path / "a.mp4", "video", sizes=[Size(16, 16, 9, 8.0)])
    assert (fitted.size, fitted.pixels.shape) == (Size(16, 16, 9, 8.0), (9, 16, 16, 3))
    assert fitted.changes == changes
    ties = [abs(a - b) <= 1 for a, b in zip(numbers(fitted.pixels), taken, strict=True)]  # half-way between two frames
    assert numbers(fitted.pixels) == taken or (fps == 4 and all(ties))


def test_a_clip_too_short_or_broken_is_named(tmp_path):
    write_media(tmp_path / "short.mp4", ramp(4), fps=8)
    with pytest.raises(MediaError, match="lasts 4 frames at 8 a second, less than half of the 9 asked for"):
        read_fitted(tmp_path / "short.mp4", "video", sizes=[Size(16, 16, 9, 8.0)])
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(MediaError, match=r"empty.mp4' is empty \(0 bytes\)"):
        read_fitted(tmp_path / "empty.mp4", "video", sizes=[Size(16, 16, 9, 8.0)])


def test_a_variable_rate_is_evened_out_and_said(tmp_path):
    """Frames 0 to 3 stand half a second each, 4 to 11 a sixteenth."""
    write_variable(tmp_path / "a.mkv", ramp(12), [0, 8, 16, 24, *range(32, 40)])
    fitted = read_fitted(tmp_path / "a.mkv", "video", sizes=[Size(16, 16, 17, 8.0)])
    assert fitted.changes[0] == "of variable rate"
    shown = numbers(fitted.pixels)
    assert shown[:1] == [0]
    assert shown[4] == 1
    assert shown[8] == 2
    assert shown[16] == 4


def write_variable(path: Path, frames: np.ndarray, ticks: list[int]) -> None:
    """Without loss; ticks: when each frame is shown, in sixteenths of a second."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=16)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "bgr0"
        stream.codec_context.time_base = Fraction(1, 16)
        for frame, tick in zip(frames, ticks, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = tick, Fraction(1, 16)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def test_without_sizes_a_clip_stays_as_it_is(tmp_path):
    write_media(tmp_path / "a.mp4", ramp(7), fps=12.5)
    fitted = read_fitted(tmp_path / "a.mp4", "video", sizes=None)
    assert fitted.size == Size(32, 24, 7, 12.5)
    np.testing.assert_array_equal(fitted.pixels, ramp(7))
