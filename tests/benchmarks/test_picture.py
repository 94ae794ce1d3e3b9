from benchmarks.picture import VERDICTS, draw
from mpo.run_folder.paths import RunFolder


def test_the_picture_shows_a_pair_its_gains_and_both_models(finished):
    figure = draw(RunFolder(finished))
    texts = [text.get_text() for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label)]
    assert sum(text.startswith(("rejected, score", "chosen, score")) for text in texts) == 2
    assert {"base", "tuned"} <= set(texts)
    verdicts = [text for text in texts if text in VERDICTS.values()]
    assert 0 < len(verdicts) <= 7
    assert sum(bool(axes.images) for axes in figure.axes) == 2 + 2 * len(verdicts)
