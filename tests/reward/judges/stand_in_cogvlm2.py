# type: ignore
"""Modelling code as it lies beside a checkpoint: CogVLM2's interface, on a very small transformer of our own.

Kept from CogVLM2: `build_conversation_input_ids` with its templates, the number of each frame of a clip behind it in
words, token types that send picture tokens through an expert of their own, all tokens of a picture at one position, keys
and values as tuples, a mask of two axes.
"""

import torch
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

LANGUAGE, VISION = 0, 1
TOKENS_PER_FRAME = 4


class StandInConfig(PretrainedConfig):
    model_type = "stand_in_cogvlm2"

    def __init__(self, vocab_size=600, hidden_size=32, num_layers=2, num_heads=4, pad_token_id=0, **rest):
        super().__init__(pad_token_id=pad_token_id, **rest)
        self.vocab_size, self.hidden_size, self.num_layers, self.num_heads = (
            vocab_size,
            hidden_size,
            num_layers,
            num_heads,
        )


def position_ids_of(token_type_ids):
    ids, position, inside = [], -1, False
    for kind in token_type_ids[0].tolist():
        if kind == LANGUAGE or not inside:
            position += 1
        inside = kind == VISION
        ids.append(position)
    return torch.tensor([ids])


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        size = config.hidden_size
        self.num_heads = config.num_heads
        self.norm = nn.LayerNorm(size)
        self.qkv = nn.ModuleList(nn.Linear(size, 3 * size) for _ in range(2))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size)) for _ in range(2)
        )

    def forward(self, hidden_states, token_type_ids=None, position_ids=None, attention_mask=None, past_key_value=None):
        successor = functional.pad(token_type_ids[:, 1:], (0, 1), value=LANGUAGE)
        expert = ((token_type_ids == VISION) & (successor == VISION)).unsqueeze(-1)
        normed = self.norm(hidden_states)
        turned = normed + 0.5 * torch.sin(position_ids.unsqueeze(-1) * torch.arange(1, normed.shape[-1] + 1) * 0.1)
        q, k, v = torch.where(expert, self.qkv[1](turned), self.qkv[0](turned)).chunk(3, dim=-1)
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v))
        if past_key_value is not None:
            k, v = torch.cat([past_key_value[0], k], 2), torch.cat([past_key_value[1], v], 2)
        length, total = q.shape[2], k.shape[2]
        allowed = (
            torch.ones(length, total, dtype=torch.bool).tril(total - length) & attention_mask[:, None, None].bool()
        )
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2).flatten(2)
        hidden_states = hidden_states + seen
        normed = self.norm(hidden_states)
        return hidden_states + torch.where(expert, self.mlp[1](normed), self.mlp[0](normed)), (k, v)


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.see = nn.Linear(12, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))


class StandInForCausalLM(PreTrainedModel):
    config_class = StandInConfig
    num_looks = 0

    def __init__(self, config):
        super().__init__(config)
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02 if module is self.lm_head else 0.3)

    def build_conversation_input_ids(self, tokenizer, *, query, history=None, images=None, template_version=None):
        assert history == []
        assert len(images) == 1
        template = {"chat": "Question: {} Answer:", "vqa": "Question: {} Short answer:"}[template_version]
        if isinstance(images[0], torch.Tensor):  # (C, F, H, W)
            assert images[0].dtype == torch.uint8
            frames = images[0].float().permute(1, 0, 2, 3)
        else:
            import numpy as np

            frames = torch.from_numpy(np.array(images[0])).float().permute(2, 0, 1)[None]
        frames = functional.interpolate(frames / 255, (8, 8), mode="area")
        ids, kinds = [1], [LANGUAGE]
        for number in range(len(frames)):
            ids += [0] * TOKENS_PER_FRAME
            kinds += [VISION] * TOKENS_PER_FRAME
            if template_version == "chat":  # at one frame a second, its number is its time
                time = tokenizer.encode(str(number), add_special_tokens=False)
                ids, kinds = ids + time, kinds + [LANGUAGE] * len(time)
        words = tokenizer.encode(template.format(query), add_special_tokens=False)
        ids, kinds = ids + words, kinds + [LANGUAGE] * len(words)
        return {
            "input_ids": torch.tensor(ids), "token_type_ids": torch.tensor(kinds),
            "attention_mask": torch.ones(len(ids), dtype=torch.long), "images": [frames],
        }  # fmt: skip

    def forward(
        self,
        input_ids=None,
        images=None,
        token_type_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        use_cache=None,
        **_,
    ):
        hidden = self.model.embed_tokens(input_ids)
        if images is not None and past_key_values is None:
            StandInForCausalLM.num_looks += 1
            patches = images[0][0].unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2))  # (F, C, 2, 2)
            tokens = patches.repeat(1, 4, 1, 1)[:, :12].flatten(2).transpose(1, 2).reshape(-1, 12)
            hidden = hidden.masked_scatter((token_type_ids == VISION).unsqueeze(-1), self.model.see(tokens))
        if position_ids is None:
            position_ids = position_ids_of(token_type_ids)
        past = []
        for i, layer in enumerate(self.model.layers):
            hidden, kept = layer(
                hidden, token_type_ids=token_type_ids, position_ids=position_ids, attention_mask=attention_mask,
                past_key_value=past_key_values[i] if past_key_values is not None else None,
            )  # fmt: skip
            past.append(kept)
        return CausalLMOutputWithPast(
            logits=self.lm_head(hidden).float(), past_key_values=tuple(past) if use_cache else None
        )
