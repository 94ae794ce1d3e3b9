import re
from html.parser import HTMLParser

from mpo.run_folder.files import read_json


def test_the_page_is_self_contained_and_complete(finished):
    page = (finished / "evaluation" / "report.html").read_text()
    HTMLParser().feed(page)
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert links
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    num_pairs = min(8, read_json(finished / "selection.json")["num_kept"])
    assert page.count("data:image/png") == 4 + 2 * num_pairs  # two held-out prompts, base and tuned; the pairs
    assert page.count("<svg") == 3
    for words in (
        "win rate",
        "implicit accuracy",
        "share in which some dimension gets worse",
        "same seeds",
        "with the answers that decided",
        "a white ring in the night sky",
    ):
        assert words in page
