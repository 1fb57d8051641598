"""From an uploaded file to the array that a network takes."""

from __future__ import annotations

from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from examples.image_form.model import MEAN, SIZE, STD

__all__ = ["FORMATS", "MAX_PIXELS", "NotAPictureError", "PictureError", "array_of"]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS = 50_000_000
"""What a small file may claim to be, and then fill the memory with."""


class PictureError(ValueError):
    """The file is a picture, but it cannot be read; the message says why."""


class NotAPictureError(ValueError):
    """The file is no picture of a format that is taken."""


def array_of(file: IO[bytes]) -> NDArray[np.float32]:
    """Decode a picture, turn it upright, scale it to the network's size and normalize its pixels.

    Parameters
    ----------
    file : binary file
        JPEG, PNG, WebP or GIF. The name and the type that the client gave it do not matter.

    Returns
    -------
    numpy.ndarray
        float32 of shape (1, 3, 64, 64).

    Raises
    ------
    NotAPictureError, PictureError
    """
    try:
        picture: Any = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise PictureError(f"Expected at most {MAX_PIXELS:,} pixels") from error
    except (OSError, ValueError) as error:
        raise NotAPictureError(f"Expected a picture ({', '.join(FORMATS)})") from error
    if picture.width * picture.height > MAX_PIXELS:
        raise PictureError(
            f"Expected at most {MAX_PIXELS:,} pixels, got {picture.width} x {picture.height}"
        )
    try:
        picture.draft("RGB", (2 * SIZE, 2 * SIZE))  # a JPEG is decoded at a smaller scale: faster
        picture = ImageOps.exif_transpose(picture).convert("RGB")
        picture = picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError) as error:
        raise PictureError(f"The picture is damaged: {error}") from error
    pixels = np.asarray(picture, np.float32) / 255
    return np.ascontiguousarray(((pixels - MEAN) / STD).transpose(2, 0, 1)[None])
