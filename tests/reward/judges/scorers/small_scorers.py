"""Folders as scorers are published, of real classes in very small sizes with random weights, and items to score."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    T5Config,
    T5ForConditionalGeneration,
)

from reward import load_checklist
from reward.media import Clip
from tests.reward.judges.small_vlms import SPECIAL, chat_template, qwen2_5_vl, text_config
from tests.reward.judges.small_vlms import tokenizer as bytes_tokenizer

PROMPTS = [
    "a red circle",
    "a cat on a sofa",
    "",
    "two blue squares beside a green triangle",
    "snow",
    "a photo of a red car, at night, in the rain; highly detailed",
    "the word 'STOP' {in braces}",
    "a dog",
    "ein Hund unter einem Baum",
    "many words " * 60,  # more tokens than any limit
    "a bird",
    "an old man reading",
]
SIZES = [(64, 64), (97, 53), (40, 200), (224, 224), (300, 225), (31, 47), (640, 360), (56, 56), (128, 96), (33, 400), (225, 224), (500, 500)]  # fmt: skip
# Of a VideoReward's model_config.json: published ones.
NORMS = {"VQ_mean": 3.6757, "VQ_std": 2.2476, "MQ_mean": 1.1646, "MQ_std": 1.3811, "TA_mean": 2.8105, "TA_std": 2.5121}


def pictures() -> list[Image.Image]:
    """One of each of SIZES: coarse shapes under fine noise."""
    found = []
    for seed, size in enumerate(SIZES):
        generator = np.random.default_rng(seed)
        coarse = Image.fromarray(generator.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        noise = generator.integers(-20, 21, (size[1], size[0], 3))
        found.append(Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8)))
    return found


def clips() -> list[Clip]:
    """Of different sizes, lengths and rates."""
    found = []
    for seed, (count, fps, size) in enumerate([(2, 8.0, (40, 30)), (5, 24.0, (64, 48)), (33, 8.0, (60, 90)), (25, 7.0, (48, 48)), (9, 1.0, (90, 30)), (3, 2.0, (48, 48))]):  # fmt: skip
        base = np.asarray(pictures()[seed].resize((size[0] + count, size[1])))
        frames = np.stack([base[:, i : i + size[0]] for i in range(count)])
        found.append(Clip(frames, np.arange(count) / fps))
    return found


def spread(module: torch.nn.Module, seed: int = 0, scale: float = 0.3) -> None:
    """Random weights under which items get different scores, and biases that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        wide = scale if parameter.ndim < 2 else 1.5 / parameter[0].numel() ** 0.5
        noise = wide * torch.randn(parameter.shape, generator=generator)
        norm = parameter.ndim == 1 and name.endswith("weight")
        parameter.data.copy_(1 + noise if norm else noise)


def trained(template: str, specials: Sequence[str], **tokens: str) -> PreTrainedTokenizerFast:
    """A tokenizer learnt on the prompts, which puts special tokens around them."""
    core = Tokenizer(models.BPE(unk_token=tokens["unk_token"]))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    words = [*PROMPTS, "Yes No yes no Does this figure show a chat between USER: ASSISTANT: Please answer or"] * 3
    trainer = trainers.BpeTrainer(special_tokens=list(specials), show_progress=False, vocab_size=300)
    core.train_from_iterator([*words, *map(chr, range(32, 127))], trainer)
    ids = [(token, core.token_to_id(token)) for token in specials]
    core.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=core, **tokens)


def clip(folder: Path) -> CLIPModel:
    """A CLIP with its processor, as saved by transformers."""
    words = trained(
        "<|startoftext|> $A <|endoftext|>", ["<|startoftext|>", "<|endoftext|>"],
        pad_token="<|endoftext|>", eos_token="<|endoftext|>", bos_token="<|startoftext|>", unk_token="<|endoftext|>",
    )  # fmt: skip
    config = CLIPConfig(
        text_config={
            "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": 77, "projection_dim": 24,
            "eos_token_id": words.eos_token_id, "bos_token_id": words.bos_token_id, "pad_token_id": words.pad_token_id,
        },
        vision_config={
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 56, "patch_size": 14, "projection_dim": 24,
        },
        projection_dim=24,
    )  # fmt: skip
    model = CLIPModel(config).eval()
    spread(model)
    model.logit_scale.data.fill_(4.6)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}).save_pretrained(folder)
    return model


