"""The command of GPU figures at a tiny size on the CPU."""

import json
import time

import pytest

from benchmarks.gpu import SECTIONS, SHARES, run, run_section, table
from benchmarks.gpu_sections import SECTIONS as MEASURED
from benchmarks.gpu_sections import Device, TooLargeError, attempt, configs, measure, require


def test_a_models_section_has_all_its_rows():
    """Sampling, the usual step, and the project's own in each form: with rates, work, and what takes the time."""
    device = Device("cpu", small=True, deadline_s=time.monotonic() + 300, matrix_flops=1e9)
    rows = {row["row"]: row for row in measure("wan-1.3b", device)}
    steps = ["usual", "encoded data", "reference kept"]
    packed = ["8bit weights", "4bit weights"]
    assert list(rows) == ["sampling", *steps[:2], "kernels", steps[2], "fp8 weights", *packed]
    for name in ("sampling", *steps, *packed):
        row = rows[name]
        assert row["steps_per_s"] == pytest.approx(1 / row["seconds_per_step"])
        assert row["share_of_matrix_rate"] == pytest.approx(1e12 * row["tflop"] / row["seconds_per_step"] / 1e9)
    assert rows["encoded data"]["tflop"] > 2 * rows["sampling"]["tflop"]  # policy and reference forward, and backward
    shares = [kernel["share"] for kernel in rows["kernels"]["kernels"]]
    assert len(shares) <= 10
    assert shares == sorted(shares, reverse=True)
    assert rows["fp8 weights"]["skipped"] == "for GPUs"


def test_a_row_that_fails_says_why_and_a_late_one_is_not_begun():
    device = Device("cpu", small=True, deadline_s=time.monotonic() + 300)

    def fail(error: Exception):
        raise error

    failed = attempt("x", lambda: fail(RuntimeError("out of memory\nmore")), device)
    assert failed == {"row": "x", "error": "RuntimeError: out of memory"}
    absent = attempt("x", lambda: fail(ImportError(name="torchao")), device)
    assert absent == {"row": "x", "skipped": "torchao is not installed"}
    large = attempt("x", lambda: fail(TooLargeError("needs 80 GB")), device)
    assert large == {"row": "x", "skipped": "needs 80 GB"}
    late = Device("cpu", small=True, deadline_s=time.monotonic() - 1)
    assert "time was over" in attempt("x", lambda: fail(AssertionError()), late)["skipped"]
    require(device, 10**9)  # of a CPU nothing is demanded


def test_the_judge_is_asked_packed_and_beside_it_one_by_one():
    device = Device("cpu", small=True, deadline_s=time.monotonic() + 300, matrix_flops=1e9)
    asked, kernels = measure("judge-3b", device)
    assert asked["questions_per_s"] == pytest.approx(6 * asked["pictures_per_s"])
    assert asked["share_of_matrix_rate"] > 0
    assert kernels["row"] == "kernels"
    machine = {"device": "X", "memory_gb": 80.0, "torch": "2", "diffusers": "0", "transformers": "5"}
    text = table({"machine": machine, "sections": [{"section": "judge-3b", "rows": [asked, kernels]}]})
    assert text.startswith("X, 80 GB; torch 2")
    assert "times one by one |" in text
    assert "kernels" not in text


@pytest.mark.slow
def test_a_section_runs_in_a_process_of_its_own():
    result = run(["matrix"], minutes=15, small=True)
    [matrix] = result["sections"]
    assert [row["row"] for row in matrix["rows"]] == ["matrix product"]
    assert "| matrix | matrix product |" in table(json.loads(json.dumps(result)))


def test_a_section_that_breaks_leaves_its_reason(tmp_path):
    made = run_section("sdxl", small=True, seconds=600, matrix_flops=None, folder=tmp_path / "absent")
    assert made["rows"] == []
    assert made["error"].startswith("FileNotFoundError: ")
    machine = {"device": "CPU", "memory_gb": None, "torch": "2", "diffusers": "0", "transformers": "5"}
    assert "| sdxl | | | | | FileNotFoundError: " in table({"machine": machine, "sections": [made]})


def test_the_sections_are_those_that_are_measured_and_share_the_time():
    assert SECTIONS == MEASURED
    assert SHARES.keys() == set(SECTIONS)
    assert {"Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "black-forest-labs/FLUX.1-dev"} <= configs().keys()
