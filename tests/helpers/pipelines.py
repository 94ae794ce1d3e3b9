"""Every family's own classes in a very small size, from config, with random weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderKLQwenImage21,
    ChromaPipeline,
    ChromaTransformer2DModel,
    CogView4Pipeline,
    CogView4Transformer2DModel,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchLCMScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    HiDreamImagePipeline,
    HiDreamImageTransformer2DModel,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImage21Pipeline,
    QwenImage21Transformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GlmConfig,
    GlmModel,
    LlamaConfig,
    LlamaForCausalLM,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PixtralImageProcessor,
    PixtralProcessor,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

from mpo.embedded.train_base import build_tokenizer
from mpo.models.families import denoiser_of, find_family, sampling_arguments, size_rule_of
from mpo.sizes import Size
from tests.helpers.recipes import HELDOUT_PROMPTS, TRAIN_PROMPTS
from tests.reward.judges.small_vlms import chat_template, qwen2_5_vl, qwen3_vl
from tests.reward.judges.small_vlms import tokenizer as byte_tokenizer


def build_pipeline(prediction_type: Any = "epsilon") -> StableDiffusionPipeline:
    """Stable Diffusion's own classes with random weights; 32x32 pixels, 16x16 latents."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = build_tokenizer([*TRAIN_PROMPTS, *HELDOUT_PROMPTS])
        text = CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=2,
            max_position_embeddings=24, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        )  # fmt: skip
        unet = UNet2DConditionModel(
            sample_size=16, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32, norm_num_groups=8, attention_head_dim=4,
        )  # fmt: skip
        two: Any = {  # diffusers types these as tuples of one
            "block_out_channels": (16, 16),
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
        }
        vae = AutoencoderKL(latent_channels=4, norm_num_groups=8, **two)
        scheduler = DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
            steps_offset=1, prediction_type=prediction_type,
        )  # fmt: skip
        parts: Any = {
            "vae": vae,
            "text_encoder": CLIPTextModel(text),
            "tokenizer": tokenizer,
            "unet": unet,
            "scheduler": scheduler,
        }
        nothing: Any = None
        pipeline = StableDiffusionPipeline(
            **parts, safety_checker=nothing, feature_extractor=nothing, requires_safety_checker=False
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


PROMPTS = [*TRAIN_PROMPTS, *HELDOUT_PROMPTS]


class Call(NamedTuple):
    """One call of a network within a pipeline's loop, in the words of `Family.predict`. B prompts."""

    latents: torch.Tensor  # (B, c, h, w)
    timesteps: torch.Tensor  # in [0, 1000]
    given: Mapping[str, Any]  # what it was conditioned on, by the family's names
    prediction: torch.Tensor  # (B, c, h, w), as the scheduler takes it


def clip(cls: Any, *, length: int = 24, width: int = 32) -> tuple[Any, Any]:
    tokenizer = build_tokenizer(PROMPTS)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=37, num_attention_heads=4, num_hidden_layers=3,
        max_position_embeddings=length, bos_token_id=0, eos_token_id=1, pad_token_id=1, projection_dim=32,
    )  # fmt: skip
    return cls(config).eval(), tokenizer


def t5(width: int = 32) -> tuple[Any, Any]:
    tokenizer = byte_tokenizer(PROMPTS)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=48, num_layers=2, num_heads=4, pad_token_id=0
    )
    return T5EncoderModel(config).eval(), tokenizer


def autoencoder(latent_channels: int = 4, num_blocks: int = 2, **fields: Any) -> AutoencoderKL:
    """32x32 pixels -> 16x16 latents with two blocks, 4x4 with four."""
    blocks: Any = {
        "block_out_channels": (16,) * num_blocks,
        "down_block_types": ("DownEncoderBlock2D",) * num_blocks,
        "up_block_types": ("UpDecoderBlock2D",) * num_blocks,
    }
    return AutoencoderKL(latent_channels=latent_channels, norm_num_groups=8, **blocks, **fields).eval()


def stable_diffusion() -> Any:
    return build_pipeline()


def stable_diffusion_v() -> Any:
    return build_pipeline("v_prediction")


