import base64
import io

import av
import numpy as np
from PIL import Image

from mpo.pages.media import media_tag
from mpo.run_folder.media import write_media


def test_a_picture_is_in_the_page_as_it_is(tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    write_media(tmp_path / "a.png", pixels)
    tag = media_tag(tmp_path / "a.png", 'base: a "red" circle & <b>')
    assert 'alt="base: a &quot;red&quot; circle &amp; &lt;b&gt;"' in tag
    data = base64.b64decode(tag.partition("base64,")[2].partition('"')[0])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


def test_a_clip_plays_by_itself_in_the_page(tmp_path):
    """Browsers start a clip by themselves only if it is muted."""
    write_media(tmp_path / "a.mp4", np.full((5, 16, 16, 3), 90, np.uint8), fps=8)
    tag = media_tag(tmp_path / "a.mp4", "base: a & b")
    assert tag.startswith(
        '<video aria-label="base: a &amp; b" autoplay loop muted playsinline src="data:video/mp4;base64,'
    )
    data = base64.b64decode(tag.partition("base64,")[2].partition('"')[0])
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert len(list(container.decode(video=0))) == 5
