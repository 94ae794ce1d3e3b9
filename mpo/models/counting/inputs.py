"""What goes into the networks on the meta device, and what comes out."""

from typing import Any

import torch
from torch import Tensor

from mpo.models.counting.parts import Parts
from mpo.sizes import Size

# Tokens of a prompt by pipeline: (for T5, Gemma, Qwen, GLM or Llama, cut at the pipeline's default; kept as conditions).
# Qwen-Image does not pad prompts: 64 tokens here, and its template adds 34 that are dropped afterwards. HunyuanVideo's
# template has 95. Z-Image pads them for the language model alone. CogView 4 pads to multiples of 16: 64 here, too.
TOKENS = {
    "StableDiffusion3Pipeline": (256, 256), "FluxPipeline": (512, 512), "SanaPipeline": (300, 300),
    "PixArtSigmaPipeline": (300, 300), "QwenImagePipeline": (98, 64), "QwenImage21Pipeline": (78, 64),
    "CogVideoXPipeline": (226, 226),
    "WanPipeline": (512, 512), "LTXPipeline": (128, 128), "HunyuanVideoPipeline": (351, 256),
    "ZImagePipeline": (512, 64), "Flux2Pipeline": (512, 512), "Flux2KleinPipeline": (512, 512),
    "ChromaPipeline": (512, 512), "Lumina2Pipeline": (256, 256), "CogView4Pipeline": (64, 64),
    "HiDreamImagePipeline": (128, 128),
}  # fmt: skip
FRAMES_AT_A_TIME = 16  # through an autoencoder of pictures: the families' and the pipelines' own number


