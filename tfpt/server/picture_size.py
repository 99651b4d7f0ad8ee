"""How many pixels a decoder will make of an encoded picture, read from its headers before anything is decoded.

All frames of a moving picture count, because TensorFlow's GIF and WebP decoders make all of them to return the first. A
progressive JPEG is gone over once a scan, so that a small file of thousands of scans would keep a processor busy for
hours: their number is bounded.

Sources: ITU-T T.81 annex B (JPEG), PNG third edition 11.2.1, GIF89a specification, RFC 9649 (WebP), Microsoft's
BITMAPFILEHEADER and BITMAPINFOHEADER (BMP).
"""

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType

MOST_SCANS = 100
"""Of a JPEG; encoders write about ten."""
_MOST_SEGMENTS = 10_000
_MOST_BLOCKS = 1_000_000  # of a GIF, up to 255 bytes each


class UnreadablePictureError(Exception):
    """It is no picture in a known format, or its headers make no sense."""


def pixels(encoded: bytes) -> int:
    """Returns the number of pixels that decoding makes.

    Args:
        encoded: a whole JPEG, PNG, GIF, BMP or WebP file.

    Raises:
        UnreadablePictureError: it is none of these.
    """
    for magic, count in _FORMATS.items():
        if encoded.startswith(magic):
            try:
                return count(encoded)
            except (struct.error, IndexError) as error:
                raise UnreadablePictureError("it ends within its headers") from error
    raise UnreadablePictureError("it is not a picture in the format JPEG, PNG, GIF, BMP or WebP")


def _jpeg(encoded: bytes) -> int:
    if encoded.count(b"\xff\xda") > MOST_SCANS:  # entropy-coded data never holds these two bytes
        raise UnreadablePictureError(f"it has more than {MOST_SCANS} scans")
    at = 2
    for _ in range(_MOST_SEGMENTS):
        at = encoded.find(b"\xff", at)  # decoders skip what is between segments, too
        marker = encoded[at + 1] if at >= 0 else encoded[len(encoded)]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", encoded, at + 5)
            return height * width
        if marker in (0xD9, 0xDA):
            raise UnreadablePictureError("it has no frame before its data")
        if marker == 0xFF:
            at += 1
        else:
            bare = marker <= 0x01 or 0xD0 <= marker <= 0xD8
            at += 2 if bare else 2 + struct.unpack_from(">H", encoded, at + 2)[0]
    raise UnreadablePictureError(f"no frame begins within its first {_MOST_SEGMENTS} segments")


def _png(encoded: bytes) -> int:
    width, height = struct.unpack_from(">II", encoded, 16)
    if encoded[12:16] != b"IHDR":
        raise UnreadablePictureError("its first chunk is not IHDR")
    return width * height


def _gif(encoded: bytes) -> int:
    width, height, flags = struct.unpack_from("<HHB", encoded, 6)
    screen, total = width * height, 0
    at, blocks = 13 + _colours(flags), 0
    while at < len(encoded) and encoded[at] != 0x3B:
        if encoded[at] == 0x2C:
            _, _, width, height, flags = struct.unpack_from("<HHHHB", encoded, at + 1)
            total += max(screen, width * height)
            at += 11 + _colours(flags)  # with the byte that says how LZW starts
        elif encoded[at] == 0x21:
            at += 2
        else:
            raise UnreadablePictureError("its blocks are damaged")
        while encoded[at]:
            at, blocks = at + 1 + encoded[at], blocks + 1
        at, blocks = at + 1, blocks + 1
        if blocks > _MOST_BLOCKS:
            raise UnreadablePictureError(f"it has more than {_MOST_BLOCKS} blocks")
    return max(total, screen)


def _colours(flags: int) -> int:
    return 3 * 2 ** (flags % 8 + 1) if flags & 0x80 else 0


def _bmp(encoded: bytes) -> int:
    if struct.unpack_from("<I", encoded, 14)[0] < 40:
        raise UnreadablePictureError("its header is of a kind that is not read")
    width, height = struct.unpack_from("<ii", encoded, 18)
    return abs(width * height)


def _webp(encoded: bytes) -> int:
    kind = encoded[12:16]
    if encoded[8:12] != b"WEBP":
        raise UnreadablePictureError("it is RIFF, but not WebP")
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(encoded[at : at + 3], "little") for at in (24, 27))
        return width * height * max(1, encoded.count(b"ANMF"))
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", encoded, 21)
        return (1 + bits % 2**14) * (1 + (bits >> 14) % 2**14)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", encoded, 26)
        return (width % 2**14) * (height % 2**14)
    raise UnreadablePictureError("its first chunk is not known")


_FORMATS: Mapping[bytes, Callable[[bytes], int]] = MappingProxyType(
    {b"\xff\xd8\xff": _jpeg, b"\x89PNG": _png, b"GIF8": _gif, b"BM": _bmp, b"RIFF": _webp}
)
