"""What HPSv3 and VideoReward share: a Qwen2-VL, and a head that reads the states of special tokens in the words.

Both published classes call the language model without positions of its own kind, so that each token, picture or word,
has the next number on all three axes. They were trained so; positions as Qwen2-VL numbers pictures would be wrong.
N items, T special tokens, L tokens, D features, K numbers a token.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoConfig, AutoProcessor, AutoTokenizer, Qwen2VLConfig, Qwen2VLModel

from reward.judges.processing import chat_text, input_names, processor_tensors
from reward.judges.scorers.published import fill, from_weights, renamed
from reward.media import Media

# Published names, older and newer, and today's. The head that writes words is not needed.
PREFIXES = {
    "model.language_model.": "language_model.",
    "model.visual.": "visual.",
    "model.": "language_model.",
    "lm_head.": None,
}
EMBEDDING = "language_model.embed_tokens.weight"


class RewardModel(torch.nn.Module):
    """A Qwen2-VL without its language head, and a head in float32."""

    def __init__(self, backbone: Qwen2VLModel, head: torch.nn.Module):
        super().__init__()
        self.backbone: Any = backbone
        self.head = head.float()

    @property
    def config(self) -> Qwen2VLConfig:
        return self.backbone.config

    @property
    def dtype(self) -> torch.dtype:
        return self.backbone.dtype

    def forward(self, inputs: Mapping[str, Tensor], token_ids: Sequence[int]) -> Float[Tensor, "N T K"]:
        """The head's numbers at each special token, which must be once in each row. Padding may be on either side."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        order = (mask.long().cumsum(-1) - 1).clamp(min=0)  # of the tokens that are no padding
        states = self.backbone(**inputs, position_ids=order.expand(3, *order.shape), use_cache=False).last_hidden_state
        places = torch.stack([(ids == token).float().argmax(-1) for token in token_ids], dim=1)
        at = states.gather(1, places.to(states.device)[..., None].expand(-1, -1, states.shape[-1]))
        return self.head(at.float().to(next(self.head.parameters()).device))


def load(
    weights: Mapping[str, Tensor], head: Any, *, processor: str, tokens: Sequence[str], **options: Any
) -> tuple[RewardModel, Any]:
    """(network, processor) from published weights. head: from the number of features to the network's head.

    options: of from_pretrained. Raises what loading raises, and ValueError if the weights do not fit.
    """
    eyes = AutoProcessor.from_pretrained(processor)
    eyes.tokenizer.add_tokens(list(tokens), special_tokens=True)
    named = renamed(weights, PREFIXES)
    of_head = {name.removeprefix("rm_head."): named.pop(name) for name in list(named) if name.startswith("rm_head.")}
    if EMBEDDING not in named:
        raise ValueError("it holds no Qwen2-VL")
    config = _config(processor)
    config.text_config.vocab_size = len(named[EMBEDDING])  # the published vocabulary ends with the special tokens
    if len(named[EMBEDDING]) < len(eyes.tokenizer):
        raise ValueError(f"it has {len(named[EMBEDDING])} words, but its processor {len(eyes.tokenizer)}")
    backbone = from_weights(Qwen2VLModel, config, named, **options)
    top = head(config.text_config.hidden_size)
    fill(top, of_head)
    return RewardModel(backbone, top.to(backbone.device)).eval(), eyes


def build_without_weights(processor: str, head: Any, tokens: Sequence[str]) -> RewardModel:
    """The network on the device in force, with the vocabulary that the special tokens make."""
    tokenizer = AutoTokenizer.from_pretrained(processor)
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    config = _config(processor)
    config.text_config.vocab_size = len(tokenizer)
    return RewardModel(Qwen2VLModel._from_config(config), head(config.text_config.hidden_size))


def _config(processor: str) -> Any:
    config = AutoConfig.from_pretrained(processor)
    if not isinstance(config, Qwen2VLConfig):
        raise ValueError(f"processor={processor!r} is a {config.model_type}, but this scorer is a Qwen2-VL")
    return config


def inputs_of(model: RewardModel, processor: Any, media: Sequence[Media], words: Sequence[str]) -> dict[str, Tensor]:
    """The network's inputs for items that have their final size, and the user's words about each."""
    texts = [chat_text(processor, item, each) for item, each in zip(media, words, strict=True)]
    names = input_names(model.backbone)
    device, dtype = model.backbone.device, model.dtype
    return {
        name: value.to(device, dtype if value.is_floating_point() else None)
        for name, value in processor_tensors(processor, media, texts, do_resize=False).items()
        if name in names
    }
