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
from mpo.models.costs import encoded, kernels_of_a_gpu, own_size, peak_bytes
from mpo.models.loading import tile_autoencoder

FRAMES = (17, 49, 81)


def measure(name: str) -> None:
    """One model's rows."""
    parts = parts_of(configs()[name])
    if parts.size_rule.kind != "video":
        raise SystemExit(f"{name} makes pictures; this is about clips")
    if "vae" in getattr(parts.family, "FLOAT32_PARTS", ()):
        torch.nn.Module.to(parts.vae, torch.float32)
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
    clips = [name for name, spec in configs().items() if parts_of(spec).size_rule.kind == "video"]
    print(f"| model | size | autoencoder | {' | '.join(f'{n} frames, GiB' for n in FRAMES)} |")
    print("|---|---|---|" + "---|" * len(FRAMES))
    for name in parser.parse_args().models or clips:
        measure(name)


if __name__ == "__main__":
    main()
