"""Real vision-language classes of transformers in very small sizes, from config, with real processors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from reward import load_checklist

SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
    "<image>", "<video>", "<img>", "</img>", "<IMG_CONTEXT>", "<fake_token_around_image>", "<global-img>",
    "<end_of_utterance>", *(f"<row_{r}_col_{c}>" for r in range(1, 5) for c in range(1, 5)),
    "<start_of_image>", "<end_of_image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>",
]  # fmt: skip


def tokenizer(words: Sequence[str] | None = None, **extra: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as GPT-2's and Qwen's, learnt on some words; None = the checklists' own."""
    words = words or [q.text for name in ("image", "video") for q in load_checklist(name)]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([*words, *["Answer yes or no. Yes No YES NO yes no\nuser assistant\n"] * 50], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<|endoftext|>", eos_token="<|im_end|>", extra_special_tokens=extra
    )


def chat_template(image: str, video: str) -> str:
    """ChatML; what stands for a picture differs between families."""
    return (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
        "{% if c.type == 'image' %}"
        + image
        + "{% elif c.type == 'video' %}"
        + video
        + "{% else %}{{ c.text }}{% endif %}"
        "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def text_config(vocab_size: int, **fields: Any) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096, "bos_token_id": 0,
        "eos_token_id": 2, "pad_token_id": 0, **fields,
    }  # fmt: skip


def qwen2_5_vl(
    attention: str,
    *,
    text: dict | None = None,
    vision: dict | None = None,
    max_pixels: int = 28 * 28 * 40,
    words: PreTrainedTokenizerFast | None = None,
) -> tuple[Any, Any]:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    words = words or tokenizer()
    ids = dict(zip(SPECIAL, range(len(SPECIAL)), strict=True))
    config = Qwen2_5_VLConfig(
        text_config=text_config(
            len(words), rope_parameters={"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
        )
        | (text or {}),
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 14, "out_hidden_size": 64,
            "fullatt_block_indexes": [1], "window_size": 56, **(vision or {}),
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    pad = "<|vision_start|>{}<|vision_end|>"
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=max_pixels),
        words,
        Qwen2VLVideoProcessor(min_pixels=28 * 28, max_pixels=max_pixels, cap_pixels_per_frame=True),
        chat_template=chat_template(pad.format("<|image_pad|>"), pad.format("<|video_pad|>")),
    )
    return _built(Qwen2_5_VLForConditionalGeneration, config, attention), processor


def qwen3_vl(attention: str) -> tuple[Any, Any]:
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    words = tokenizer()
    ids = dict(zip(SPECIAL, range(len(SPECIAL)), strict=True))
    config = Qwen3VLConfig(
        text_config=text_config(
            len(words),
            head_dim=16,
            rope_parameters={
                "rope_type": "default",
                "mrope_section": [4, 2, 2],
                "rope_theta": 10000.0,
                "mrope_interleaved": True,
            },
        ),
        vision_config={
            "depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 16, "out_hidden_size": 64,
            "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1],
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    return _built(Qwen3VLForConditionalGeneration, config, attention), _qwen3_processor(words)


def _qwen3_processor(words: PreTrainedTokenizerFast) -> Any:
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    size = {"shortest_edge": 32 * 32, "longest_edge": 32 * 32 * 40}
    pad = "<|vision_start|>{}<|vision_end|>"
    return Qwen3VLProcessor(
        Qwen2VLImageProcessor(patch_size=16, size=size),
        words,
        Qwen3VLVideoProcessor(size=size, cap_pixels_per_frame=True),
        chat_template=chat_template(pad.format("<|image_pad|>"), pad.format("<|video_pad|>")),
    )


def qwen3_5(attention: str) -> tuple[Any, Any]:
    """Linear attention in all layers but the last."""
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    words = tokenizer()
    ids = dict(zip(SPECIAL, range(len(SPECIAL)), strict=True))
    config = Qwen3_5Config(
        text_config=text_config(
            len(words),
            head_dim=32,
            layer_types=["linear_attention", "linear_attention", "full_attention"],
            linear_key_head_dim=16,
            linear_value_head_dim=16,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            rope_parameters={
                "rope_type": "default",
                "mrope_section": [2, 1, 1],
                "rope_theta": 10000.0,
                "mrope_interleaved": True,
                "partial_rotary_factor": 0.25,
            },
        ),
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 16, "out_hidden_size": 64,
            "num_position_embeddings": 64,
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    return _built(Qwen3_5ForConditionalGeneration, config, attention), _qwen3_processor(words)


def lfm2_vl(attention: str) -> tuple[Any, Any]:
    """Short convolutions in all layers but the last."""
    from transformers import Lfm2VlConfig, Lfm2VlForConditionalGeneration, Lfm2VlImageProcessor, Lfm2VlProcessor

    words = tokenizer()
    config = Lfm2VlConfig(
        text_config=text_config(
            len(words), model_type="lfm2", layer_types=["conv", "conv", "full_attention"], block_auto_adjust_ff_dim=False
        ),
        vision_config={
            "model_type": "siglip2_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "patch_size": 14, "num_patches": 64, "vision_use_head": False,
        },
        image_token_id=SPECIAL.index("<image>"), projector_hidden_size=48,
    )  # fmt: skip
    processor = Lfm2VlProcessor(
        Lfm2VlImageProcessor(
            encoder_patch_size=14, tile_size=112, min_image_tokens=4, max_image_tokens=16, do_image_splitting=False
        ),
        words,
        chat_template=chat_template("<image>", ""),
    )
    return _built(Lfm2VlForConditionalGeneration, config, attention), processor


IDEFICS_SIZES: dict[str, Any] = {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 56}}


def _idefics_fields(words: PreTrainedTokenizerFast) -> dict[str, Any]:
    """What SmolVLM, which follows Idefics3, has in common with it."""
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56,
        "patch_size": 14,
    }  # fmt: skip
    return {
        "text_config": text_config(len(words), model_type="llama"),
        "vision_config": vision,
        "image_token_id": SPECIAL.index("<image>"),
        "scale_factor": 2,
    }


def smolvlm(attention: str) -> tuple[Any, Any]:
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    words = tokenizer()
    config = SmolVLMConfig(**_idefics_fields(words))
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(**IDEFICS_SIZES),
        words,
        SmolVLMVideoProcessor(size={"longest_edge": 56}, max_image_size={"longest_edge": 56}),
        image_seq_len=4,
        chat_template=chat_template("<image>", "<video>"),
    )
    return _built(SmolVLMForConditionalGeneration, config, attention), processor


