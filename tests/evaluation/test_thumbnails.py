"""Thumbnails of pictures of all kinds."""

import io

import numpy as np
import pytest
from PIL import Image

from tfpt.evaluation.thumbnails import thumbnail


def encoded(picture, form, **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def opened(content):
    picture = Image.open(io.BytesIO(content))
    assert picture.format == "JPEG" and picture.mode == "RGB"
    return picture


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_fits_the_side_and_keeps_the_aspect(form):
    picture = opened(thumbnail(encoded(Image.new("RGB", (300, 200), "red"), form), side=96))
    assert picture.size == (96, 64)
    red, green, blue = picture.getpixel((40, 30))
    assert red > 230 and green < 30 and blue < 30


def test_a_small_picture_keeps_its_size():
    assert opened(thumbnail(encoded(Image.new("L", (8, 8), 200), "PNG"))).size == (8, 8)


def test_exif_orientation_is_applied_and_metadata_dropped():
    picture = Image.new("RGB", (64, 32), "blue")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right: the file's left edge is the picture's top
    exif[0x010E] = "a secret"
    picture.paste("red", (0, 0, 16, 32))
    small = thumbnail(encoded(picture, "JPEG", exif=exif, quality=95))
    assert b"a secret" not in small
    turned = opened(small)
    assert turned.size == (32, 64)
    assert turned.getpixel((16, 4))[0] > 200 and turned.getpixel((16, 60))[2] > 200


def test_transparent_is_white():
    assert min(opened(thumbnail(encoded(Image.new("RGBA", (9, 9), (0, 0, 0, 0)), "PNG"))).getpixel((4, 4))) > 250
    palette = Image.new("P", (9, 9), 0)
    palette.putpalette([0, 0, 0] * 256)
    assert min(opened(thumbnail(encoded(palette, "PNG", transparency=0))).getpixel((4, 4))) > 250


def test_sixteen_bits_become_eight():
    grey = Image.fromarray(np.full((9, 9), 128 * 256, np.uint16))
    assert abs(opened(thumbnail(encoded(grey, "PNG"))).getpixel((4, 4))[0] - 128) <= 2


def test_cmyk():
    assert max(opened(thumbnail(encoded(Image.new("CMYK", (40, 40), (0, 0, 0, 255)), "JPEG"))).getpixel((4, 4))) < 40


@pytest.mark.parametrize("content", [b"", b"not a picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_what_is_no_picture_gives_none(content):
    assert thumbnail(content) is None


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_truncated_picture_gives_none(form):
    content = encoded(Image.fromarray(np.random.default_rng(0).integers(256, size=(90, 90, 3), dtype=np.uint8)), form)
    assert thumbnail(content) is not None
    assert thumbnail(content[: len(content) // 2]) is None