def imagereward(folder: Path) -> dict[str, Tensor]:
    """ImageReward.pt under BLIP's own names, and a BERT's tokenizer. Returns the weights."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = sorted({letter for letter in "".join(PROMPTS).lower() if letter != " "})
    vocabulary = [*specials, *letters, *(f"##{letter}" for letter in letters), "red", "cat", "many", "words"]
    core = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    ends = [(token, specials.index(token)) for token in ("[CLS]", "[SEP]")]
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    words = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    words.save_pretrained(folder)
    vision, text, depth = 128, 64, 2
    shapes: dict[str, tuple[int, ...]] = {
        "blip.visual_encoder.cls_token": (1, 1, vision),
        "blip.visual_encoder.pos_embed": (1, 17, vision),
        "blip.visual_encoder.patch_embed.proj.weight": (vision, 3, 16, 16),
        "blip.visual_encoder.patch_embed.proj.bias": (vision,),
        "blip.text_encoder.embeddings.word_embeddings.weight": (len(words) + 2, text),
        "blip.text_encoder.embeddings.position_embeddings.weight": (64, text),
        "blip.vision_proj.weight": (256, vision), "blip.vision_proj.bias": (256,),
        "blip.text_proj.weight": (256, text), "blip.text_proj.bias": (256,),
    }  # fmt: skip

    def linear(name: str, outputs: int, inputs: int) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs)
        shapes[f"{name}.bias"] = (outputs,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    norm("blip.visual_encoder.norm", vision)
    norm("blip.text_encoder.embeddings.LayerNorm", text)
    for number in range(depth):
        block = f"blip.visual_encoder.blocks.{number}"
        for name in ("norm1", "norm2"):
            norm(f"{block}.{name}", vision)
        for name, (outputs, inputs) in {
            "attn.qkv": (3, 1),
            "attn.proj": (1, 1),
            "mlp.fc1": (2, 1),
            "mlp.fc2": (1, 2),
        }.items():
            linear(f"{block}.{name}", outputs * vision, inputs * vision)
        layer = f"blip.text_encoder.encoder.layer.{number}"
        for part, width in (("attention", text), ("crossattention", vision)):
            for name in ("query", "key", "value"):
                linear(f"{layer}.{part}.self.{name}", text, text if name == "query" else width)
            linear(f"{layer}.{part}.output.dense", text, text)
            norm(f"{layer}.{part}.output.LayerNorm", text)
        linear(f"{layer}.intermediate.dense", 96, text)
        linear(f"{layer}.output.dense", text, 96)
        norm(f"{layer}.output.LayerNorm", text)
    for place, outputs, inputs in ((0, 1024, text), (2, 128, 1024), (4, 64, 128), (6, 16, 64), (7, 1, 16)):
        linear(f"mlp.layers.{place}", outputs, inputs)
    holder = torch.nn.Module()
    for name, shape in shapes.items():
        holder.register_parameter(name.replace(".", "|"), torch.nn.Parameter(torch.zeros(shape)))
    spread(holder)
    weights = {name.replace("|", "."): value.detach() for name, value in holder.named_parameters()}
    for name in weights:
        if "norm" in name.lower() and name.endswith("weight"):
            weights[name] = 1 + 0.2 * weights[name]
    positions = {"blip.text_encoder.embeddings.position_ids": torch.arange(64)[None]}
    torch.save(weights | positions, folder / "ImageReward.pt")
    return weights


def qwen2_vl(folder: Path) -> None:
    """Configuration and processor of a Qwen2-VL, as a processor is named."""
    words = bytes_tokenizer()
    ids = dict(zip(SPECIAL, range(len(SPECIAL)), strict=True))
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    config = Qwen2VLConfig(
        text_config=text_config(len(words) + 40, rope_parameters=rope),  # as published, rows that no word has
        vision_config={"depth": 2, "hidden_size": 64, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14},
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    pad = "<|vision_start|>{}<|vision_end|>"
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(), words, Qwen2VLVideoProcessor(),
        chat_template=chat_template(pad.format("<|image_pad|>"), pad.format("<|video_pad|>")),
    )  # fmt: skip
    config.save_pretrained(folder)
    processor.save_pretrained(folder)


def qwen2_vl_model(folder: Path, num_tokens: int) -> Qwen2VLForConditionalGeneration:
    """Of that folder's configuration, with a vocabulary that ends with some special tokens."""
    words = len(PreTrainedTokenizerFast.from_pretrained(folder))
    model = Qwen2VLForConditionalGeneration(Qwen2VLConfig.from_pretrained(folder)).eval()
    model.resize_token_embeddings(words + num_tokens)
    spread(model)
    return model


def old_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """As transformers 4.45 named a Qwen2-VL's weights."""
    return {
        name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): value.contiguous().clone()
        for name, value in weights.items()
    }


def hpsv3(folder: Path, base: Path) -> tuple[Qwen2VLForConditionalGeneration, list[torch.nn.Linear]]:
    """HPSv3.safetensors, made from `base`. Returns the network and the layers of its head."""
    model = qwen2_vl_model(base, 1)
    layers = [torch.nn.Linear(64, 1024), torch.nn.Linear(1024, 16), torch.nn.Linear(16, 2)]
    weights = old_names(model.state_dict())
    for place, layer in zip((0, 3, 5), layers, strict=True):
        spread(layer, seed=place)
        weights |= {f"rm_head.{place}.{name}": value for name, value in layer.state_dict().items()}
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "HPSv3.safetensors")
    return model, layers


