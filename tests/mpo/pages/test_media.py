import base64
import io

import av
import numpy as np
from PIL import Image

from mpo.pages.media import data_uri
from mpo.run_folder.media import write_media


def decoded(uri: str, kind: str) -> io.BytesIO:
    assert uri.startswith(f"data:{kind};base64,")
    return io.BytesIO(base64.b64decode(uri.partition("base64,")[2]))


def test_a_small_picture_is_in_the_page_as_it_is(tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    write_media(tmp_path / "a.png", pixels)
    with Image.open(decoded(data_uri(tmp_path / "a.png"), "image/png")) as picture:
        np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_a_large_picture_is_made_smaller(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (400, 1000, 3), dtype=np.uint8)
    write_media(tmp_path / "a.png", pixels)
    data = decoded(data_uri(tmp_path / "a.png"), "image/jpeg")
    with Image.open(data) as picture:
        assert picture.size == (512, 205)
    assert len(data.getvalue()) < (tmp_path / "a.png").stat().st_size / 3


def test_a_clip_is_what_browsers_play(tmp_path):
    write_media(tmp_path / "a.mp4", np.full((5, 30, 15, 3), 90, np.uint8), fps=8)
    write_media(tmp_path / "b.mp4", np.full((2, 320, 640, 3), 90, np.uint8), fps=8)
    for name, frames, size in (("a.mp4", 5, (16, 30)), ("b.mp4", 2, (512, 256))):
        with av.open(decoded(data_uri(tmp_path / name), "video/mp4")) as container:
            context = container.streams.video[0].codec_context
            assert (context.pix_fmt, (context.width, context.height)) == ("yuv420p", size)
            assert len(list(container.decode(video=0))) == frames
