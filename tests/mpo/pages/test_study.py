"""The page of a study, from figures that are known."""

import numpy as np

from mpo.comparison.repetitions import Row, Study, mean_of, paired_difference
from mpo.pages.study import write_study


def test_the_page_has_all_arms_with_their_differences(tmp_path):
    first, second = np.array([0.6, 0.7, 0.8]), np.array([0.75, 0.8, 0.97])
    row = Row("text_alignment", (mean_of(first), mean_of(second)), (paired_difference(first, second),))
    single = Row("total", (mean_of(first[:1]), mean_of(second[:1])), (paired_difference(first[:1], second[:1]),))
    study = Study(("the first", "train.beta=<b>2</b>"), (row, single))
    write_study(study, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<td>text alignment</td><td>0.700 (0.452 to 0.948)</td><td>0.840 (0.554 to 1.126)</td>" in page
    assert "<td>text alignment</td><td>B</td><td>+0.140</td>" in page
    assert "<td>total</td><td>B</td><td>+0.150</td><td>unknown</td><td>–</td>" in page
    assert "&lt;b&gt;2&lt;/b&gt;" in page  # settings are text
    write_study(study, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "page.html").read_bytes()
