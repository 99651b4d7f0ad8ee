"""Sizes read from headers are those that the decoders make; bombs are seen before they are decoded."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tfpt.server.picture_size import UnreadablePictureError, pixels


def encode(form, size=(31, 17), **options):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)).save(file, form, **options)
    return file.getvalue()


def moving(form, count, size=(31, 17)):
    frames = [Image.new("RGB", size, (40 * k, 90, 0)) for k in range(count)]
    file = io.BytesIO()
    frames[0].save(file, form, save_all=True, append_images=frames[1:])
    return file.getvalue()


def png_head(width, height):
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def with_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode("JPEG", exif=exif, progressive=True, comment=b"\xff\xd9\xff\xc0 not a frame")


@pytest.mark.parametrize(
    "encoded",
    [
        encode("JPEG"), with_exif(), encode("PNG"), encode("GIF"), encode("BMP"), encode("WEBP"),
        encode("WEBP", lossless=True), encode("JPEG")[:2] + b"\xff" * 9 + encode("JPEG")[3:],
    ],
)  # fmt: skip
def test_sizes_equal_those_of_the_decoder(encoded):
    import tensorflow as tf

    decode = tf.io.decode_webp if encoded.startswith(b"RIFF") else tf.io.decode_image
    assert pixels(encoded) == 31 * 17 == np.prod(decode(encoded).shape[-3:-1])


@pytest.mark.parametrize("form", ["GIF", "WEBP"])
def test_all_frames_of_a_moving_picture_count(form):
    assert pixels(moving(form, 5)) == 5 * 31 * 17


def test_headers_that_ask_for_all_the_memory():
    jpeg = bytearray(encode("JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    bmp = bytearray(encode("BMP"))
    bmp[18:26] = struct.pack("<ii", 100_000, -100_000)
    gif = bytearray(encode("GIF"))
    gif[6:10] = b"\x01\x00\x01\x00"  # a screen of one pixel,
    at = gif.index(b",", 13 + 3 * 256)
    gif[at + 5 : at + 9] = b"\xff\xff\xff\xff"  # and a picture that is larger
    assert pixels(bytes(jpeg)) == 65535**2
    assert pixels(png_head(100_000, 100_000)) == 10**10
    assert pixels(bytes(bmp)) == 10**10
    assert pixels(bytes(gif)) == 65535**2


def test_a_jpeg_of_thousands_of_scans_is_refused():
    jpeg = encode("JPEG")
    at = jpeg.index(b"\xff\xda")
    with pytest.raises(UnreadablePictureError, match="more than 100 scans"):
        pixels(jpeg[:at] + jpeg[at : at + 14] * 101 + jpeg[at:])


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "encoded",
    [
        b"", b"\xff", b"\xff\xd8\xff", b"\x89PNG", b"GIF89a", b"BM", b"RIFF", b"RIFF1234WEBPVP9 ", b"RIFF1234AVI ",
        encode("JPEG")[:30], encode("PNG")[:20], encode("GIF")[:-3], encode("BMP")[:20], encode("WEBP")[:24],
        b"\xff\xd8" + b"\xff\xfe\x00\x02" * 5_000_000, b"\xff\xd8\xff" + b"\xff" * 20_000_000,
        b"GIF89a\x01\x00\x01\x00\x00\x00\x00" + b"!\xfe" + b"\x01x" * 5_000_000 + b"\x00;",
        b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0\x00\x00" * 10, b"\x89PNG\r\n\x1a\n" + b"0" * 40,
    ],
    ids=range(20),
)  # fmt: skip
def test_nonsense_is_refused_soon(encoded):
    with pytest.raises(UnreadablePictureError):
        pixels(encoded)


def test_every_beginning_and_every_flipped_byte_ends_well():
    random = np.random.default_rng(0)
    for form in ("JPEG", "PNG", "GIF", "BMP", "WEBP"):
        whole = encode(form)
        for end in range(0, len(whole), 7):
            damaged = bytearray(whole)
            damaged[end] = random.integers(256)
            for encoded in (whole[:end], bytes(damaged)):
                try:
                    assert pixels(encoded) >= 0
                except UnreadablePictureError as error:
                    assert str(error).startswith(("it ", "its ", "no frame"))