def stable_diffusion_xl() -> Any:
    encoder, tokenizer = clip(CLIPTextModel)
    encoder_2, tokenizer_2 = clip(CLIPTextModelWithProjection, width=48)  # diffusers tells the two apart by it
    shape: Any = {  # diffusers types these as tuples of one
        "block_out_channels": (16, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (2, 4),
        "transformer_layers_per_block": (1, 1),
    }
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, layers_per_block=1, cross_attention_dim=80, norm_num_groups=8,
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80, **shape,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )
    parts: Any = {
        "vae": autoencoder(scaling_factor=0.13025), "text_encoder": encoder, "text_encoder_2": encoder_2,
        "tokenizer": tokenizer, "tokenizer_2": tokenizer_2, "unet": unet, "scheduler": scheduler,
    }  # fmt: skip
    return StableDiffusionXLPipeline(**parts, add_watermarker=False)


def stable_diffusion_3(dual_attention_layers: tuple[int, ...] = (0,)) -> Any:
    """Version 3.5 medium, in whose first blocks the picture attends twice."""
    first, tokenizer = clip(CLIPTextModelWithProjection)
    second, tokenizer_2 = clip(CLIPTextModelWithProjection)
    third, tokenizer_3 = t5(64)
    transformer = SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=64, caption_projection_dim=32, pooled_projection_dim=64, out_channels=4, pos_embed_max_size=16,
        dual_attention_layers=dual_attention_layers, qk_norm="rms_norm",
    )  # fmt: skip
    parts: Any = {
        "transformer": transformer, "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": autoencoder(scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        "text_encoder": first, "tokenizer": tokenizer, "text_encoder_2": second, "tokenizer_2": tokenizer_2,
        "text_encoder_3": third, "tokenizer_3": tokenizer_3,
    }  # fmt: skip
    return StableDiffusion3Pipeline(**parts)


def stable_diffusion_35_large() -> Any:
    return stable_diffusion_3(())


def flux() -> Any:
    first, tokenizer = clip(CLIPTextModel)
    second, tokenizer_2 = t5()
    transformer = FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, guidance_embeds=True, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    parts: Any = {
        "transformer": transformer, "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        "vae": autoencoder(scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        "text_encoder": first, "tokenizer": tokenizer, "text_encoder_2": second, "tokenizer_2": tokenizer_2,
    }  # fmt: skip
    return FluxPipeline(**parts)


def chroma() -> Any:
    encoder, tokenizer = t5()
    transformer = ChromaTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(4, 4, 8), approximator_num_channels=16, approximator_hidden_dim=32,
        approximator_layers=1,
    )  # fmt: skip
    parts: Any = {
        "transformer": transformer, "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        "vae": autoencoder(scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        "text_encoder": encoder, "tokenizer": tokenizer,
    }  # fmt: skip
    return ChromaPipeline(**parts)


def gemma2(num_layers: int = 1) -> tuple[Any, Any]:
    tokenizer = byte_tokenizer(PROMPTS)
    config = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=num_layers,
        num_attention_heads=2, num_key_value_heads=2, head_dim=8, pad_token_id=0, max_position_embeddings=4096,
    )  # fmt: skip
    return Gemma2Model(config).eval(), tokenizer


