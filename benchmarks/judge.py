"""Packed, batched and sequential questioning by the VLM judge, side by side on one machine in one run.

    python -m benchmarks.judge                      # 2 cores: about ten minutes
    python -m benchmarks.judge --device cuda        # a GPU: Qwen2.5-VL sizes from config, in bfloat16

The model is a Qwen2.5-VL with random weights: speed does not depend on what weights say. "Floor" is the least number of
tokens that can answer: prefix + questions, over the tokens that the sequential way takes. Memory is the peak of a
process of its own for each mode, model and libraries included.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from PIL import Image

from reward import Question, load_checklist
from reward.judges.vlm import VLMJudge
from reward.judges.yes_no import yes_log_odds
from tests.reward.judges.small_vlms import qwen2_5_vl

SIZES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # (language model, vision tower)
    "tiny": ({}, {}),  # to see that it runs
    "laptop": (
        {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8,
         "num_key_value_heads": 2, "vocab_size": 32000, "rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 1e6}},
        {"depth": 4, "hidden_size": 256, "intermediate_size": 512, "num_heads": 4, "out_hidden_size": 512},
    ),
    "3B": (
        {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
         "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 32768, "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6}},
        {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048, "fullatt_block_indexes": [7, 15, 23, 31], "window_size": 112},
    ),
    "7B": (
        {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
         "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 32768, "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6}},
        {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584, "fullatt_block_indexes": [7, 15, 23, 31], "window_size": 112},
    ),
}  # fmt: skip
MODES = ("packed", "batched", "sequential")


def build(size: str, device: str) -> VLMJudge:
    text, vision = SIZES[size]
    with torch.device(device):
        model, processor = qwen2_5_vl("sdpa", text=text, vision=vision, max_pixels=28 * 28 * 4096)
    model.to(device, torch.float32 if device == "cpu" else torch.bfloat16)
    return VLMJudge(model, processor=processor, max_packed_tokens=1024 if device == "cpu" else 8192)


def picture(num_tokens: int) -> Image.Image:
    """One token stands for 28x28 pixels."""
    rows = max(1, int(num_tokens**0.5))
    pixels = np.random.default_rng(0).integers(0, 256, (28 * rows, 28 * (num_tokens // rows), 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def checklist(count: int) -> list[Question]:
    """Questions of the `image` checklist, and over again where more are wanted."""
    own = load_checklist("image").questions
    return [own[i % len(own)].model_copy(update={"id": f"q{i}"}) for i in range(count)]


def ask(judge: VLMJudge, mode: Any, image: Image.Image, questions: list[Question]) -> torch.Tensor:
    """As `judge.answer`, but for its refusal of models to which neither yes nor no comes to mind: random ones."""
    texts = [judge._text(image, question.ask("a cat")) for question in questions]
    return yes_log_odds(judge._logits([image], [texts], mode), judge.yes, judge.no).cpu()


def seconds(judge: VLMJudge, mode: Any, image: Image.Image, questions: list[Question], *, repeats: int) -> float:
    """The shortest of some runs."""
    taken = []
    for _ in range(repeats):
        if judge.model.device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        ask(judge, mode, image, questions)
        taken.append(time.perf_counter() - start)
    return min(taken)


def token_counts(judge: VLMJudge, image: Image.Image, questions: list[Question]) -> tuple[int, int]:
    """(prefix tokens, question tokens)."""
    inputs, suffixes = judge._split([image], [[judge._text(image, q.ask("a cat")) for q in questions]])
    return inputs["input_ids"].shape[1], sum(len(ids) for ids in suffixes[0])


def row(judge: VLMJudge, prefix_tokens: int, num_questions: int, *, repeats: int) -> dict[str, Any]:
    image, questions = picture(prefix_tokens), checklist(num_questions)
    prefix, words = token_counts(judge, image, questions)
    timed = min(num_questions, 6)  # every question costs the same when asked alone
    sequential_s = seconds(judge, "sequential", image, questions[:timed], repeats=repeats) * num_questions / timed
    packed_s = seconds(judge, "packed", image, questions, repeats=repeats)
    batched_s = seconds(judge, "batched", image, questions, repeats=repeats)
    floor = (prefix + words) / (num_questions * prefix + words)
    return {
        "prefix_tokens": prefix, "num_questions": num_questions, "question_tokens": words,
        "packed_questions_per_s": num_questions / packed_s, "packed_speedup": sequential_s / packed_s,
        "batched_speedup": sequential_s / batched_s, "speedup_at_floor": 1 / floor, "packed_s": packed_s,
    }  # fmt: skip


def peak_memory(size: str, mode: str, device: str) -> float:
    """Bytes: of a process that asks 60 questions behind about 800 tokens."""
    command = [sys.executable, "-m", "benchmarks.judge", "--size", size, "--device", device, "--memory-of", mode]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def matrix_rate(judge: VLMJudge, prefix: int, words: int, packed_s: float) -> float:
    """Multiply-adds a second of the language model in a packed run, counted as two operations each."""
    model = judge.model.get_decoder()
    parameters = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name)
    return 2 * parameters * (prefix + words) / packed_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=SIZES, default=None, help="default: laptop on a CPU, 3B and 7B on a GPU")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", default=None, help="a JSON file for the figures")
    parser.add_argument("--memory-of", choices=MODES, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        judge = build(arguments.size, arguments.device)
        ask(judge, arguments.memory_of, picture(784), checklist(60 if arguments.memory_of != "sequential" else 2))
        on_gpu = arguments.device != "cpu"
        print(
            torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )
        return

    results = []
    for size in [arguments.size] if arguments.size else ["laptop"] if arguments.device == "cpu" else ["3B", "7B"]:
        memory = {mode: peak_memory(size, mode, arguments.device) for mode in MODES}
        for mode in MODES:
            ratio = memory[mode] / memory["sequential"]
            print(
                f"{size}: peak memory {mode:<10} {memory[mode] / 2**30:.2f} GiB, {ratio:.2f} of sequential", flush=True
            )
        judge = build(size, arguments.device)
        seconds(judge, "packed", picture(100), checklist(10), repeats=1)  # warm
        print("prefix  questions  tokens  packed q/s  packed x  batched x  floor x")
        for prefix_tokens, num_questions in [
            (784, 60),
            *((784, q) for q in (10, 30, 120, 240)),
            *((p, 60) for p in (100, 300, 1500, 3000)),
        ]:
            each = row(judge, prefix_tokens, num_questions, repeats=arguments.repeats)
            print(
                f"{each['prefix_tokens']:6d} {each['num_questions']:10d} {each['question_tokens']:7d} {each['packed_questions_per_s']:11.1f}"
                f" {each['packed_speedup']:9.1f} {each['batched_speedup']:10.1f} {each['speedup_at_floor']:8.1f}",
                flush=True,
            )
            if arguments.device != "cpu":
                rate = matrix_rate(judge, each["prefix_tokens"], each["question_tokens"], each["packed_s"])
                print(f"       language model: {rate / 1e12:.0f} TFLOP/s", flush=True)
            results.append({"size": size, "memory": memory, **each})
        del judge
    if arguments.output:
        with open(arguments.output, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