def idefics3(attention: str) -> tuple[Any, Any]:
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
    )

    words = tokenizer()
    config = Idefics3Config(**_idefics_fields(words))
    processor = Idefics3Processor(
        Idefics3ImageProcessor(**IDEFICS_SIZES), words, image_seq_len=4, chat_template=chat_template("<image>", "")
    )
    return _built(Idefics3ForConditionalGeneration, config, attention), processor


def internvl(attention: str) -> tuple[Any, Any]:
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    words = tokenizer(
        start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>", video_token="<video>"
    )
    size = {"height": 56, "width": 56}
    config = InternVLConfig(
        text_config=text_config(len(words), model_type="qwen2"),
        vision_config={
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": [56, 56], "patch_size": [14, 14],
        },
        image_token_id=SPECIAL.index("<IMG_CONTEXT>"), image_seq_length=4,
    )  # fmt: skip
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=size, crop_to_patches=True, min_patches=1, max_patches=4),
        words,
        InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=chat_template("<IMG_CONTEXT>\n", "<video>\n"),
    )
    return _built(InternVLForConditionalGeneration, config, attention), processor


def llava_onevision(attention: str) -> tuple[Any, Any]:
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
    )

    words = tokenizer()
    size, pinpoints = {"height": 56, "width": 56}, [[56, 112], [112, 56], [112, 112]]
    config = LlavaOnevisionConfig(
        text_config=text_config(len(words), model_type="qwen2"),
        vision_config={
            "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "vision_use_head": False,
        },
        image_token_index=SPECIAL.index("<image>"), video_token_index=SPECIAL.index("<video>"),
        image_grid_pinpoints=pinpoints,
    )  # fmt: skip
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=pinpoints),
        words,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=chat_template("<image>\n", "<video>\n"),
    )
    return _built(LlavaOnevisionForConditionalGeneration, config, attention), processor


def _siglip_vision() -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "vision_use_head": False,
    }  # fmt: skip


def gemma3(attention: str, *, window: int = 4096) -> tuple[Any, Any]:
    """Windowed attention in all layers but the last."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor

    image = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image>"}
    words = tokenizer(**image)
    config = Gemma3Config(
        text_config=text_config(
            len(words),
            head_dim=16,
            query_pre_attn_scalar=16,
            sliding_window=window,
            layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        ),
        vision_config=_siglip_vision(),
        mm_tokens_per_image=4,
        boi_token_index=SPECIAL.index("<start_of_image>"),
        eoi_token_index=SPECIAL.index("<end_of_image>"),
        image_token_index=SPECIAL.index("<image>"),
    )
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size={"height": 56, "width": 56}),
        words,
        image_seq_length=4,
        chat_template=chat_template("<start_of_image>", ""),
    )
    return _built(Gemma3ForConditionalGeneration, config, attention), processor


def paligemma(attention: str) -> tuple[Any, Any]:
    """Its prefix, picture and words, sees all of itself: nothing can be shared between questions."""
    from transformers import (
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessor,
    )

    words = tokenizer()
    words.add_special_tokens({"bos_token": "<|im_start|>"})
    images = SiglipImageProcessor(size={"height": 56, "width": 56})
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(images, words, chat_template=chat_template("<image>", ""))
    image_token: Any = words.convert_tokens_to_ids("<image>")
    config = PaliGemmaConfig(
        text_config=text_config(len(words), model_type="gemma", head_dim=16),
        vision_config=_siglip_vision(),
        image_token_index=image_token,
        projection_dim=64,
        vocab_size=len(words),
        hidden_size=64,
    )
    return _built(PaliGemmaForConditionalGeneration, config, attention), processor


# Models whose questions can be packed; the others are named where they are tested.
BUILDERS = {f.__name__: f for f in (qwen2_5_vl, qwen3_vl, smolvlm, idefics3, internvl, llava_onevision)}


def _built(model_class: Any, config: Any, attention: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config._attn_implementation = attention
        model = model_class._from_config(config, dtype=torch.float32, attn_implementation=attention)
    for parameter in model.parameters():  # random weights of the usual size hardly tell one question from another
        parameter.data.mul_(1.0 if parameter.ndim < 2 else 4.0)
    return model.eval()


def save_without_weights(family: str, folder: Path, *, template: str | None = None) -> None:
    """What a judge's folder holds besides its weights. template: another chat template than the family's."""
    model, processor = BUILDERS[family]("sdpa")
    if template is not None:
        processor.chat_template = template
    model.config.save_pretrained(folder)
    processor.save_pretrained(folder)
