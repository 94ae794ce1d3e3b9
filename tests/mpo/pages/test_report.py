import re
from html.parser import HTMLParser

import numpy as np

from mpo.pages import report
from mpo.pages.report import render
from mpo.run_folder.media import write_media
from mpo.run_folder.paths import RunFolder
from tests.helpers.pages import data_of


def test_the_page_is_one_file_that_asks_for_nothing(finished):
    page = (finished / "evaluation" / "report.html").read_text("utf-8")
    HTMLParser().feed(page)
    assert re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="([^"]+)"', page) == ["data:,"]
    assert "default-src 'none'" in page
    assert not re.search(
        r"https?://(?!www\.w3\.org/2000/svg)", re.sub(r'<script type="application.*?</script>', "", page)
    )


def test_all_that_it_shows_is_inside(finished):
    page = (finished / "evaluation" / "report.html").read_text("utf-8")
    data, media = data_of(page), data_of(page, "media")
    shown = {sample["file"] for sample in data["samples"]}
    shown |= {row[model]["file"] for row in data["result"]["heldout"] for model in ("base", "tuned")}
    assert set(media) == shown
    assert all(uri.startswith("data:image/") for uri in media.values())


def test_no_prompt_can_end_the_data(finished, tmp_path):
    """A prompt may hold anything, a closing tag too."""
    page = render(RunFolder(finished))
    inside = "".join(re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL))
    assert inside
    assert "<" not in inside


def test_large_pictures_make_the_page_hold_fewer_not_grow(finished, tmp_path, monkeypatch):
    """Noise of 512 pixels a side takes 200 KB a picture."""
    import shutil

    run = RunFolder(shutil.copytree(finished, tmp_path / "run"))
    rng = np.random.default_rng(0)
    for file in [*run.candidates.rglob("*.png"), *run.samples.rglob("*.png")]:
        write_media(file, rng.integers(0, 256, (512, 512, 3), dtype=np.uint8))
    whole = render(run)
    monkeypatch.setattr(report, "MAX_BYTES", 3_000_000)
    page = render(run)
    assert len(page.encode()) <= 3_000_000 < len(whole.encode())
    assert 0 < len(data_of(page, "media")) < len(data_of(whole, "media"))
