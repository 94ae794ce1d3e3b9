"""docs/new-family.md, followed: its code is put where it says, and the tests of every family are run on what comes out."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import tests.helpers.pipelines as pipelines
from mpo.models.families import FAMILIES, Family
from tests.mpo.models.families import test_families as every_family

GUIDE = Path(__file__).parents[4] / "docs" / "new-family.md"


def code_for(file: str) -> str:
    """The block of the guide that is to go into a file."""
    [code] = re.findall(rf"```python\n# {re.escape(file)}\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    return code


@pytest.fixture
def aura_flow(tmp_path, monkeypatch) -> Any:
    """The guide's family, in a folder of its own."""
    code = code_for("mpo/models/families/aura_flow.py")
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide" / "aura_flow.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    registered: dict[str, str] = {}
    exec(code_for("mpo/models/families/__init__.py"), {"FAMILIES": registered})
    [(name, place)] = registered.items()
    assert place == "mpo.models.families.aura_flow"
    monkeypatch.setitem(FAMILIES, name, "guide.aura_flow")
    small: dict[str, Any] = {}
    exec(
        "from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel\n" + code_for("tests/helpers/pipelines.py"),
        {**vars(pipelines), "SMALL": small},
    )
    monkeypatch.setitem(pipelines.SMALL, "aura_flow", small["aura_flow"])
    return importlib.import_module("guide.aura_flow")


def test_the_guide_holds(aura_flow, tmp_path, monkeypatch):
    assert isinstance(aura_flow, Family)
    assert len(code_for("mpo/models/families/aura_flow.py").splitlines()) <= 50
    every_family.test_conditions_and_predictions_equal_the_pipelines_own_loop("aura_flow")
    with monkeypatch.context() as patched:
        every_family.test_encoding_is_the_inverse_of_the_pipelines_decoding("aura_flow", patched)
    every_family.test_encoding_runs_on_the_real_autoencoder("aura_flow")
    every_family.test_a_perfect_prediction_leads_back_to_the_latents("aura_flow")
    trained = "aura_flow", every_family.five_steps("aura_flow", tmp_path)
    every_family.test_five_steps_move_the_margin_up(trained)
    every_family.test_the_stock_pipeline_takes_the_lora_at_its_strength(trained)