def videoreward(
    folder: Path, base: Path, *, steps: Sequence[int] = (11352,), **fields: Any
) -> tuple[Any, torch.nn.Linear]:
    """model_config.json and checkpoints with a LoRA, made from `base`. Returns peft's network and the head.

    fields: of the data_config, instead of the published ones.
    """
    from peft import LoraConfig, get_peft_model

    tuned: Any = None
    head = torch.nn.Linear(64, 1, bias=False)
    spread(head, seed=7)
    for step in steps:  # the last one is returned
        model = qwen2_vl_model(base, 3)
        targets = [
            name
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and "language_model" in name
        ]
        tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.05, target_modules=targets)).eval()
        for seed, (name, parameter) in enumerate(tuned.named_parameters()):
            if "lora_" in name:
                parameter.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(seed + step))
        place = folder / f"checkpoint-{step}"
        place.mkdir(parents=True)
        named = {
            name.replace("base_model.model.model.language_model.", "base_model.model.model.").replace(
                "base_model.model.model.visual.", "base_model.model.visual."
            ): value
            for name, value in tuned.state_dict().items()
        }
        torch.save(named | {"base_model.model.rm_head.weight": head.weight.detach()}, place / "model.pth")
    data = {
        "max_frame_pixels": 200704, "num_frames": None, "fps": 2.0, "eval_dim": ["VQ", "MQ", "TA"],
        "prompt_template_type": "detailed_special", "sample_type": "uniform",
    }  # fmt: skip
    config = {
        "data_config": data | fields,
        "model_config": {
            "model_name_or_path": "Qwen/Qwen2-VL-2B-Instruct",
            "output_dim": 1,
            "use_special_tokens": True,
        },
        "peft_lora_config": {"lora_enable": True, "lora_r": 4, "lora_alpha": 8, "use_rslora": False},
        "inference_config": NORMS,
    }
    (folder / "model_config.json").write_text(json.dumps(config))
    return tuned, head


def clip_flant5(folder: Path) -> tuple[T5ForConditionalGeneration, CLIPVisionModel, list[torch.nn.Linear]]:
    """config.json and pytorch_model-….bin as published; tokenizer and tower beside. Returns T5, tower, projector."""
    words = trained(
        "$A </s>", ["<pad>", "</s>", "<unk>"],
        pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
    )  # fmt: skip
    tower_folder = folder / "tower"
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=56, patch_size=14
    )
    tower = CLIPVisionModel(vision).eval()
    spread(tower, seed=1)
    vision.save_pretrained(tower_folder)
    CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}).save_pretrained(tower_folder)
    words.save_pretrained(folder / "words")
    fields: dict[str, Any] = {"tie_word_embeddings": False, "decoder_start_token_id": 0}
    config = T5Config(
        vocab_size=len(words) + 8, d_model=48, d_kv=16, d_ff=64, num_layers=2, num_heads=3,
        feed_forward_proj="gated-gelu", **fields,
    )  # fmt: skip
    t5 = T5ForConditionalGeneration(config).eval()
    spread(t5, seed=2)
    projector = [torch.nn.Linear(32, 48), torch.nn.Linear(48, 48)]
    named = dict(t5.state_dict())
    named["embed_tokens.weight"] = named["shared.weight"]
    for name, value in tower.state_dict().items():
        below = name if name.startswith("vision_model.") else f"vision_model.{name}"
        named[f"vision_tower.vision_tower.{below}"] = value
    for place, layer in zip((0, 2), projector, strict=True):
        spread(layer, seed=3 + place)
        named |= {f"mm_projector.{place}.{name}": value for name, value in layer.state_dict().items()}
    names = sorted(named)
    for part in range(2):
        held = {name: named[name] for name in names[part::2]}
        torch.save(held, folder / f"pytorch_model-0000{part + 1}-of-00002.bin")
    fields = config.to_dict() | {
        "model_type": "clip_t5", "architectures": ["CLIPT5ForConditionalGeneration"], "mm_hidden_size": 32,
        "mm_vision_tower": str(tower_folder), "mm_projector_type": "mlp2x_gelu", "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(fields))
    return t5, tower, projector


def vision_language() -> tuple[Any, Any]:
    """A Qwen2.5-VL with a token for "Yes", as the published ones have, and its processor."""
    words = bytes_tokenizer([*(q.text for q in load_checklist("image")), *["Yes"] * 300])
    return qwen2_5_vl("sdpa", words=words)


def largest_difference(found: np.ndarray, expected: Sequence[Any] | np.ndarray) -> float:
    return float(np.abs(found - np.asarray(expected, dtype=np.float64).reshape(found.shape)).max())


def one_by_one(judge: Any, media: Sequence[Any], prompts: Sequence[str], questions: Sequence[Any]) -> np.ndarray:
    rows: list[Callable[[], Any]] = [
        lambda i=i: judge.answer([media[i]], [prompts[i]], questions) for i in range(len(media))
    ]
    return np.concatenate([row() for row in rows])
