"""Memory against time: gradient checkpointing, attention kernels, compilation."""

from typing import Any

from diffusers.models.attention_processor import Attention

from mpo import MpoError
from mpo.recipe import Train

REPLACEABLE = {
    "AttnProcessor",
    "AttnProcessor2_0",
    "JointAttnProcessor2_0",
}  # diffusers has an xformers version of each


def check_attention(denoiser: Any, settings: Train) -> None:
    """Raises MpoError if diffusers has no xformers version of this model's attention."""
    if settings.attention != "xformers":
        return
    processors = {type(m.processor).__name__ for m in denoiser.modules() if isinstance(m, Attention)}
    if not processors <= REPLACEABLE:  # diffusers would silently replace any other with plain attention
        raise MpoError(
            f"train.attention='xformers' cannot replace this model's {', '.join(sorted(processors - REPLACEABLE))}; use 'sdpa'"
        )


def set_up_acceleration(denoiser: Any, settings: Train) -> None:
    """Apply the recipe's settings to the denoiser, in place. Raises MpoError if xformers cannot be used here."""
    if settings.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    check_attention(denoiser, settings)
    if settings.attention == "xformers":
        try:
            denoiser.enable_xformers_memory_efficient_attention()
        except (ImportError, ModuleNotFoundError, ValueError, NotImplementedError) as error:
            raise MpoError(
                f"train.attention='xformers' cannot be used here ({' '.join(str(error).split())}); pip install 'mpo[gpu]' on a machine with a GPU, or use 'sdpa'"
            ) from error
    if settings.compile:
        compile_network(denoiser)


def compile_network(denoiser: Any) -> None:
    """torch.compile, in place: block by block if the network names its blocks, else whole."""
    if getattr(denoiser, "_repeated_blocks", None):  # one small graph serves all blocks: compiles several times faster
        denoiser.compile_repeated_blocks()
    else:
        denoiser.compile()
