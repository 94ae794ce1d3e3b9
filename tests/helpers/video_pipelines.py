"""Every video family's own classes in a very small size, from config, with random weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AnimateDiffPipeline,
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    MotionAdapter,
    UNet2DConditionModel,
    UNetMotionModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from transformers import CLIPTextModel, LlamaConfig, LlamaModel, UMT5Config, UMT5EncoderModel

from mpo.models.families import sampling_arguments
from mpo.sizes import Size
from tests.helpers.pipelines import PROMPTS, autoencoder, clip, t5
from tests.reward.judges.small_vlms import tokenizer as byte_tokenizer


def cogvideox(*, rotary: bool, patch_size_t: int | None, scheduler: Any) -> Any:
    encoder, tokenizer = t5()
    four: Any = {  # diffusers types these as tuples of one; the temporal compression needs four
        "down_block_types": ("CogVideoXDownBlock3D",) * 4,
        "up_block_types": ("CogVideoXUpBlock3D",) * 4,
        "block_out_channels": (8, 8, 8, 8),
    }
    vae = AutoencoderKLCogVideoX(
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        scaling_factor=0.7,
        **four,
    )
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=2, text_embed_dim=32,
        num_layers=2, sample_width=6, sample_height=6, sample_frames=9, patch_size=2, patch_size_t=patch_size_t,
        temporal_compression_ratio=4, max_text_seq_length=226, use_rotary_positional_embeddings=rotary,
        patch_bias=patch_size_t is None,
    )  # fmt: skip
    scheduler = scheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing",
        snr_shift_scale=1.0 if rotary else 3.0, set_alpha_to_one=True, clip_sample=False,
    )  # fmt: skip
    parts: Any = {
        "tokenizer": tokenizer, "text_encoder": encoder, "vae": vae.eval(), "transformer": transformer,
        "scheduler": scheduler,
    }  # fmt: skip
    return CogVideoXPipeline(**parts)


def cogvideox_2b() -> Any:
    return cogvideox(rotary=False, patch_size_t=None, scheduler=CogVideoXDDIMScheduler)


def cogvideox_5b() -> Any:
    return cogvideox(rotary=True, patch_size_t=None, scheduler=CogVideoXDPMScheduler)


def cogvideox_1_5() -> Any:
    return cogvideox(rotary=True, patch_size_t=2, scheduler=CogVideoXDPMScheduler)


def animatediff() -> Any:
    encoder, tokenizer = clip(CLIPTextModel)
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32, norm_num_groups=8, attention_head_dim=4,
    )  # fmt: skip
    adapter = MotionAdapter(
        block_out_channels=(16, 32), motion_layers_per_block=1, motion_num_attention_heads=2, motion_norm_num_groups=8,
        motion_max_seq_length=12,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False, steps_offset=1
    )
    parts: Any = {
        "vae": autoencoder(), "text_encoder": encoder, "tokenizer": tokenizer, "motion_adapter": adapter,
        "unet": UNetMotionModel.from_unet2d(unet, adapter), "scheduler": scheduler,
    }  # fmt: skip
    return AnimateDiffPipeline(**parts)


def umt5() -> tuple[Any, Any]:
    tokenizer = byte_tokenizer(PROMPTS)
    config = UMT5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, pad_token_id=0
    )
    return UMT5EncoderModel(config).eval(), tokenizer


def wan_transformer(channels: int) -> WanTransformer3DModel:
    return WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=channels, out_channels=channels,
        text_dim=32, freq_dim=16, ffn_dim=32, num_layers=2, rope_max_seq_len=32,
    )  # fmt: skip


def wan_parts(*, shift: float, **vae: Any) -> dict[str, Any]:
    encoder, tokenizer = umt5()
    fields: dict[str, Any] = {
        "base_dim": 4, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
        "latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [1.5, 0.8, 1.1, 2.0], **vae,
    }  # fmt: skip
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, num_train_timesteps=1000
    )
    return {
        "tokenizer": tokenizer, "text_encoder": encoder, "vae": AutoencoderKLWan(**fields).eval(), "scheduler": scheduler,
        "transformer": wan_transformer(fields["z_dim"]),
    }  # fmt: skip


def wan() -> Any:
    return WanPipeline(**wan_parts(shift=3.0))


def wan_euler() -> Any:
    """As converted for diffusers by others: another sampler of the same flow."""
    parts: dict[str, Any] = wan_parts(shift=3.0) | {"scheduler": FlowMatchEulerDiscreteScheduler(shift=5.0)}
    return WanPipeline(**parts)


def wan_5b() -> Any:
    """Wan 2.2 5B: 16 pixels a latent, in patches of 2x2 before the autoencoder; a timestep for each token."""
    parts = wan_parts(
        shift=5.0, is_residual=True, patch_size=2, in_channels=12, out_channels=12, scale_factor_spatial=16,
        decoder_base_dim=4,
    )  # fmt: skip
    return WanPipeline(**parts, expand_timesteps=True)


def wan_a14b() -> Any:
    """Wan 2.2 A14B: two networks."""
    return WanPipeline(**wan_parts(shift=3.0), transformer_2=wan_transformer(4), boundary_ratio=0.875)


def ltx() -> Any:
    encoder, tokenizer = t5()
    shape: Any = {
        "block_out_channels": (8, 8, 8, 8), "decoder_block_out_channels": (8, 8, 8, 8),
        "layers_per_block": (1, 1, 1, 1, 1), "decoder_layers_per_block": (1, 1, 1, 1, 1),
    }  # fmt: skip
    vae = AutoencoderKLLTXVideo(latent_channels=4, scaling_factor=0.9, **shape)
    vae.latents_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    vae.latents_std.copy_(torch.tensor([1.5, 0.8, 1.1, 2.0]))
    transformer = LTXVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=12, cross_attention_dim=24, num_layers=2,
        caption_channels=32,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, max_image_seq_len=4096,
        shift_terminal=0.1,
    )  # fmt: skip
    parts: Any = {
        "tokenizer": tokenizer, "text_encoder": encoder, "vae": vae.eval(), "transformer": transformer, "scheduler": scheduler,
    }  # fmt: skip
    return LTXPipeline(**parts)


def hunyuan_video() -> Any:
    # The template becomes fewer tokens than the pipeline crops from its front, so that prompts are not cut off.
    template = DEFAULT_PROMPT_TEMPLATE["template"]
    words = byte_tokenizer([*PROMPTS, *[template] * 20])
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=37, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    pooled, tokenizer_2 = clip(CLIPTextModel, length=77)
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=12, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, patch_size=2, patch_size_t=1, guidance_embeds=True, text_embed_dim=32,
        pooled_projection_dim=32, rope_axes_dim=(4, 4, 4),
    )  # fmt: skip
    blocks: Any = {
        "down_block_types": ("HunyuanVideoDownBlock3D",) * 4, "up_block_types": ("HunyuanVideoUpBlock3D",) * 4,
        "block_out_channels": (8, 8, 8, 8),
    }  # fmt: skip
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        scaling_factor=0.476986,
        mid_block_add_attention=True,
        **blocks,
    )
    parts: Any = {
        "text_encoder": LlamaModel(config).eval(), "tokenizer": words, "text_encoder_2": pooled, "tokenizer_2": tokenizer_2,
        "transformer": transformer, "vae": vae.eval(), "scheduler": FlowMatchEulerDiscreteScheduler(shift=7.0),
    }  # fmt: skip
    return HunyuanVideoPipeline(**parts)


@dataclass(frozen=True)
class Small:
    """A small pipeline, and sizes of clips that it makes: not square, and of more than one number of frames."""

    build: Callable[[], Any]
    sizes: tuple[Size, ...]


def sizes(width: int, height: int, *frames: int, fps: float = 8.0) -> tuple[Size, ...]:
    return tuple(Size(width, height, count, fps) for count in frames)


VIDEO_BUILDERS: dict[str, Small] = {
    "cogvideox_2b": Small(cogvideox_2b, sizes(48, 32, 9, 17)),
    "cogvideox_5b": Small(cogvideox_5b, sizes(48, 32, 9, 17)),
    "cogvideox_1_5": Small(cogvideox_1_5, sizes(48, 32, 9, 17, fps=16.0)),
    "animatediff": Small(animatediff, sizes(24, 16, 5, 8)),
    "wan": Small(wan, sizes(48, 32, 5, 9, fps=16.0)),
    "wan_euler": Small(wan_euler, sizes(48, 32, 5, fps=16.0)),
    "wan_5b": Small(wan_5b, sizes(64, 32, 5, 9, fps=24.0)),
    "wan_a14b": Small(wan_a14b, sizes(48, 32, 5, fps=16.0)),
    "ltx": Small(ltx, sizes(96, 64, 9, 17, fps=25.0)),
    "hunyuan_video": Small(hunyuan_video, sizes(48, 32, 5, 9, fps=24.0)),
}


def build_video(name: str) -> Any:
    """The pipeline by name, the same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = VIDEO_BUILDERS[name].build()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample_clips(pipeline: Any, prompts: list[str], size: Size, guidance_scale: float = 1.0, **arguments: Any) -> Any:
    own = sampling_arguments(pipeline, guidance_scale=guidance_scale, num_prompts=len(prompts), size=size, fps=size.fps)
    arguments = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(0), **own, **arguments}
    return pipeline(prompts, **arguments).frames