def lumina2() -> Any:
    encoder, tokenizer = gemma2(num_layers=2)
    transformer = Lumina2Transformer2DModel(
        sample_size=4, in_channels=4, hidden_size=48, num_layers=2, num_refiner_layers=1, num_attention_heads=2,
        num_kv_heads=1, multiple_of=16, axes_dim_rope=(8, 8, 8), axes_lens=(300, 32, 32), cap_feat_dim=16,
    )  # fmt: skip
    parts: Any = {
        "transformer": transformer, "scheduler": FlowMatchEulerDiscreteScheduler(shift=6.0, use_dynamic_shifting=True),
        # The pipeline counts on 8 pixels a latent.
        "vae": autoencoder(num_blocks=4, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        "text_encoder": encoder, "tokenizer": tokenizer,
    }  # fmt: skip
    return Lumina2Pipeline(**parts)


def cogview4() -> Any:
    tokenizer = byte_tokenizer(PROMPTS)
    tokenizer.padding_side = "left"
    config = GlmConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    transformer = CogView4Transformer2DModel(
        in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4, text_embed_dim=16,
        time_embed_dim=16, condition_dim=8, sample_size=16,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(
        base_shift=0.25, max_shift=0.75, use_dynamic_shifting=True, time_shift_type="linear"
    )
    parts: Any = {
        "tokenizer": tokenizer, "text_encoder": GlmModel(config).eval(), "vae": autoencoder(scaling_factor=0.8),
        "transformer": transformer, "scheduler": scheduler,
    }  # fmt: skip
    return CogView4Pipeline(**parts)


def hidream_image(scheduler: Any = None) -> Any:
    """Full's scheduler unless another is given. 256x256 pixels, 16x16 patches: the pipeline makes no less."""
    first, tokenizer = clip(CLIPTextModelWithProjection, length=128)
    second, tokenizer_2 = clip(CLIPTextModelWithProjection, length=128)
    third, tokenizer_3 = t5()
    words = byte_tokenizer(PROMPTS)
    llama = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1,
    )  # fmt: skip
    llama._attn_implementation = "eager"  # the pipeline asks for attention weights
    axes: Any = (4, 2, 2)  # typed as a tuple of two
    transformer = HiDreamImageTransformer2DModel(
        patch_size=8, in_channels=4, out_channels=4, num_layers=1, num_single_layers=2, attention_head_dim=8,
        num_attention_heads=4, caption_channels=[32, 16], text_emb_dim=64, num_routed_experts=3, num_activated_experts=2,
        axes_dims_rope=axes, llama_layers=[0, 2, 2],
    )  # fmt: skip
    full = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    parts: Any = {
        "transformer": transformer.eval(), "scheduler": scheduler or full,
        "vae": autoencoder(scaling_factor=0.3611, shift_factor=0.1159, mid_block_add_attention=False, sample_size=256),
        "text_encoder": first, "tokenizer": tokenizer, "text_encoder_2": second, "tokenizer_2": tokenizer_2,
        "text_encoder_3": third, "tokenizer_3": tokenizer_3,
        "text_encoder_4": LlamaForCausalLM(llama).eval(), "tokenizer_4": words,
    }  # fmt: skip
    return HiDreamImagePipeline(**parts)


def hidream_image_dev() -> Any:
    return hidream_image(FlowMatchLCMScheduler(shift=6.0))


def sana() -> Any:
    encoder, tokenizer = gemma2()
    transformer = SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=8, num_cross_attention_heads=2,
        cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=16, sample_size=32,
    )  # fmt: skip
    blocks: Any = ("ResBlock", "EfficientViTBlock")  # typed as a tuple of one
    vae = AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_types=blocks,
        decoder_block_types=blocks, encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)), downsample_block_type="conv",
        upsample_block_type="interpolate", decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41407,
    )  # fmt: skip
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, final_sigmas_type="zero"
    )
    parts: Any = {
        "tokenizer": tokenizer, "text_encoder": encoder, "vae": vae.eval(), "transformer": transformer,
        "scheduler": scheduler,
    }  # fmt: skip
    return SanaPipeline(**parts)


def pixart_sigma() -> Any:
    encoder, tokenizer = t5()
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2, cross_attention_dim=32,
        sample_size=32, patch_size=2, caption_channels=32, use_additional_conditions=False, interpolation_scale=1,
    )  # fmt: skip
    scheduler = DPMSolverMultistepScheduler(beta_schedule="linear")
    parts: Any = {
        "tokenizer": tokenizer, "text_encoder": encoder, "vae": autoencoder(scaling_factor=0.13025),
        "transformer": transformer, "scheduler": scheduler,
    }  # fmt: skip
    return PixArtSigmaPipeline(**parts)


def qwen_image() -> Any:
    words = byte_tokenizer(PROMPTS)
    encoder, _ = qwen2_5_vl("eager", words=words)
    transformer = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=64, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    vae = AutoencoderKLQwenImage(
        base_dim=16, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.8, 1.1, 2.0],
    )  # fmt: skip
    parts: Any = {
        "tokenizer": words, "text_encoder": encoder.eval(), "vae": vae.eval(), "transformer": transformer,
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=True),
    }  # fmt: skip
    return QwenImagePipeline(**parts)


