import sys

import pytest

from mpo import MpoError
from mpo.recipe import parse_recipe
from mpo.run import run_recipe
from tests.helpers.pipelines import build


@pytest.mark.parametrize("library", ["bs4", "ftfy"])
def test_a_pipeline_that_could_not_clean_captions_is_refused_before_anything_is_written(
    library, fields, tmp_path, monkeypatch
):
    """Diffusers only warns, and makes other pictures than it would with the library."""
    build("pixart_sigma").save_pretrained(tmp_path / "model")
    fields["model"]["path"] = str(tmp_path / "model")
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    with pytest.raises(MpoError, match=rf"PixArtSigmaPipeline, which needs {library}; pip install 'mpo\[pixart\]'"):
        run_recipe(parse_recipe(fields, source="small"), tmp_path / "run", stages=())
    assert not (tmp_path / "run").exists()
