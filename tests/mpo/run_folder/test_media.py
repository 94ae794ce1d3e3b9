import io
import json
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from mpo.run_folder.media import can_be_decoded, is_made_from, playable, read_pixels, write_media
from reward.errors import MediaError
from reward.media import probe_clip

RNG = np.random.default_rng(0)
PICTURE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
CLIP = RNG.integers(0, 256, (5, 34, 46, 3), dtype=np.uint8)
MEDIA = {"a.png": PICTURE, "a.mp4": CLIP}
ORIGIN = {"prompt": 'a "café" 東京; a=b \n', "seed": 2**62, "size": None}


@pytest.mark.parametrize("name", MEDIA)
def test_a_file_says_what_it_was_made_from(name, tmp_path):
    file = tmp_path / name
    write_media(file, MEDIA[name], fps=8, origin=ORIGIN)
    assert is_made_from(file, ORIGIN)
    assert not is_made_from(file, ORIGIN | {"seed": 1})
    assert not is_made_from(tmp_path / f"absent-{name}", ORIGIN)
    np.testing.assert_array_equal(read_pixels(file), MEDIA[name])
    assert can_be_decoded(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert not is_made_from(file, ORIGIN)
    assert not can_be_decoded(file)
    with pytest.raises(MediaError, match=name):
        read_pixels(file)


@pytest.mark.parametrize("name", MEDIA)
def test_equal_pixels_are_equal_bytes(name, tmp_path):
    for k in range(2):
        origin = {"b": 1, "a": 2} if k else {"a": 2, "b": 1}
        write_media(tmp_path / f"{k}-{name}", MEDIA[name], fps=8, origin=origin)
    assert (tmp_path / f"0-{name}").read_bytes() == (tmp_path / f"1-{name}").read_bytes()
    write_media(tmp_path / f"c-{name}", MEDIA[name], fps=8)
    assert not is_made_from(tmp_path / f"c-{name}", {})


def test_another_process_writes_the_same_clip(tmp_path):
    """It costs a process of a second: libraries and threads start anew there."""
    np.save(tmp_path / "clip.npy", CLIP)
    write_media(tmp_path / "a.mp4", CLIP, fps=8, origin=ORIGIN)
    code = "import sys, json, numpy as np; from pathlib import Path; from mpo.run_folder.media import write_media; write_media(Path(sys.argv[2]), np.load(sys.argv[1]), fps=8, origin=json.loads(sys.argv[3]))"
    arguments = [str(tmp_path / "clip.npy"), str(tmp_path / "b.mp4"), json.dumps(ORIGIN)]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("shape", [(1, 16, 16), (5, 33, 35), (9, 30, 18), (81, 16, 16)])
@pytest.mark.parametrize("fps", [8, 23.976, 16])
def test_clips_lose_nothing_at_odd_sides_and_one_frame(shape, fps, tmp_path):
    frames = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    write_media(tmp_path / "a.mp4", frames, fps=fps)
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.mp4"), frames)
    info = probe_clip(tmp_path / "a.mp4")
    assert (info.width, info.height, len(info.times_s)) == (shape[2], shape[1], shape[0])
    assert not info.is_variable
    if len(frames) > 1:
        assert info.fps == pytest.approx(fps, rel=1e-3)


def test_the_copy_for_browsers_is_what_they_play(tmp_path):
    """H.264 of 8 bits in 4:2:0, both sides even; near to the original where that is smooth."""
    ramp = np.linspace(0, 255, 35).astype(np.uint8)
    frames = np.broadcast_to(ramp[None, None, :, None], (5, 33, 35, 3)).copy()
    write_media(tmp_path / "a.mp4", frames, fps=8)
    with av.open(io.BytesIO(playable(tmp_path / "a.mp4"))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (36, 34)
        assert stream.average_rate == 8
        shown = [np.asarray(frame.to_image().resize((35, 33)), dtype=int) for frame in container.decode(stream)]
    assert len(shown) == 5
    assert np.abs(np.stack(shown) - frames).mean() < 6


def test_a_picture_is_an_image_to_others(tmp_path):
    write_media(tmp_path / "a.png", PICTURE)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), PICTURE)