def qwen_image_21() -> Any:
    encoder, processor = qwen3_vl("eager")
    transformer = QwenImage21Transformer2DModel(
        in_channels=4, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2, context_in_dim=64,
        axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    vae = AutoencoderKLQwenImage21(
        base_dim=16, decoder_base_dim=16, z_dim=4, dim_mult=[1, 1, 1, 1, 1], num_res_blocks=1,
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.8, 1.1, 2.0],
    )  # fmt: skip
    parts: Any = {
        "processor": processor, "text_encoder": encoder.eval(), "vae": vae.eval(), "transformer": transformer,
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=True),
    }  # fmt: skip
    return QwenImage21Pipeline(**parts)


def qwen3(cls: Any, num_layers: int = 2) -> tuple[Any, Any]:
    """A language model and its tokenizer, which writes prompts as a chat."""
    tokenizer = byte_tokenizer(PROMPTS)
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=num_layers,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=1024,
    )  # fmt: skip
    return cls(config).eval(), tokenizer


def z_image() -> Any:
    encoder, tokenizer = qwen3(Qwen3Model)
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=32,
        axes_dims=[4, 6, 6], axes_lens=[1024, 32, 32],
    )  # fmt: skip
    for token in (transformer.x_pad_token, transformer.cap_pad_token):
        torch.nn.init.normal_(token)
    parts: Any = {
        "transformer": transformer, "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": autoencoder(scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        "text_encoder": encoder, "tokenizer": tokenizer,
    }  # fmt: skip
    return ZImagePipeline(**parts)


def flux2_parts(text_width: int, **fields: Any) -> dict[str, Any]:
    """What dev and klein share: 32x32 pixels -> 16x16 latents, in patches of 2x2."""
    transformer = Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=3 * text_width, timestep_guidance_channels=32, axes_dims_rope=(4, 4, 4, 4), **fields,
    )  # fmt: skip
    two: Any = {
        "block_out_channels": (16, 16), "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2, "latent_channels": 4, "norm_num_groups": 8,
    }  # fmt: skip
    vae: Any = AutoencoderKLFlux2(**two).eval()
    torch.nn.init.normal_(vae.bn.running_mean)
    torch.nn.init.uniform_(vae.bn.running_var, 0.5, 2.0)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    return {"transformer": transformer, "vae": vae, "scheduler": scheduler}


