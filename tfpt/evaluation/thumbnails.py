"""Small pictures for the report."""

import io
import warnings

import numpy as np

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
"""What tfpt reads; Pillow knows formats that start other programs."""


def thumbnail(encoded: bytes, side: int = 128) -> bytes | None:
    """Returns a picture as a small JPEG, turned as its EXIF orientation says, on white where it is transparent.

    Args:
        encoded: the file's content.
        side: the longer side, in pixels; smaller pictures keep their size.

    Returns:
        JPEG bytes without metadata, or None where the picture cannot be decoded.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(encoded), formats=FORMATS) as picture:
            picture.draft("RGB", (2 * side, 2 * side))
            turned = ImageOps.exif_transpose(picture)
            if turned.mode.startswith("I;16"):
                # A camera of 12 bits leaves the upper four empty: by the upper byte alone its pictures would be black.
                unused = max(0, int(np.asarray(turned).max()).bit_length() - 8)
                turned = turned.convert("I").point([min(255, value >> unused) for value in range(65536)], "L")
            if turned.has_transparency_data:
                turned = turned.convert("RGBA")
                turned = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned)
            small = turned.convert("RGB")
    except Exception:  # Pillow's readers raise many kinds of errors, and a report must not fail because of a picture.
        return None
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80, optimize=True)
    return file.getvalue()
