# pyright: reportIncompatibleMethodOverride=false, reportArgumentType=false, reportIndexIssue=false, reportOptionalSubscript=false
"""Facts about seven text-to-image models, measured on torch.device('meta') (nothing is computed, nothing downloaded).

Per model: parameters per component; multiply-accumulates (FlopCounterMode / 2) of one denoiser forward, VAE encode,
VAE decode, text encode; rank-16 LoRA size on the attention projections; bytes kept for backward of one picture.

Method notes
* Everything is bf16, batch 1, native resolution.  FlopCounterMode counts matmul, convolution and attention only
  (no norms, activations, softmax, rope).  MAC = flops / 2.
* SDPA: torch.nn.functional.scaled_dot_product_attention is replaced by the aten op which a CUDA device would pick:
  flash (no mask, head_dim <= 256), memory-efficient (mask), else explicit matmuls (the VAE's one 512-wide head;
  only used there, for flops).  So attention saves q, k, v, out, logsumexp - not the N x N matrix.
* rms_norm (torch.nn.RMSNorm) is replaced by a Function which saves (x, rstd), as the fused CUDA kernel does;
  on meta torch would fall back on a composite that keeps fp32 temporaries.
* Kept activations: torch.autograd.graph.saved_tensors_hooks; every distinct storage (untyped_storage()._cdata, all
  kept alive during the forward so that addresses are not reused) counted once, at the storage's full size; parameters
  and buffers left out.  Base weights frozen, LoRA parameters in the same bf16, train mode, no autocast.
* Checkpointing: enable_gradient_checkpointing() (torch.utils.checkpoint, use_reentrant=False); its saved inputs pass
  through the outer hook.  During backward one segment is recomputed, so the peak is kept + the largest segment; the
  largest segment is measured by the plain forward, with the checkpointing function replaced by a direct call which
  notes the bytes newly kept by it.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
import gc
import json
import sys
import time

import diffusers
import peft
import torch
import torch.nn.functional as F
import transformers
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLQwenImage,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    QwenImageTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    T5Config,
    T5EncoderModel,
)

torch.set_num_threads(1)
META, BF16, RANK = torch.device("meta"), torch.bfloat16, 16
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
ADDED = ["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]

# ------------------------------------------------------------------ configurations
CLIP_L = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
    "eos_token_id": 2,
    "bos_token_id": 0,
}
CLIP_G = {
    "vocab_size": 49408,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "max_position_embeddings": 77,
    "hidden_act": "gelu",
    "projection_dim": 1280,
    "eos_token_id": 2,
    "bos_token_id": 0,
}
T5_XXL = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_decoder_layers": 24,
    "num_heads": 64,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "dropout_rate": 0.1,
}
GEMMA2_2B = {
    "vocab_size": 256000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 8192,
}
QWEN25_VL_7B = {
    "text_config": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128000,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
    },
    "tie_word_embeddings": False,
}


def kl(latent, **kw):
    return dict(
        in_channels=3,
        out_channels=3,
        latent_channels=latent,
        block_out_channels=[128, 256, 512, 512],
        layers_per_block=2,
        norm_num_groups=32,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        **kw,
    )


KL16 = kl(16, use_quant_conv=False, use_post_quant_conv=False)
DCAE = {
    "in_channels": 3,
    "latent_channels": 32,
    "attention_head_dim": 32,
    "encoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
    "decoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
    "encoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
    "decoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
    "encoder_layers_per_block": [2, 2, 2, 3, 3, 3],
    "decoder_layers_per_block": [3] * 6,
    "encoder_qkv_multiscales": [[], [], [], [5], [5], [5]],
    "decoder_qkv_multiscales": [[], [], [], [5], [5], [5]],
    "upsample_block_type": "interpolate",
    "downsample_block_type": "Conv",
    "decoder_norm_types": "rms_norm",
    "decoder_act_fns": "silu",
}
QWEN_VAE = {
    "base_dim": 96,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
}
SD15 = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
SDXL = {
    "sample_size": 128,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280],
    "layers_per_block": 2,
    "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20],
    "transformer_layers_per_block": [1, 2, 10],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD35M = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)),
    "qk_norm": "rms_norm",
}
FLUX = {
    "patch_size": 1,
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}
SANA = {
    "sample_size": 32,
    "patch_size": 1,
    "in_channels": 32,
    "out_channels": 32,
    "num_layers": 20,
    "num_attention_heads": 70,
    "attention_head_dim": 32,
    "num_cross_attention_heads": 20,
    "cross_attention_head_dim": 112,
    "cross_attention_dim": 2240,
    "caption_channels": 2304,
    "mlp_ratio": 2.5,
    "attention_bias": False,
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
}
PIXART = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 28,
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "cross_attention_dim": 1152,
    "caption_channels": 4096,
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "num_embeds_ada_norm": 1000,
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "interpolation_scale": 2,
    "use_additional_conditions": False,
}
QWEN = {
    "patch_size": 2,
    "in_channels": 64,
    "out_channels": 16,
    "num_layers": 60,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 3584,
    "guidance_embeds": False,
    "axes_dims_rope": (16, 56, 56),
}


def z(*shape, dtype=BF16):
    return torch.zeros(*shape, dtype=dtype, device=META)


def t1():
    return z(1, dtype=torch.float32)


MODELS = {
    "SD 1.5": {
        "res": 512,
        "net": (UNet2DConditionModel, SD15),
        "vae": (AutoencoderKL, kl(4)),
        "latent": (4, 64, 64),
        "text": [("CLIP-L", CLIPTextModel, CLIPTextConfig, CLIP_L, 77)],
        "inputs": lambda: {"sample": z(1, 4, 64, 64), "timestep": t1(), "encoder_hidden_states": z(1, 77, 768)},
        "source": "UNet, VAE, CLIP-L: stored file HDRJ-One/runwayml-stable-diffusion-v1-5 {unet,vae,text_encoder}/config.json",
    },
    "SDXL base": {
        "res": 1024,
        "net": (UNet2DConditionModel, SDXL),
        "vae": (AutoencoderKL, kl(4)),
        "latent": (4, 128, 128),
        "text": [
            ("CLIP-L", CLIPTextModel, CLIPTextConfig, CLIP_L, 77),
            ("CLIP-bigG", CLIPTextModelWithProjection, CLIPTextConfig, CLIP_G, 77),
        ],
        "inputs": lambda: {
            "sample": z(1, 4, 128, 128),
            "timestep": t1(),
            "encoder_hidden_states": z(1, 77, 2048),
            "added_cond_kwargs": {"text_embeds": z(1, 1280), "time_ids": z(1, 6)},
        },
        "source": "UNet, VAE, CLIP-L, bigG: stored file PRITHIVSAKTHIUR/AI-Art-Generator-SDXL (an SDXL fine-tune's repo) "
        "{unet,vae,text_encoder,text_encoder_2}/config.json; matches memory of SDXL base",
    },
    "SD3.5-medium": {
        "res": 1024,
        "net": (SD3Transformer2DModel, SD35M),
        "vae": (AutoencoderKL, KL16),
        "latent": (16, 128, 128),
        "text": [
            ("CLIP-L", CLIPTextModelWithProjection, CLIPTextConfig, CLIP_L, 77),
            ("CLIP-bigG", CLIPTextModelWithProjection, CLIPTextConfig, CLIP_G, 77),
            ("T5-XXL", T5EncoderModel, T5Config, T5_XXL, 256),
        ],
        "inputs": lambda: {
            "hidden_states": z(1, 16, 128, 128),
            "encoder_hidden_states": z(1, 77 + 256, 4096),
            "pooled_projections": z(1, 2048),
            "timestep": t1(),
        },
        "source": "transformer, VAE: stored code by Tenstorrent ('Helper functions for Stable Diffusion 3.5 FP8', find_string "
        "ids 53246397469 and 53668838869; repo/path not named by the tool), a copy of the gated config; "
        "CLIP-L/bigG as SDXL, T5 as FLUX; 77+256 text tokens = diffusers pipeline default, from memory",
    },
    "FLUX.1-dev": {
        "res": 1024,
        "net": (FluxTransformer2DModel, FLUX),
        "vae": (AutoencoderKL, KL16),
        "latent": (16, 128, 128),
        "text": [
            ("CLIP-L", CLIPTextModel, CLIPTextConfig, CLIP_L, 77),
            ("T5-XXL", T5EncoderModel, T5Config, T5_XXL, 512),
        ],
        "inputs": lambda: {
            "hidden_states": z(1, 4096, 64),
            "encoder_hidden_states": z(1, 512, 4096),
            "pooled_projections": z(1, 768),
            "timestep": t1(),
            "guidance": t1(),
            "img_ids": z(4096, 3),
            "txt_ids": z(512, 3),
        },
        "source": "transformer, VAE, T5: stored file edkamesh/FluX-optimized {transformer,vae,text_encoder_2}/config.json "
        "(FLUX.1-schnell), guidance_embeds=True for dev per stored code (find_string ids 69575482508, 55002008985)",
    },
    "Sana 1600M": {
        "res": 1024,
        "net": (SanaTransformer2DModel, SANA),
        "vae": (AutoencoderDC, DCAE),
        "latent": (32, 32, 32),
        "text": [("Gemma-2-2B", Gemma2Model, Gemma2Config, GEMMA2_2B, 300)],
        "inputs": lambda: {
            "hidden_states": z(1, 32, 32, 32),
            "encoder_hidden_states": z(1, 300, 2304),
            "timestep": t1(),
            "encoder_attention_mask": z(1, 300),
        },
        "source": "transformer: stored file huggingface/diffusers scripts/convert_sana_to_diffusers.py + stored code with a "
        "checked copy of a 1600M config (find_string id 62850883668); that copy has qk_norm=rms_norm_across_heads "
        "(Sprint/1.5), here None as the script gives for Sana 1.0; DC-AE: same two + convert_dcae_to_diffusers.py; "
        "Gemma-2-2B: find_string id 60438243564 (= transformers' defaults)",
    },
    "PixArt-Sigma": {
        "res": 1024,
        "net": (PixArtTransformer2DModel, PIXART),
        "vae": (AutoencoderKL, kl(4)),
        "latent": (4, 128, 128),
        "text": [("T5-XXL", T5EncoderModel, T5Config, T5_XXL, 300)],
        "inputs": lambda: {
            "hidden_states": z(1, 4, 128, 128),
            "encoder_hidden_states": z(1, 300, 4096),
            "timestep": t1(),
            "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
            "encoder_attention_mask": z(1, 300),
        },
        "source": "transformer: stored file huggingface/diffusers scripts/convert_pixart_sigma_to_diffusers.py (1024 branch, no "
        "micro-conditions - that they are off for Sigma is from memory); VAE = SDXL's (same script); T5 as FLUX",
    },
    "Qwen-Image": {
        "res": 1024,
        "net": (QwenImageTransformer2DModel, QWEN),
        "vae": (AutoencoderKLQwenImage, QWEN_VAE),
        "latent": (16, 1, 128, 128),
        "text": [("Qwen2.5-VL-7B", Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLConfig, QWEN25_VL_7B, 34 + 64)],
        "inputs": lambda: {
            "hidden_states": z(1, 4096, 64),
            "encoder_hidden_states": z(1, 64, 3584),
            "timestep": t1(),
            "img_shapes": [[(1, 64, 64)]],
        },
        "source": "transformer: config quoted in stored code (find_string ids 4582033389, 69426042033); VAE: find_string id "
        "70289776401; Qwen2.5-VL-7B: find_string ids 59152360269 (text), 584246151 (vision hidden 1280); vision "
        "depth 32 / mlp 3420 / 16 heads = transformers' defaults; 34 template tokens from memory",
    },
}

# ------------------------------------------------------------------ stand-ins for the CUDA kernels
aten = torch.ops.aten
SDPA_USED = {}


def sdpa(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False, **_):
    q, k, v = query, key, value
    if enable_gqa and k.shape[-3] != q.shape[-3]:
        r = q.shape[-3] // k.shape[-3]
        k, v = k.repeat_interleave(r, -3), v.repeat_interleave(r, -3)
    if attn_mask is None and q.shape[-1] <= 256 and q.shape[-1] % 8 == 0:
        SDPA_USED["flash"] = SDPA_USED.get("flash", 0) + 1
        return aten._scaled_dot_product_flash_attention(q, k, v, 0.0, is_causal, False, scale=scale)[0]
    if attn_mask is not None and not is_causal:
        SDPA_USED["efficient"] = SDPA_USED.get("efficient", 0) + 1
        m = attn_mask.to(q.dtype).expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
        return aten._scaled_dot_product_efficient_attention(q, k, v, m, True, 0.0, False, scale=scale)[0]
    SDPA_USED["math"] = SDPA_USED.get("math", 0) + 1
    return torch.softmax(q @ k.transpose(-1, -2), -1) @ v


class FusedRMS(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        rstd = torch.empty(*x.shape[:-1], 1, dtype=torch.float32, device=x.device)
        ctx.save_for_backward(*([x, rstd] + ([w] if w is not None else [])))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx, g):
        return g, None


def rms_norm(x, shape, weight=None, eps=None):
    return FusedRMS.apply(x, weight)


F.scaled_dot_product_attention = sdpa
F.rms_norm = torch.rms_norm = rms_norm


# ------------------------------------------------------------------ measuring
def params(m):
    return sum(p.numel() for p in m.parameters())


def tmac(fn, by_op=None):
    with torch.no_grad(), FlopCounterMode(display=False) as c:
        fn()
    if by_op is not None:
        by_op.update({str(op).replace("aten.", ""): n / 2e12 for op, n in c.get_flop_counts()["Global"].items()})
    return c.get_total_flops() / 2e12


def build(cls, cfg):
    with META:
        m = cls(**cfg) if not hasattr(cfg, "to_dict") else cls(cfg)
    return m.to(BF16).requires_grad_(False)


class Kept:
    """Distinct storages kept by autograd."""

    def __init__(self, model):
        self.skip = {t.untyped_storage()._cdata for t in list(model.parameters()) + list(model.buffers())}
        self.seen, self.bytes, self.alive = set(), 0, []

    def pack(self, t):
        s = t.untyped_storage()
        if s._cdata not in self.skip and s._cdata not in self.seen:
            self.seen.add(s._cdata)
            self.bytes += s.nbytes()
            self.alive.append(s)
        return t

    def hooks(self):
        return torch.autograd.graph.saved_tensors_hooks(self.pack, lambda t: t)


def activations(model, inputs):
    model.train()
    segments = []
    kept = Kept(model)

    def plain(block, *a, **k):  # stands where checkpoint() would: no recomputation, only notes bytes
        before = kept.bytes
        out = block(*a, **k)
        segments.append(kept.bytes - before)
        return out

    model.enable_gradient_checkpointing(gradient_checkpointing_func=plain)
    with kept.hooks():
        out = model(**inputs(), return_dict=False)
    full = kept.bytes
    del out
    model.disable_gradient_checkpointing()
    kept = Kept(model)
    with kept.hooks():
        out = model(**inputs(), return_dict=False)
    assert kept.bytes == full, (kept.bytes, full)  # the marked forward and the plain forward keep the same
    del out
    model.enable_gradient_checkpointing()
    kept = Kept(model)
    with kept.hooks():
        model(**inputs(), return_dict=False)
    return {
        "full": full,
        "checkpointed": kept.bytes,
        "largest_segment": max(segments),
        "segments": len(segments),
        "checkpointed_peak": kept.bytes + max(segments),
    }


def linears(model, names):
    return [
        (n, m)
        for n, m in model.named_modules()
        if isinstance(m, torch.nn.Linear) and any(n == t or n.endswith("." + t) for t in names)
    ]


def measure(name, d):
    r = {"resolution": d["res"], "source": d["source"], "params": {}, "tmac": {}}
    net = build(*d["net"])
    r["params"]["denoiser"] = params(net)
    SDPA_USED.clear()
    r["denoiser_tmac_by_op"] = {}
    r["tmac"]["denoiser"] = tmac(lambda: net.eval()(**d["inputs"](), return_dict=False), r["denoiser_tmac_by_op"])
    r["sdpa"] = dict(SDPA_USED)
    main, added = linears(net, TARGETS), linears(net, ADDED)

    def count(ls):
        return sum(RANK * (m.in_features + m.out_features) for _, m in ls)

    r["lora16"] = {"main_layers": len(main), "main": count(main), "added_layers": len(added), "added": count(added)}

    def lora(net, targets):
        with META:
            # what diffusers' add_adapter() calls (PixArtTransformer2DModel lacks that method)
            peft.inject_adapter_in_model(
                peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets, init_lora_weights=False), net
            )
        net.to(BF16)
        return sum(p.numel() for p in net.parameters() if p.requires_grad)

    assert lora(net, TARGETS) == count(main)
    r["activations"] = activations(net, d["inputs"])
    if added:
        del net
        gc.collect()
        net = build(*d["net"])
        assert lora(net, TARGETS + ADDED) == count(main) + count(added)
        r["activations_with_added"] = activations(net, d["inputs"])
    del net
    gc.collect()
    vae = build(*d["vae"]).eval()
    r["params"]["vae"] = params(vae)
    pic = (1, 3, 1) if len(d["latent"]) == 4 else (1, 3)
    r["tmac"]["vae_encode"] = tmac(lambda: vae.encode(z(*pic, d["res"], d["res"]), return_dict=False))
    r["tmac"]["vae_decode"] = tmac(lambda: vae.decode(z(1, *d["latent"]), return_dict=False))
    for part in ("encoder", "decoder"):
        r["params"]["vae_" + part] = params(getattr(vae, part))
    del vae
    gc.collect()
    r["text"] = {}
    for label, cls, ccls, cfg, n in d["text"]:
        c = ccls(**json.loads(json.dumps(cfg)))
        c._attn_implementation = "eager"
        enc = build(cls, c).eval()
        e = {"tokens": n, "params": params(enc)}
        ids = torch.zeros(1, n, dtype=torch.long, device=META)
        run = enc
        if label.startswith("Qwen"):  # the language model alone: no vision tower, no lm_head
            run = enc.model.language_model
            e.update(
                params_text_only=params(run), params_vision=params(enc.model.visual), params_lm_head=params(enc.lm_head)
            )
        pos = (
            {"position_ids": torch.zeros(1, n, dtype=torch.long, device=META)}
            if not isinstance(enc, T5EncoderModel)
            else {}
        )
        if label.startswith("Qwen"):
            pos = {"position_ids": torch.zeros(3, 1, n, dtype=torch.long, device=META)}
        if label.startswith("Gemma"):  # a ready mask: building one needs values, which meta tensors lack
            mask = z(1, 1, n, n)
            pos["attention_mask"] = {"full_attention": mask, "sliding_attention": mask}
        cache = {} if "CLIP" in label or "T5" in label else {"use_cache": False}
        e["tmac"] = tmac(lambda: run(input_ids=ids, **pos, **cache))
        r["text"][label] = e
        del enc, run
        gc.collect()
    r["params"]["text"] = sum(e.get("params_text_only", e["params"]) for e in r["text"].values())
    r["tmac"]["text"] = sum(e["tmac"] for e in r["text"].values())
    return r


def table(models):
    def gb(b):
        return f"{b / 1e9:.2f}"

    head = [
        "model",
        "denoiser M",
        "VAE M (enc+dec)",
        "text enc. M",
        "denoiser TMAC",
        "of which attention core",
        "VAE enc TMAC",
        "VAE dec TMAC",
        "text TMAC",
        "LoRA-16 to_* M",
        "LoRA-16 add_* M",
        "kept GB",
        "kept GB, ckpt",
        "ckpt + largest segment GB",
    ]
    rows = [head, ["---"] * len(head)]
    for n, r in models.items():
        p, t, a, l = r["params"], r["tmac"], r["activations"], r["lora16"]
        core = sum(v for k, v in r["denoiser_tmac_by_op"].items() if "attention" in k or k == "bmm")
        rows.append(
            [
                f"{n} ({r['resolution']})",
                f"{p['denoiser'] / 1e6:,.1f}",
                f"{p['vae'] / 1e6:.1f} ({p['vae_encoder'] / 1e6:.1f}+{p['vae_decoder'] / 1e6:.1f})",
                " + ".join(f"{k} {e.get('params_text_only', e['params']) / 1e6:,.1f}" for k, e in r["text"].items()),
                f"{t['denoiser']:.3f}",
                f"{core:.3f}",
                f"{t['vae_encode']:.3f}",
                f"{t['vae_decode']:.3f}",
                f"{t['text']:.4f}",
                f"{l['main'] / 1e6:.3f} ({l['main_layers']})",
                f"{l['added'] / 1e6:.3f} ({l['added_layers']})",
                gb(a["full"]),
                gb(a["checkpointed"]),
                gb(a["checkpointed_peak"]),
            ]
        )
    return "\n".join("| " + " | ".join(r) + " |" for r in rows)


def main():
    only = sys.argv[1:]
    path = "model_sizes.json"  # in the working directory
    out = {
        "versions": {
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "peft": peft.__version__,
            "transformers": transformers.__version__,
        },
        "method": __doc__,
        "models": {},
    }
    if only and os.path.exists(path):
        out = json.load(open(path))
    for name, d in MODELS.items():
        if only and name not in only:
            continue
        t = time.time()
        out["models"][name] = r = measure(name, d)
        print(
            f"== {name} ({time.time() - t:.0f} s)",
            json.dumps({k: v for k, v in r.items() if k != "source"}, indent=None),
            flush=True,
        )
        json.dump(out, open(path, "w"), indent=1)
    print(table(out["models"]))


if __name__ == "__main__":
    main()
