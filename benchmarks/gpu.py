"""All GPU figures in one command: judge, training step and sampling of models of real size, in less than ten minutes.

    python -m benchmarks.gpu --output gpu.json                          # eight minutes on whatever GPU is there
    python -m benchmarks.gpu --sections matrix judge-3b sdxl --minutes 4
    python -m benchmarks.gpu --small                                    # tiny models on the CPU: does the command run?

Weights are random, in bfloat16, built on the device from published configurations; nothing is downloaded. Each section runs in
a process of its own within its share of the time: one that fails, or does not fit into the memory, is said so, and the
others go on. Prints a table for docs/performance.md; --output has everything, with the ten kernels that take most.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SECTIONS = ("matrix", "judge-3b", "judge-7b", "sdxl", "flux", "cogvideox-2b", "wan-1.3b")
SHARES = {"matrix": 3, "judge-3b": 10, "judge-7b": 14, "sdxl": 18, "flux": 24, "cogvideox-2b": 16, "wan-1.3b": 15}
GRACE_S = 20.0  # to end a row that began in time, before the section is stopped


def run_section(
    section: str, *, small: bool, seconds: float, matrix_flops: float | None, folder: Path
) -> dict[str, Any]:
    """A section in a process of its own: its rows as far as it came, and why it ended early."""
    kept = folder / f"{section}.jsonl"
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu",
        "--section",
        section,
        "--rows",
        str(kept),
        "--seconds",
        str(seconds),
    ]
    command += ["--small"] if small else []
    command += ["--matrix-flops", str(matrix_flops)] if matrix_flops else []
    start, result = time.monotonic(), {}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE_S, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            result["error"] = lines[-1][:300]
    except subprocess.TimeoutExpired:
        result["error"] = f"stopped after {seconds + GRACE_S:.0f} s"
    rows = [json.loads(line) for line in kept.read_text("utf-8").splitlines()] if kept.exists() else []
    return {"section": section, "seconds": round(time.monotonic() - start, 1), "rows": rows, **result}


def work(section: str, *, small: bool, seconds: float, matrix_flops: float | None, rows: Path) -> None:
    """What the process of a section does: a line of JSON a row."""
    begun = time.monotonic()
    with rows.open("a", encoding="utf-8") as file:
        import torch  # late: the process that starts the others needs none of it

        from benchmarks.gpu_sections import Device, TooLargeError, measure

        name = "cpu" if small or not torch.cuda.is_available() else "cuda"
        device = Device(name, small, begun + seconds, matrix_flops)
        try:
            for row in measure(section, device):
                file.write(json.dumps(row) + "\n")
                file.flush()
        except TooLargeError as error:
            file.write(json.dumps({"row": "all", "skipped": str(error)}) + "\n")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import diffusers
    import torch
    import transformers

    versions = {
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }
    if not torch.cuda.is_available():
        return {"device": f"CPU, {os.cpu_count()} cores", "memory_gb": None, **versions}
    properties = torch.cuda.get_device_properties(0)
    return {"device": properties.name, "memory_gb": round(properties.total_memory / 1e9, 1), **versions}


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown, a row each."""
    of = result["machine"]
    memory = f", {of['memory_gb']:g} GB" if of["memory_gb"] else ""
    lines = [
        f"{of['device']}{memory}; torch {of['torch']}, diffusers {of['diffusers']}, transformers {of['transformers']}.", "",
        "| section | row | a second | peak GiB | share of the matrix rate | beside |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for section in result["sections"]:
        for row in section["rows"]:
            if "kernels" not in row:
                lines.append(f"| {section['section']} | {row['row']} | {' | '.join(_cells(row))} |")
        if "error" in section:
            lines.append(f"| {section['section']} | | | | | {_plain(section['error'])} |")
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> Sequence[str]:
    """What a row has to say: a second, memory, share, and words."""
    for reason in ("skipped", "error"):
        if reason in row:
            return "–", "–", "–", _plain(f"{reason}: {row[reason]}")
    rate, words = f"{row.get('steps_per_s', 0):.3g} steps", ""
    if "flops_per_s" in row:
        rate, words = f"{row['flops_per_s'] / 1e12:.3g} TFLOP", f"{row['side']} squared"
    if "questions_per_s" in row:
        rate = f"{row['questions_per_s']:.3g} questions, {row['pictures_per_s']:.3g} pictures"
        words = f"{row['times_one_by_one']:.1f} times one by one"
    peak, share = row.get("peak_gib"), row.get("share_of_matrix_rate")
    return rate, "–" if peak is None else f"{peak:.1f}", "–" if share is None else f"{share:.2f}", words


def _plain(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def run(sections: Sequence[str], *, minutes: float, small: bool) -> dict[str, Any]:
    """All sections in turn, the matrix rate first. A section that ends early leaves its time to those after it."""
    result: dict[str, Any] = {"machine": machine(), "small": small, "sections": []}
    end, rate = time.monotonic() + 60 * minutes, None
    with tempfile.TemporaryDirectory() as folder:
        for place, section in enumerate(sections):
            shares = [SHARES[each] for each in sections[place:]]
            seconds = max(1.0, (end - time.monotonic() - GRACE_S) * shares[0] / sum(shares))
            made = run_section(section, small=small, seconds=seconds, matrix_flops=rate, folder=Path(folder))
            result["sections"].append(made)
            if section == "matrix" and made["rows"]:
                rate = made["rows"][0]["flops_per_s"]
            print(f"{section}: {len(made['rows'])} rows in {made['seconds']:.0f} s", file=sys.stderr, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--minutes", type=float, default=8.0, help="for all sections together")
    parser.add_argument("--small", action="store_true", help="tiny models on the CPU")
    parser.add_argument("--output", type=Path, default=None, help="a JSON file for everything")
    for hidden, kind in (("--section", str), ("--rows", Path), ("--seconds", float), ("--matrix-flops", float)):
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.section:
        work(
            arguments.section, small=arguments.small, seconds=arguments.seconds, matrix_flops=arguments.matrix_flops,
            rows=arguments.rows,
        )  # fmt: skip
        return
    result = run(arguments.sections, minutes=arguments.minutes, small=arguments.small)
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
