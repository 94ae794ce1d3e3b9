"""What trades memory for time and back: gradient checkpointing, attention kernels, compilation."""

from typing import Any

from diffusers.models.attention_processor import Attention

from mpo import MpoError
from mpo.recipe import Train

REPLACEABLE = {"AttnProcessor", "AttnProcessor2_0", "JointAttnProcessor2_0"}  # which diffusers has with xformers, too


def check_attention(denoiser: Any, settings: Train) -> None:
    """Raises MpoError where xformers would take the place of another kind of attention than its own."""
    if settings.attention != "xformers":
        return
    processors = {type(m.processor).__name__ for m in denoiser.modules() if isinstance(m, Attention)}
    if not processors <= REPLACEABLE:  # diffusers would put plain attention in the place of any other
        raise MpoError(
            f"train.attention='xformers' cannot take the place of this model's {', '.join(sorted(processors - REPLACEABLE))}; use 'sdpa'"
        )


def set_up_acceleration(denoiser: Any, settings: Train) -> None:
    """As the recipe says, in place. Raises MpoError for what is not there."""
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
        if getattr(denoiser, "_repeated_blocks", None):  # one small graph for all blocks: compiles in a fraction
            denoiser.compile_repeated_blocks()
        else:
            denoiser.compile()
