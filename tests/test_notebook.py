"""docs/quickstart.ipynb, executed from start to end in a kernel of its own."""

import os

import nbformat
import pytest
from nbclient import NotebookClient

from tests.helpers.documents import ROOT

NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
TINY = """RUN = "runs/notebook"
SETTINGS = [
    "prompts.train={path: prompts/shapes-train.txt, limit: 4}",
    "prompts.heldout={path: prompts/shapes-heldout.txt, limit: 2}",
    "generate.num_inference_steps=4",
    "select.num_pairs=null",
    "select.margin=0.0",
    "train.num_steps=2",
    "train.warmup_steps=1",
    "train.batch_size=2",
    "evaluate.num_seeds=1",
    "evaluate.num_inference_steps=2",
    "evaluate.num_bootstrap=100",
]
"""


def test_it_is_stored_without_what_it_printed():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells if cell.cell_type == "code")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Jupyter's own libraries
def test_it_runs(tmp_path, monkeypatch):
    """The whole loop at tiny settings, which takes half a minute: that every cell works on what a run leaves behind."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    [settings] = [cell for cell in notebook.cells if cell.source.startswith("RUN = ")]
    settings.source = TINY
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(
        out.text for cell in notebook.cells for out in cell.get("outputs", []) if out.output_type == "stream"
    )
    assert "pairs of 24 candidates" in printed
    assert "total        tuned wins" in printed
    pictures = [out for cell in notebook.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert len(pictures) == 4  # pairs, curves, base and tuned, one more
    assert (tmp_path / "runs" / "notebook" / "evaluation" / "report.html").is_file()
