"""Reading pictures: every way in ends as an RGB `PIL.Image` whose pixels have been decoded."""

from pathlib import Path

from PIL import Image

from reward.errors import MediaError

ImageLike = Image.Image | str | Path


def read_image(source: ImageLike) -> Image.Image:
    """An RGB picture, fully decoded, from a file or a PIL image.

    Raises MediaError for a missing, truncated, unreadable or empty picture, naming it.
    """
    name = f"picture {str(source)!r}" if isinstance(source, (str, Path)) else "picture given as a PIL image"
    try:
        if isinstance(source, Image.Image):
            image = source.convert("RGB")
        else:
            with Image.open(source) as opened:
                image = opened.convert("RGB")
    except FileNotFoundError as error:
        raise MediaError(f"{name} does not exist; check the path") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MediaError(f"{name} cannot be decoded ({error}); replace it") from error
    if 0 in image.size:
        raise MediaError(f"{name} has a side of zero pixels ({image.width}x{image.height}); replace it")
    return image
