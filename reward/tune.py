"""Tuning a judge: a LoRA on a vision-language model, taught people's checklist answers.

Each question is balanced, as in arXiv 2412.21059: the excess of yes or of no is dropped. The loss is only on the answer
token, after exactly the words that `VLMJudge` asks, so that what is trained is what is asked.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from reward.checklist import Checklist
from reward.errors import RewardError
from reward.judges import require_kind
from reward.judges.vlm import VLMJudge
from reward.media import read_clip, read_image
from reward.preferences import Annotation

ANSWERS = {True: "yes", False: "no"}


@dataclass(frozen=True)
class TuneSettings:
    """The paper tunes a 19B model with batch 64 at 1e-6 for 1,500 steps, all weights; a LoRA needs a higher rate."""

    num_steps: int = 1500
    batch_size: int = 64
    micro_batch_size: int = 4  # examples in one pass; gradients of batch_size are added up
    learning_rate: float = 1e-4
    warmup_steps: int = 50
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"  # vision tower included, output layer not
    seed: int = 0
    log_steps: int = 10
    save_steps: int = 500
    bf16: bool = False  # of the arithmetic; the weights keep their type
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.batch_size % self.micro_batch_size:
            raise RewardError(
                f"batch_size={self.batch_size} is not a multiple of micro_batch_size={self.micro_batch_size}; make it one"
            )


@dataclass(frozen=True)
class Example:
    """One question about one item."""

    item: int  # index into the annotations
    question_id: str
    answer: bool


def balanced_examples(annotations: Sequence[Annotation], *, seed: int) -> list[Example]:
    """As many yes as no for each question, chosen at random; a question with only one of them is dropped."""
    by_question: dict[str, dict[bool, list[Example]]] = defaultdict(lambda: {True: [], False: []})
    for item, annotation in enumerate(annotations):
        for question_id, answer in annotation.answers.items():
            by_question[question_id][answer].append(Example(item, question_id, answer))
    rng = np.random.default_rng(seed)
    kept = []
    for question_id in sorted(by_question):
        sides = by_question[question_id]
        count = min(len(side) for side in sides.values())
        for side in sides.values():
            kept += [side[i] for i in rng.permutation(len(side))[:count]]
    return [kept[i] for i in rng.permutation(len(kept))]


class AnswerCollator(DataCollatorForVisionLanguageModeling):
    """TRL's vision collator, with the loss on the answer token only. It reads media only when their batch is needed."""

    def __init__(self, judge: VLMJudge, annotations: Sequence[Annotation], checklist: Checklist):
        super().__init__(processor=judge.processor, max_length=None, completion_only_loss=True)
        self.judge, self.annotations, self.checklist = judge, annotations, checklist
        self.words = {question.id: question for question in checklist}
        self.answer_ids = set(judge.yes) | set(judge.no)

    def torch_call(self, examples: list[dict[str, Any]]) -> Any:
        """[{item, question_id, answer}] -> the model's inputs and labels, -100 everywhere except at the answers."""
        asked = [self.words[e["question_id"]].ask(self.annotations[e["item"]].prompt) for e in examples]
        answers = [ANSWERS[e["answer"]] for e in examples]
        media = [self.annotations[e["item"]].media for e in examples]
        if self.checklist.kind == "video":  # TRL's collator does not know it
            clips = [read_clip(each, sampling=self.judge.sampling) for each in media]
            shapes = {clip.frames.shape[:3] for clip in clips}
            if len(shapes) > 1:  # processors fail, or tell each clip the longest one's number of frames
                raise RewardError(
                    f"clips of different lengths or sizes (frames, height, width: {sorted(shapes)}) cannot be taught in one pass; set micro_batch_size=1"
                )
            texts = [
                self.judge._text(clip, words) + answer
                for clip, words, answer in zip(clips, asked, answers, strict=True)
            ]
            batch = self.judge._inputs(clips, texts)
            batch["labels"] = torch.full_like(batch["input_ids"], -100)
            batch["labels"][:, -1] = batch["input_ids"][:, -1]  # rows are padded on the left
        else:
            conversations = []
            for each, words, answer in zip(media, asked, answers, strict=True):
                words = self.judge.template.replace("{question}", words)
                conversations.append(
                    {
                        "images": [read_image(each)],
                        "prompt": [{"role": "user", "content": words}],
                        "completion": [{"role": "assistant", "content": answer}],
                    }
                )
            batch = super().torch_call(conversations)
            behind = batch["labels"] != -100
            batch["labels"][behind & (behind.cumsum(dim=1) > 1)] = -100  # what ends the turn
        taught = set(batch["labels"][batch["labels"] != -100].tolist())
        if not taught <= self.answer_ids or not taught:
            raise RewardError(
                f"the token after the question is {self.judge.processor.tokenizer.decode(sorted(taught))!r}, not yes or no; this model's chat template puts something before the answer"
            )
        return batch


def tune(
    judge: VLMJudge,
    annotations: Sequence[Annotation],
    checklist: Checklist,
    output: str | Path,
    settings: TuneSettings | None = None,
) -> list[dict[str, float]]:
    """Trains a LoRA and saves it with the processor in `output`, which `VLMJudge(output)` loads. Returns the log.

    Afterwards the judge's model has the LoRA. Raises RewardError if no question has both a yes and a no, or the model does
    not take what the checklist is about.
    """
    settings = settings or TuneSettings()
    require_kind(judge.kinds, checklist)
    examples = balanced_examples(annotations, seed=settings.seed)
    if not examples:
        raise RewardError("no question was answered both yes and no; give more annotations")
    columns = {name: [getattr(e, name) for e in examples] for name in ("item", "question_id", "answer")}
    targets = settings.target_modules
    # transformers 5.23 gave the setting another name.
    renamed = "activation_checkpointing" in SFTConfig.__dataclass_fields__
    checkpointing: dict[str, Any] = {
        ("activation" if renamed else "gradient") + "_checkpointing": settings.gradient_checkpointing
    }
    trainer = SFTTrainer(
        model=judge.model,
        args=SFTConfig(
            output_dir=str(output),
            max_steps=settings.num_steps,
            per_device_train_batch_size=settings.micro_batch_size,
            gradient_accumulation_steps=settings.batch_size // settings.micro_batch_size,
            learning_rate=settings.learning_rate,
            warmup_steps=settings.warmup_steps,
            lr_scheduler_type="constant_with_warmup",
            logging_steps=settings.log_steps,
            save_steps=settings.save_steps,
            seed=settings.seed,
            bf16=settings.bf16,
            **checkpointing,
            max_length=None,  # truncation would separate pictures from their tokens
            remove_unused_columns=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            report_to=[],
            dataloader_pin_memory=False,
        ),
        train_dataset=Dataset.from_dict(columns),
        data_collator=AnswerCollator(judge, annotations, checklist),
        processing_class=judge.processor,
        peft_config=LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
        ),
    )
    trainer.train()
    trainer.save_model(str(output))
    judge.processor.save_pretrained(str(output))
    judge.model.eval()
    return [entry for entry in trainer.state.log_history if "loss" in entry]
