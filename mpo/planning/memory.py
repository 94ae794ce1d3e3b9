"""What a model takes on one GPU: weights in the recipe's precision and bits, activations, optimizer; whole or offloaded.

Nothing is measured: the figures follow from what mpo/models/costs.py counts. GB are 10^9 bytes.
"""

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Any

from mpo.models.costs import autoencoder_gb, ratios_of
from mpo.recipe import Recipe
from mpo.sizes import Size
from mpo.stages.encode import BATCH, BATCH_PIXELS
from reward.settings import read_yaml

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# bitsandbytes: 4 bits have an 8-bit scale for 64 weights, and a float32 one for 256 of these.
QUANTIZED_BYTES = {"8bit": 1.0, "4bit": 0.5 + 1 / 64 + 4 / (64 * 256)}
RESERVE_GB = 1.5  # CUDA's context and kernels' workspace
# Gradients of activations that exist at once in a backward, times what a forward's results hold at once: an activation
# function's two widest tensors, of the four that a forward has there. benchmarks/step_memory.py measures it.
GRADIENTS = 0.5
NETWORKS = ("denoiser", "others", "vae", "text_encoders")


@lru_cache(maxsize=1)
def model_costs() -> dict[str, dict[str, Any]]:
    """The table of published "models" and "judges", by hub id."""
    return read_yaml(resources.files("mpo").joinpath("model_costs.yaml").read_text("utf-8"))


class Memory:
    """Of a recipe on a model. known: an entry as in model_costs.yaml, with the recipe's own LoRA. largest: the largest size."""

    def __init__(self, recipe: Recipe, known: Mapping[str, Any], largest: Size):
        self.recipe, self.known, self.largest = recipe, known, largest
        self.bytes = BYTES[recipe.model.dtype]
        self.is_offloaded = recipe.model.offload is not None

    # Weights.

    def weights(self, *names: str) -> float:
        """GB of the named networks, all of them at once."""
        return sum(self._network(name) for name in names)

    def _network(self, name: str) -> float:
        millions = self.known["parameters"][name]
        if name == "vae":
            return millions * (4 if self.known["float32_vae"] else self.bytes) / 1e3
        bits = self.recipe.model.quantization
        how = bits.text_encoders if name == "text_encoders" else bits.denoiser
        few = self.known["quantizable"][name][how] if how else 0.0
        return (few * QUANTIZED_BYTES.get(str(how), 0.0) + (millions - few) * self.bytes) / 1e3

    def _denoiser(self) -> float:
        """What is held of the network that is tuned while it runs."""
        if self.recipe.model.offload != "blocks":
            return self._network("denoiser")
        blocks = self.known["blocks"]
        return (self.known["parameters"]["denoiser"] - blocks["all"] + blocks["largest"]) * self.bytes / 1e3

    def block_transfers(self) -> float:
        """GB that a forward, or a block's recomputation in all blocks, brings to the GPU."""
        return self.known["blocks"]["all"] * self.bytes / 1e3 if self.recipe.model.offload == "blocks" else 0.0

    def _text_encoder(self) -> float:
        """The largest, of which there is one at a time if they are offloaded."""
        total = self.known["parameters"]["text_encoders"]
        return self._network("text_encoders") * (self.known["largest_text_encoder"] / total if total else 0.0)

    # Activations.

    def _activations(self, name: str) -> float:
        """GB for one picture or clip of the largest size; counted in bfloat16."""
        area, frames = ratios_of(self.known, self.largest)
        return self.known["activations_gb"][name] * (1.0 if name == "text" else area * frames) * self.bytes / 2

    def _autoencoder(self, direction: str) -> float:
        """GB for one picture or clip of the largest size."""
        wide = 1.0 if self.known["float32_vae"] else self.bytes / 2
        return wide * autoencoder_gb(self.known, direction, self.largest, tiled=self.recipe.model.vae_tiling)

    def forwards(self, guidance: float) -> int:
        """Of one step of sampling: guidance takes a second one, unless it is distilled."""
        return 1 if guidance <= 1 or self.known["distilled_guidance"] else 2

    # Stages, each without the reserve.

    def sampling(self, settings: Any) -> float:
        """A batch in the denoiser, with guidance twice, or in the autoencoder, beside the weights that are held then."""
        denoising = settings.batch_size * self.forwards(settings.guidance_scale) * self._activations("sampling")
        decoding = settings.batch_size * self._autoencoder("decode")
        if not self.is_offloaded:
            return self.weights(*NETWORKS) + max(denoising, decoding)
        adapter = self._network("others") if self.known["attends_over"] == "frame" else 0.0  # beside, not instead
        return max(self._text_encoder(), self._denoiser() + adapter + denoising, self._network("vae") + decoding)

    def encoding(self) -> float:
        """A batch of pictures or clips in the autoencoder, or of prompts in the text encoders."""
        batch = max(1, min(BATCH, BATCH_PIXELS // self.largest.num_pixels))
        media, text = batch * self._autoencoder("encode"), BATCH * self._activations("text")
        if not self.is_offloaded:
            return self.weights("vae", "text_encoders") + max(media, text)
        return max(self._network("vae") + media, self._text_encoder() + text)

    @property
    def moments(self) -> int:
        """The optimizer's bytes a parameter of the LoRA."""
        return 2 if self.recipe.train.optimizer == "AdamW8bit" else 8

    def trained(self) -> float:
        """The LoRA: its weights, gradients, the optimizer's moments and the running mean."""
        mean = 4 if self.recipe.train.ema_decay else 0
        return self.known["trained_millions"] * (4 + 4 + self.moments + mean) / 1e3

    def step(self) -> float:
        """A training step's own peak. Text encoders, and networks that sampling alone needs, are not loaded unless validation samples."""
        t = self.recipe.train
        kept = self._activations("checkpointed" if t.gradient_checkpointing else "plain")
        kept += GRADIENTS * self._activations("sampling")
        if t.mixed_precision != "no":
            kept *= 2 / self.bytes
        if self.is_offloaded:
            held = self._denoiser()
        else:
            held = self.weights(*NETWORKS) if self.recipe.validation else self.weights("denoiser", "vae")
        return held + self.trained() + 2 * (t.micro_batch_size or t.batch_size) * kept

    def validation(self, judge_gb: float | None) -> dict[str, float]:
        """Peaks of a validation, by when they are."""
        v = self.recipe.validation
        if v is None:
            return {}
        beside = self.trained() + (0.0 if self.is_offloaded else self.weights(*NETWORKS))
        return {
            "when the judge validates": beside + (judge_gb or 0),
            "when validation samples": self.trained() + self.sampling(v),
        }
