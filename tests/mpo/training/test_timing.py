import json
import time

from mpo.training.timing import measure_step


def test_a_step_is_measured_in_seconds_pairs_and_gib():
    timing = measure_step(time.perf_counter() - 2.0, num_pairs=8)
    assert 2.0 <= timing.seconds_per_step < 3.0
    assert timing.pairs_per_s == 8 / timing.seconds_per_step
    assert 0.05 < timing.peak_memory_gib < 1000


def test_every_step_has_its_line(finished):
    lines = [json.loads(line) for line in (finished / "timing.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(line["seconds_per_step"] > 0 and line["peak_memory_gib"] > 0 for line in lines)