def flux2() -> Any:
    """Its condition are layers 10, 20 and 30 of the language model."""
    words = byte_tokenizer(PROMPTS, image_token="<image>", image_break_token="<row_1_col_1>", image_end_token="</img>")
    words.padding_side = "left"
    text = {
        "model_type": "mistral", "vocab_size": len(words), "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 31,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 1024,
    }  # fmt: skip
    vision = {
        "model_type": "pixtral", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
        "head_dim": 8, "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    encoder = Mistral3ForConditionalGeneration(Mistral3Config(text_config=text, vision_config=vision)).eval()
    processor = PixtralProcessor(
        PixtralImageProcessor(), words, image_token="<image>", chat_template=chat_template("<image>", ""),
        image_break_token="<row_1_col_1>", image_end_token="</img>",
    )  # fmt: skip
    parts: Any = {**flux2_parts(16), "text_encoder": encoder, "tokenizer": processor}
    return Flux2Pipeline(**parts)


def flux2_klein() -> Any:
    """Its condition are layers 9, 18 and 27."""
    encoder, tokenizer = qwen3(Qwen3ForCausalLM, num_layers=28)
    parts: Any = {**flux2_parts(32, guidance_embeds=False), "text_encoder": encoder, "tokenizer": tokenizer}
    return Flux2KleinPipeline(**parts)


def standard_call(pipeline: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> Call:
    """Of networks that take latents and timesteps as `predict` does; beyond four channels: PixArt's variance."""
    timesteps = args[1] if len(args) > 1 else kwargs["timestep"]
    given = {**kwargs, **(kwargs.get("added_cond_kwargs") or {})}
    return Call(args[0] if args else kwargs["hidden_states"], timesteps, given, output[:, :4])


def packed_call(pipeline: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> Call:
    """Of networks that take packed latents, and timesteps in [0, 1]."""
    packed = kwargs["hidden_states"]
    predicted = output[:, -packed.shape[1] :]  # before it: words, where they are in one sequence with the picture
    latents, prediction = unpack_patches(pipeline, packed), unpack_patches(pipeline, predicted)
    text, given = kwargs["encoder_hidden_states"], dict(kwargs)
    if given.get("encoder_hidden_states_mask", ...) is None:  # the pipeline's sign that nothing is padded
        given["encoder_hidden_states_mask"] = torch.ones(text.shape[:2], dtype=torch.long)
    return Call(latents, kwargs["timestep"] * 1000, given, prediction)


def chroma_call(pipeline: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> Call:
    """Its mask goes on over the tokens of the picture."""
    num_tokens = kwargs["encoder_hidden_states"].shape[1]
    assert kwargs["attention_mask"][:, num_tokens:].all()
    call = packed_call(pipeline, args, kwargs, output)
    return call._replace(given={**kwargs, "encoder_attention_mask": kwargs["attention_mask"][:, :num_tokens]})


def reversed_call(pipeline: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> Call:
    """Of Lumina 2, whose time and prediction go from the noise to the picture."""
    return Call(kwargs["hidden_states"], 1000 * (1 - kwargs["timestep"]), kwargs, -output)


def cogview4_call(pipeline: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> Call:
    """Its network is told timesteps that are not the noise's."""
    scheduler = pipeline.scheduler
    step = (scheduler.timesteps == kwargs["timestep"][0]).nonzero().item()
    text, size = kwargs["encoder_hidden_states"], torch.tensor([[32.0, 32.0]])
    assert kwargs["original_size"].equal(size)
    assert kwargs["target_size"].equal(size)
    assert not kwargs["crop_coords"].any()
    given = {"encoder_hidden_states": text, "encoder_hidden_states_mask": torch.ones(text.shape[:2], dtype=torch.long)}
    return Call(kwargs["hidden_states"], 1000 * scheduler.sigmas[step], given, output)


def hidream_call(pipeline: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> Call:
    """Its prediction goes from the noise to the picture; layers come before prompts."""
    layers = kwargs["encoder_hidden_states_llama3"].transpose(0, 1)
    given = {**kwargs, "encoder_hidden_states_llama3": layers}
    return Call(kwargs["hidden_states"], kwargs["timesteps"], given, -output)


def z_image_call(pipeline: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> Call:
    """Lists of latents (c, 1, h, w) and of texts; the time is 1 without noise, and the output negated."""
    latents, time, texts = args
    given = {
        "encoder_hidden_states": pad_sequence(texts, batch_first=True),
        "encoder_hidden_states_mask": pad_sequence([torch.ones(len(x), dtype=torch.long) for x in texts], True),
    }
    return Call(torch.cat(latents, 1).movedim(1, 0), 1000 - time * 1000, given, -torch.cat(output, 1).movedim(1, 0))


def flux2_call(pipeline: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> Call:
    latents = unpack_tokens(pipeline, kwargs["hidden_states"])
    return Call(latents, kwargs["timestep"] * 1000, kwargs, unpack_tokens(pipeline, output))


def unpack_tokens(pipeline: Any, tokens: torch.Tensor, width: int = 32, height: int = 32) -> torch.Tensor:
    """By the pipeline's own code, which reads each token's place from its position."""
    like = torch.zeros(len(tokens), 1, height // 4, width // 4)
    return pipeline._unpack_latents_with_ids(tokens, pipeline._prepare_latent_ids(like))


def patchify(pipeline: Any, latents: torch.Tensor, width: int = 32, height: int = 32) -> torch.Tensor:
    """The autoencoder's latents, which klein gives -> in patches, on the scale of the network."""
    mode = SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents))
    vae = SimpleNamespace(encode=lambda image: mode, bn=pipeline.vae.bn, config=pipeline.vae.config)
    own = SimpleNamespace(vae=vae, _patchify_latents=pipeline._patchify_latents)
    return type(pipeline)._encode_vae_image(own, torch.zeros(1, 1, 1, 1), generator=None)


def unpack_patches(pipeline: Any, packed: torch.Tensor, width: int = 32, height: int = 32) -> torch.Tensor:
    """By the pipeline's own code; height and width in pixels."""
    scale = pipeline.vae_scale_factor
    latents = pipeline._unpack_latents(packed, height, width, scale)
    return latents.reshape(len(latents), 4, *latents.shape[-2:])


def as_they_are(pipeline: Any, latents: torch.Tensor, width: int = 32, height: int = 32) -> torch.Tensor:
    return latents


@dataclass(frozen=True)
class Small:
    """A family's pipeline, and what the tests must know to watch its loop."""

    build: Callable[[], Any]
    is_flow: bool = True
    call: Callable[..., Call] = standard_call
    unpack: Callable[..., torch.Tensor] = as_they_are  # what output_type="latent" gives -> as `encode_media` gives it
    latent_shape: tuple[int, ...] = (4, 16, 16)  # of the size that `size_of` gives
    wide: tuple[int, int] = (64, 32)  # a size that is not square
    unpack_error: float = 0.0  # its rounding, where it also scales
    shift_steps: int = 3  # at which the pipeline shifts as `shift_mu` says; any, for most
    guidance: float = 1.0  # distilled, where it is not 1
    alone: bool = False  # what the pipeline conditions a prompt on depends on the others of its batch
    second_share: float | None = None  # of the second step, before the scheduler shifts it; None = evenly spaced from 1


FLUX2: Any = {"call": flux2_call, "shift_steps": 50, "latent_shape": (16, 8, 8)}
PACKED: Any = {"call": packed_call, "unpack": unpack_patches}
HIDREAM: Any = {"call": hidream_call, "latent_shape": (4, 128, 128), "wide": (512, 128)}
SMALL = {
    "stable_diffusion": Small(stable_diffusion, is_flow=False),
    "stable_diffusion_v": Small(stable_diffusion_v, is_flow=False),
    "stable_diffusion_xl": Small(stable_diffusion_xl, is_flow=False),
    "stable_diffusion_3": Small(stable_diffusion_3),
    "stable_diffusion_35_large": Small(stable_diffusion_35_large),
    "flux": Small(flux, guidance=3.5, **PACKED),
    "flux2": Small(flux2, guidance=4.0, unpack=unpack_tokens, **FLUX2),
    "flux2_klein": Small(flux2_klein, unpack=patchify, unpack_error=1e-5, **FLUX2),
    "sana": Small(sana),
    "pixart_sigma": Small(pixart_sigma, is_flow=False),
    "qwen_image": Small(qwen_image, **PACKED),
    "qwen_image_21": Small(qwen_image_21, latent_shape=(4, 2, 2), alone=True, **PACKED),
    "z_image": Small(z_image, call=z_image_call),
    "chroma": Small(chroma, call=chroma_call, unpack=unpack_patches),
    "lumina2": Small(lumina2, call=reversed_call, latent_shape=(4, 4, 4)),
    "cogview4": Small(cogview4, call=cogview4_call, alone=True, second_share=1 / 2),
    "hidream_image": Small(hidream_image, **HIDREAM),
    "hidream_image_dev": Small(hidream_image_dev, **HIDREAM),
}


def build(name: str) -> Any:
    """The pipeline by its family's name, the same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = SMALL[name].build()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def size_of(pipeline: Any, side: int = 32) -> Size:
    """32x32 pixels, or what comes nearest of those that the pipeline makes."""
    configs = {"denoiser": denoiser_of(pipeline).config, "vae": pipeline.vae.config}
    return size_rule_of(find_family(pipeline), configs).nearest(Size(side, side))


def sample(
    pipeline: Any, prompts: list[str], guidance_scale: float = 1.0, *, scheduler_seed: int = 0, **arguments: Any
) -> Any:
    """scheduler_seed: of noise that a scheduler adds by itself."""
    own = sampling_arguments(pipeline, guidance_scale=guidance_scale, num_prompts=len(prompts), size=size_of(pipeline))
    arguments = {"num_inference_steps": 3, "generator": torch.Generator().manual_seed(0), **own, **arguments}
    with torch.random.fork_rng([]):
        torch.manual_seed(scheduler_seed)
        return pipeline(
            prompt=list(prompts), **arguments
        )  # Z-Image's writes into the list; FLUX.2's first is a picture