def zeros(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.zeros(*shape, dtype=dtype, device="meta")


@torch.no_grad()
def encoded(parts: Parts, pipeline: Any, size: Size) -> Tensor:
    """Latents of one picture or clip, by the family's own function."""
    frames = () if size.frames is None else (size.frames,)
    pixels = zeros(1, *frames, 3, size.height, size.width, dtype=torch.float32)
    return parts.family.encode_media(pipeline, pixels).to(torch.bfloat16)


def latent_axes(vae: Any, latents: Tensor) -> Tensor:
    """Latents of one picture or clip as the families have them -> as the autoencoder takes them."""
    channels = getattr(vae.config, "latent_channels", None) or vae.config.z_dim
    if latents.ndim == 4 and latents.shape[1] == 4 * channels:  # FLUX.2's: in patches
        return torch.nn.functional.pixel_shuffle(latents, 2)
    of_clips = any(isinstance(layer, torch.nn.Conv3d) for layer in vae.modules()) or "temperal_downsample" in vae.config
    if not of_clips:  # frames are a batch
        return latents if latents.ndim == 4 else latents[0].movedim(1, 0)
    if latents.ndim == 4:  # a picture by an autoencoder of clips
        return latents.unsqueeze(2)
    return latents if latents.shape[1] == channels else latents.movedim(2, 1)


def decode_latents(vae: Any, latents: Tensor) -> None:
    whole = latent_axes(vae, latents).to(vae.dtype)
    for chunk in whole.split(FRAMES_AT_A_TIME):
        if getattr(vae.config, "timestep_conditioning", False):
            vae.decode(chunk, zeros(1))
        else:
            vae.decode(chunk)


def frames_a_latent(parts: Parts, size: Size, latents: Tensor) -> float:
    """Frames that become one of the latents, after the first; 1 for pictures."""
    if size.frames is None:
        return 1.0
    shape = latent_axes(parts.vae, latents).shape
    num_latents = shape[0] if len(shape) == 4 else shape[2]
    return (size.frames - 1) / max(1, num_latents - 1)


def conditioning_shapes(parts: Parts) -> dict[str, tuple[int, ...]]:
    """Shapes of one prompt's conditioning, as the denoiser takes it, without masks."""
    configs = [encoder.config for encoder in parts.text_encoders]
    kept = TOKENS.get(parts.pipeline_class, (0, 0))[1]
    network = parts.denoiser.config
    match parts.pipeline_class:
        case "StableDiffusionPipeline" | "AnimateDiffPipeline":
            return {"encoder_hidden_states": (configs[0].max_position_embeddings, configs[0].hidden_size)}
        case "StableDiffusionXLPipeline":
            width = sum(config.hidden_size for config in configs)
            return {
                "encoder_hidden_states": (configs[0].max_position_embeddings, width),
                "text_embeds": (configs[-1].projection_dim,),
            }
        case "StableDiffusion3Pipeline":
            return {
                "encoder_hidden_states": (configs[0].max_position_embeddings + kept, network.joint_attention_dim),
                "pooled_projections": (network.pooled_projection_dim,),
            }
        case "FluxPipeline":
            return {
                "encoder_hidden_states": (kept, network.joint_attention_dim),
                "pooled_projections": (network.pooled_projection_dim,),
            }
        case "HunyuanVideoPipeline":
            return {
                "encoder_hidden_states": (kept, network.text_embed_dim),
                "pooled_projections": (network.pooled_projection_dim,),
            }
        case "HiDreamImagePipeline":
            t5, llama = network.caption_channels
            return {
                "encoder_hidden_states_t5": (kept, t5),
                "encoder_hidden_states_llama3": (configs[-1].num_hidden_layers, kept, llama),
                "pooled_embeds": (network.text_emb_dim,),
            }
        case "QwenImagePipeline" | "ChromaPipeline" | "Flux2Pipeline" | "Flux2KleinPipeline":
            return {"encoder_hidden_states": (kept, network.joint_attention_dim)}
        case "QwenImage21Pipeline":
            return {"encoder_hidden_states": (kept, network.context_in_dim)}
        case _:
            names = ("caption_channels", "text_embed_dim", "text_dim", "cap_feat_dim")
            width = next(getattr(network, name) for name in names if hasattr(network, name))
            return {"encoder_hidden_states": (kept, width)}


def predict(parts: Parts, pipeline: Any, latents: Tensor) -> Tensor:
    """One forward of the denoiser, by the family's own function."""
    shapes = conditioning_shapes(parts)
    conditioning = {name: zeros(1, *shape) for name, shape in shapes.items()}
    num_tokens = next(iter(shapes.values()))[0]
    conditioning |= {
        "encoder_attention_mask": zeros(1, num_tokens),
        "encoder_hidden_states_mask": torch.ones(1, num_tokens),  # asked for its values: not on the meta device
        "guidance": zeros(1, dtype=torch.float32),
        "fps": zeros(1, dtype=torch.float32),
    }
    if parts.pipeline_class == "Lumina2Pipeline":  # asked for its values, too
        conditioning["encoder_attention_mask"] = torch.ones(1, num_tokens, dtype=torch.long)
    if not getattr(parts.denoiser.config, "guidance_embeds", False):
        del conditioning["guidance"]
    return parts.family.predict(pipeline, latents, zeros(1, dtype=torch.float32), conditioning)


def run_text_encoder(encoder: Any, parts: Parts) -> None:
    """Run one prompt through it; in a vision-language model, through the language model alone."""
    kind = type(encoder).__name__
    tokens = encoder.config.max_position_embeddings if "CLIP" in kind else TOKENS[parts.pipeline_class][0]
    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    match kind:
        case "T5EncoderModel" | "UMT5EncoderModel":
            encoder(input_ids=ids)
        case "Gemma2Model":  # a finished mask: making one needs values
            mask = zeros(1, 1, tokens, tokens)
            masks = {"full_attention": mask, "sliding_attention": mask}
            encoder(input_ids=ids, position_ids=ids, attention_mask=masks, use_cache=False)
        case (
            "LlamaModel" | "LlamaForCausalLM" | "GlmModel" | "GlmForCausalLM" | "Qwen3Model" | "Qwen3ForCausalLM"
            | "Mistral3ForConditionalGeneration"
        ):  # fmt: skip
            mask = zeros(1, 1, tokens, tokens)
            encoder(input_ids=ids, position_ids=ids, attention_mask=mask, use_cache=False)
        case "Qwen2_5_VLForConditionalGeneration":
            encoder.model.language_model(input_ids=ids, position_ids=ids.expand(3, 1, tokens), use_cache=False)
        case _:
            encoder(input_ids=ids, position_ids=ids)
