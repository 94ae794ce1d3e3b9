"""A small vision-language model that knows nothing is taught yes/no questions about drawn pictures by a LoRA.

    python -m benchmarks.tune [--seed 0]            # two CPU cores: about two minutes of training

The base is a Qwen2.5-VL of 0.7 million parameters with random weights, frozen: only the LoRA learns. Each picture gets
six questions with different answers, so that a model must look at the picture and read the question.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from reward import Checklist, Question, VisionReward
from reward.checklist import SubDimension
from reward.judges.vlm import TEMPLATE, VLMJudge
from reward.pairs import judgements
from reward.preferences import Annotation
from reward.tune import TuneSettings, tune
from tests.reward.judges.small_vlms import qwen2_5_vl, tokenizer

SIDE = 28  # pixels: one picture token
QUESTIONS = {
    "is_red": "Is the thing red?",
    "is_blue": "Is the thing blue?",
    "is_left": "Is the thing on the left?",
    "is_top": "Is the thing at the top?",
    "is_big": "Is the thing large?",
    "is_light": "Is the picture light?",
}
COLOURS = {"red": (225, 30, 30), "green": (30, 190, 50), "blue": (40, 50, 230)}
SETTINGS = TuneSettings(
    num_steps=600,
    batch_size=32,
    micro_batch_size=32,
    learning_rate=1e-3,
    warmup_steps=20,
    log_steps=100,
    save_steps=10**6,
)
WIDTH, NUM_HEADS = 128, 4


def checklist() -> Checklist:
    questions = tuple(Question(id=name, text=text) for name, text in QUESTIONS.items())
    sub = SubDimension(name="drawn", dimension="drawn", questions=questions)
    return Checklist(name="drawn", version=1, kind="image", subdimensions=(sub,))


def build_base(folder: Path, *, seed: int = 0) -> None:
    """Saves the random model and its processor."""
    words = tokenizer([TEMPLATE.format(question=text) for text in QUESTIONS.values()] * 20)
    head = WIDTH // NUM_HEADS
    rope = {"rope_type": "default", "mrope_section": [head // 4, head // 8, head // 8], "rope_theta": 10000.0}
    text = {
        "hidden_size": WIDTH, "intermediate_size": 3 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": NUM_HEADS,
        "num_key_value_heads": NUM_HEADS, "rope_parameters": rope,
    }  # fmt: skip
    vision = {
        "hidden_size": 64, "intermediate_size": 192, "num_heads": 4, "out_hidden_size": WIDTH,
        "fullatt_block_indexes": [0, 1],
    }  # fmt: skip
    model, processor = qwen2_5_vl("sdpa", text=text, vision=vision, max_pixels=SIDE**2, words=words)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.ndim >= 2:  # signals keep their size from layer to layer; words start small beside the picture
            scale = 0.1 if "embed_tokens" in name else weight[0].numel() ** -0.5
            weight.data.normal_(0, scale, generator=generator)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def draw(rng: np.random.Generator) -> tuple[Image.Image, dict[str, bool]]:
    """A disc of some colour, place and size on a light or dark ground, and the answers."""
    light, left, top, big = (bool(rng.integers(2)) for _ in range(4))
    colour = str(rng.choice(list(COLOURS)))

    def about(rgb: tuple[int, int, int], by: int) -> tuple[int, ...]:
        return tuple(int(np.clip(value + rng.integers(-by, by + 1), 0, 255)) for value in rgb)

    picture = Image.new("RGB", (SIDE, SIDE), about((185, 185, 185) if light else (70, 70, 70), 15))
    radius = 6.5 if big else 3.5
    x, y = (7.5 if left else 20.5) + rng.uniform(-1, 1), (7.5 if top else 20.5) + rng.uniform(-1, 1)
    box = (x - radius, y - radius, x + radius, y + radius)
    ImageDraw.Draw(picture).ellipse(box, fill=about(COLOURS[colour], 25))
    answers = {
        "is_red": colour == "red", "is_blue": colour == "blue", "is_left": left, "is_top": top, "is_big": big, "is_light": light,
    }  # fmt: skip
    return picture, answers


def drawn(count: int, rng: np.random.Generator) -> list[Annotation]:
    return [Annotation("", *draw(rng), group=str(i)) for i in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    rng = np.random.default_rng(seed)
    taught, held_out = drawn(1500, rng), drawn(300, rng)
    with tempfile.TemporaryDirectory() as folder:
        base, tuned = Path(folder) / "base", Path(folder) / "tuned"
        build_base(base, seed=seed)
        judge = VLMJudge(base, dtype="float32", batch_size=32)
        before, _ = judgements(VisionReward(judge, checklist()), held_out)
        start = time.perf_counter()
        log = tune(judge, taught, checklist(), tuned, SETTINGS)
        taken_s = time.perf_counter() - start
        found = VLMJudge(tuned, dtype="float32", batch_size=32)
        after, _ = judgements(VisionReward(found, checklist()), held_out)
    print(f"{SETTINGS.num_steps} steps in {taken_s:.0f} s; loss", *(f"{entry['loss']:.3f}" for entry in log))
    print("balanced accuracy on 300 pictures that were not taught: before, after")
    for then, now in zip(before, after, strict=True):
        print(f"{QUESTIONS[now.question_id]:<28} {then.balanced_accuracy:.3f}  {now.balanced_accuracy:.3f}")


if __name__ == "__main__":
    main()
