import re
from html.parser import HTMLParser


def test_the_page_is_self_contained_and_complete(finished):
    page = (finished / "evaluation" / "report.html").read_text()
    HTMLParser().feed(page)
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert links
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert page.count("data:image/png") == 4  # two held-out prompts, base and tuned
    assert page.count("<svg") == 3
    for words in (
        "win rate",
        "implicit accuracy",
        "share in which some dimension gets worse",
        "same seeds",
        "a white ring in the night sky",
    ):
        assert words in page
