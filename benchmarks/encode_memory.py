"""What the autoencoders of clips hold while stage encode works, whole and in tiles, over the number of frames.

    python -m benchmarks.encode_memory                         # all models of clips; minutes, no weights
    python -m benchmarks.encode_memory zai-org/CogVideoX-2b

Counted on the published classes in full size, on the meta device, by the family's own `encode_media`: the most bytes that
results of operators hold at once, less the clip itself, which no tiling avoids (in float32, and in the autoencoder's precision).
"""

import argparse
from dataclasses import replace

import torch

from benchmarks.model_sizes import configs, parts_of
from mpo.models.counting.gpu_kernels import kernels_of_a_gpu
from mpo.models.counting.inputs import encoded
from mpo.models.counting.measuring import peak_bytes
from mpo.models.counting.parts import Parts, in_own_precision, own_size
from mpo.models.loading import tile_autoencoder

FRAMES = (17, 49, 81)


def measure(name: str, parts: Parts) -> None:
    """One model's rows."""
    in_own_precision(parts)
    pipeline, own = parts.pipeline(), own_size(parts)
    vae = parts.vae.eval()
    for mode in ("whole", "tiles"):
        if mode == "tiles":
            tile_autoencoder(vae)
        cells = []
        for frames in FRAMES:
            size = parts.size_rule.nearest(replace(own, frames=frames))
            with kernels_of_a_gpu():
                peak = peak_bytes(lambda size=size: encoded(parts, pipeline, size))
            clip = 3 * size.width * size.height * frames * (torch.float32.itemsize + vae.dtype.itemsize)
            cells.append(f"{(peak - clip) / 2**30:.2f}")
        print(f"| {name} | {own.width}x{own.height} | {mode} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="hub ids; default: all that make clips")
    names, known = parser.parse_args().models, configs()
    print(f"| model | size | autoencoder | {' | '.join(f'{n} frames, GiB' for n in FRAMES)} |")
    print("|---|---|---|" + "---|" * len(FRAMES))
    for name in names or known:
        parts = parts_of(known[name])
        if parts.size_rule.kind == "video":
            measure(name, parts)
        elif names:
            raise SystemExit(f"{name} makes pictures; this is about clips")


if __name__ == "__main__":
    main()
