"""The image preprocessor against Pillow, in the graph, and through a SavedModel."""

import io
import json
import struct
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image as Pillow
from PIL import ImageOps

from tfpt.layers.decoding import decode_reduced, decode_rgb
from tfpt.layers.orientation import exif_orientation
from tfpt.layers.pixel_scale import PixelScale
from tfpt.layers.resampling import resample
from tfpt.preprocessors.image import Image

HEIGHT, WIDTH = 50, 70

decode = tf.function(decode_rgb, input_signature=[tf.TensorSpec([], tf.string)])
pad = tf.function(Image(WIDTH, "pad").host, input_signature=[tf.TensorSpec([], tf.string)])
orientation = tf.function(exif_orientation, input_signature=[tf.TensorSpec([], tf.string)])


def picture() -> Pillow.Image:
    """A smooth picture without any symmetry."""
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    return Pillow.fromarray(values).resize((WIDTH, HEIGHT), Pillow.Resampling.BICUBIC)


def with_alpha() -> Pillow.Image:
    image = picture()
    image.putalpha(Pillow.fromarray(np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH), np.uint8)))
    return image


def encode(image: Pillow.Image, file_format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def by_pillow(encoded: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Pillow.open(io.BytesIO(encoded))).convert("RGB"))


def png_16_bit(samples: np.ndarray) -> bytes:
    """`[height, width, channels]` uint16 as PNG; Pillow cannot write most of these."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = samples.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def set_adobe_transform(jpeg: bytes, value: int) -> bytes:
    at = jpeg.index(b"\xff\xee") + 15
    return jpeg[:at] + bytes([value]) + jpeg[at + 1 :]


def with_int32(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + struct.pack("<i", value) + data[at + 4 :]


def exact_cases() -> dict[str, bytes]:
    image = picture()
    grey = image.convert("L")
    palette = image.quantize(64)
    cmyk = encode(image.convert("CMYK"), "JPEG", quality=95)
    return {
        "png": encode(image, "PNG"),
        "png grey": encode(grey, "PNG"),
        "png grey alpha": encode(with_alpha().convert("LA"), "PNG"),
        "png alpha": encode(with_alpha(), "PNG"),
        "png palette": encode(palette, "PNG"),
        "png palette of 8": encode(image.quantize(8), "PNG"),
        "png palette transparent": encode(palette, "PNG", transparency=3),
        "png colour key": encode(image, "PNG", transparency=(1, 2, 3)),
        "png 1 bit": encode(image.convert("1"), "PNG"),
        "bmp": encode(image, "BMP"),
        "bmp alpha": encode(with_alpha(), "BMP"),
        "bmp grey": encode(grey, "BMP"),
        "bmp palette": encode(palette, "BMP"),
        "bmp 1 bit": encode(image.convert("1"), "BMP"),
        "gif": encode(image, "GIF"),
        "gif animation": encode(image, "GIF", save_all=True, append_images=[ImageOps.invert(image)]),
        "webp": encode(image, "WEBP"),
        "webp lossless": encode(image, "WEBP", lossless=True),
        "webp alpha": encode(with_alpha(), "WEBP"),
        "webp alpha lossless": encode(with_alpha(), "WEBP", lossless=True),
        "webp alpha animation": encode(
            with_alpha(), "WEBP", lossless=True, save_all=True, append_images=[with_alpha().rotate(180)]
        ),
        "jpeg cmyk": cmyk,
        "jpeg ycck": set_adobe_transform(cmyk, 2),
    }


def test_decodes_like_pillow():
    for name, encoded in exact_cases().items():
        difference = np.abs(decode(encoded).numpy().astype(int) - by_pillow(encoded))
        assert difference.max() <= (2 if name.startswith("jpeg") else 0), name


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 40}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_decodes_jpeg_within_2_levels(mode, options):
    encoded = encode(picture().convert(mode), "JPEG", **options)
    assert np.abs(decode(encoded).numpy().astype(int) - by_pillow(encoded)).max() <= 2


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_keeps_the_upper_byte(channels):
    samples = np.random.default_rng(2).integers(0, 65536, (9, 11, channels)).astype(np.uint16)
    upper = (samples >> 8).astype(np.uint8)
    want = upper[..., :3] if channels >= 3 else np.repeat(upper[..., :1], 3, axis=-1)
    np.testing.assert_array_equal(decode(png_16_bit(samples)).numpy(), want)


def test_4_bit_and_top_down_bmp():
    # 5x2 pixels, 4 bits each, rows padded to 4 bytes; a negative height says that the top row comes first
    palette = bytes(range(64))
    rows = bytes([0x01, 0x23, 0x40, 0x00, 0xFE, 0xDC, 0xB0, 0x00])
    header = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 126, 0, 118, 40, 5, -2, 1, 4, 0, 8, 0, 0, 16, 0)
    colours = np.frombuffer(palette, np.uint8).reshape(16, 4)[:, 2::-1]
    want = colours[[[0, 1, 2, 3, 4], [15, 14, 13, 12, 11]]]
    np.testing.assert_array_equal(decode(header + palette + rows).numpy(), want)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\xff\xd8\xff",
        b"no picture at all, but Exif\0\0 is in it",
        b"BM",
        b"RIFF\0\0\0\0WEBP",
        encode(picture(), "JPEG")[:300],
        encode(picture(), "PNG")[:300],
        encode(picture().quantize(8), "BMP")[:1200],
        with_int32(encode(picture().quantize(8), "BMP"), 30, 1),
        with_int32(encode(picture().quantize(8), "BMP"), 18, -70),
        # TensorFlow 2.21 corrupts its memory on this one when asked for the file's own channels.
        encode(picture(), "WEBP", save_all=True, append_images=[ImageOps.invert(picture())]),
    ],
    ids=[
        "empty",
        "jpeg head",
        "text",
        "bmp head",
        "webp head",
        "jpeg cut",
        "png cut",
        "bmp cut",
        "bmp RLE",
        "bmp width",
        "webp animation",
    ],
)
def test_what_cannot_be_decoded_raises(encoded):
    with pytest.raises(tf.errors.InvalidArgumentError):
        pad(encoded)


def test_a_pipeline_with_it_can_be_saved_and_goes_on(tmp_path):
    # a stateful op anywhere in host would forbid it
    files = list(exact_cases().values())
    dataset = tf.data.Dataset.from_tensor_slices(files).map(Image(16).host)
    iterator = iter(dataset)
    for _ in range(3):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "state"))
    want = next(iterator)[0]
    again = iter(dataset)
    tf.train.Checkpoint(iterator=again).restore(path)
    np.testing.assert_array_equal(next(again)[0], want)


# Orientation


def tiff(value: int, order: str, entries_before: int = 2) -> bytes:
    """A TIFF block whose first directory has the tag 0x0112 behind some others."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    others = b"".join(struct.pack(order + "HHIHxx", 0x0100 + k, 3, 1, 7) for k in range(entries_before))
    entry = struct.pack(order + "HHIHxx", 0x0112, 3, 1, value)
    return head + struct.pack(order + "IH", 8, entries_before + 1) + others + entry + struct.pack(order + "I", 0)


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def upright(encoded: bytes) -> np.ndarray:
    """The picture as `host` sees it, without a change of scale: padded to a square of its longer side."""
    pixels, frame = pad(encoded)
    height, width = frame["size"].numpy()
    top, left = frame["offset"].numpy().astype(int)
    return pixels.numpy()[top : top + height, left : left + width]


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_all_orientations_of_every_format(file_format):
    for value in range(1, 9):
        exif = Pillow.Exif()
        exif[0x0112] = value
        exif[0x010F] = "a maker"
        encoded = encode(picture(), file_format, exif=exif)
        assert orientation(encoded).numpy() == value
        want = by_pillow(encoded)
        assert want.shape[:2] == ((HEIGHT, WIDTH) if value < 5 else (WIDTH, HEIGHT))
        np.testing.assert_array_equal(upright(encoded), want, err_msg=f"{file_format} {value}")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_both_byte_orders(order, value):
    jpeg = encode(picture(), "JPEG")
    encoded = jpeg[:2] + segment(0xE1, b"Exif\0\0" + tiff(value, order)) + jpeg[2:]
    assert orientation(encoded).numpy() == value
    np.testing.assert_array_equal(upright(encoded), by_pillow(encoded))


def test_finds_exif_behind_other_segments():
    jpeg = encode(picture(), "JPEG")
    exif = segment(0xE1, b"Exif\0\0" + tiff(6, ">"))
    xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:Exif Exif\0\0 exif:Orientation='3'>")
    profile = segment(0xE2, b"ICC_PROFILE\0" + bytes(60000))
    comment = segment(0xFE, b"a comment")
    assert orientation(jpeg[:20] + xmp + profile + comment + exif + jpeg[20:]).numpy() == 6


def test_webp_chunk_with_the_jpeg_prefix():
    exif = Pillow.Exif()
    exif[0x0112] = 8
    encoded = encode(picture(), "WEBP", exif=exif)
    at = encoded.index(b"EXIF") + 8
    content = b"Exif\0\0" + encoded[at:].removeprefix(b"Exif\0\0")
    encoded = encoded[: at - 4] + struct.pack("<I", len(content)) + content
    assert orientation(encoded).numpy() == 8


def test_nonsense_means_as_stored():
    jpeg = encode(picture(), "JPEG")

    def read(exif: bytes, end: bytes = jpeg[2:]) -> int:
        return int(orientation(jpeg[:2] + segment(0xE1, b"Exif\0\0" + exif) + end))

    assert read(tiff(6, "<")) == 6
    assert read(tiff(0, "<")) == read(tiff(9, ">")) == read(tiff(65535, ">")) == 1
    assert read(b"") == read(b"II*\0") == read(b"hello, world") == 1
    assert read(b"II*\0" + b"\xff" * 40) == 1  # a directory behind the end
    assert read(b"II*\0\x08\0\0\0\xff\xff" + bytes(30), end=b"") == 1  # a directory that does not end
    assert int(orientation(b"\xff\xd8\xff\xe1\0\0Exif\0\0" * 50)) == 1  # segments shorter than their own heads
    # the word alone, in a place that is no EXIF segment
    assert int(orientation(jpeg[:2] + segment(0xFE, b"Exif\0\0" + tiff(6, "<")) + jpeg[2:])) == 1
    assert int(orientation(encode(picture(), "PNG") + b"eXIf" + tiff(6, "<"))) == 1


# Resizing and the frame


def test_stretch_is_close_to_pillow():
    for height, width, size in ((50, 70, 32), (50, 70, 128), (300, 40, 64)):
        values = picture().resize((width, height))
        got, _ = Image(size).host_pixels(tf.constant(np.asarray(values)))
        want = np.asarray(values.resize((size, size), Pillow.Resampling.BILINEAR))
        assert got.dtype == tf.uint8
        assert np.abs(got.numpy().astype(int) - want).max() <= 1


def test_equals_tf_image_resize_rounded():
    rng = np.random.default_rng(5)
    for height, width, size in ((50, 70, 32), (31, 17, 64), (300, 41, 33), (1, 1, 5), (2, 400, 7)):
        values = rng.integers(0, 256, (height, width, 3), np.uint8)
        want = tf.image.resize(values, (size, size), antialias=True)
        got = resample(tf.constant(values), size, tf.constant([size / height, size / width], tf.float32), tf.zeros(2))
        np.testing.assert_allclose(got, want, atol=0.5 + 1e-3)


def test_same_size_changes_nothing():
    square = np.asarray(picture().crop((0, 0, 40, 40)))
    for resize in ("stretch", "crop", "pad"):
        got, frame = Image(40, resize).host_pixels(tf.constant(square))
        np.testing.assert_array_equal(got, square)
        np.testing.assert_array_equal(frame["scale"], [1, 1])
        np.testing.assert_array_equal(frame["offset"], [0, 0])


def test_what_lies_beyond_black_and_white_is_black_and_white():
    for value, wanted in ((256.0, 255), (-3.0, 0), (1e4, 255)):
        pixels, _ = Image(4).host_pixels(tf.fill([6, 6, 3], value))
        assert (pixels.numpy() == wanted).all()


def test_crop_takes_the_largest_centred_square():
    image = np.asarray(picture())
    got, _ = Image(50, "crop").host_pixels(tf.constant(image))
    np.testing.assert_array_equal(got, image[:, 10:60])
    odd = np.asarray(picture().resize((71, 50)))
    np.testing.assert_array_equal(Image(50, "crop").host_pixels(tf.constant(odd))[0], odd[:, 10:60])


def test_pad_puts_black_bars():
    got = Image(70, "pad").host_pixels(tf.constant(np.asarray(picture())))[0].numpy()
    np.testing.assert_array_equal(got[10:60], picture())
    assert not got[:10].any() and not got[60:].any()


def test_floats_and_bytes_give_the_same():
    image = np.asarray(picture())
    for resize in ("stretch", "crop", "pad"):
        whole, _ = Image(33, resize).host_pixels(tf.constant(image))
        floats, _ = Image(33, resize).host_pixels(tf.constant(image, tf.float32))
        np.testing.assert_array_equal(whole, floats)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [30, 48, 150])
@pytest.mark.parametrize("shape", [(60, 90), (90, 61)])
def test_frame_says_where_a_pixel_went(resize, size, shape):
    for spot in ((30, 40), (45, 31), (52, 29)):
        image = np.zeros((*shape, 3), np.uint8)
        image[spot[0] - 2 : spot[0] + 3, spot[1] - 2 : spot[1] + 3] = 255  # centred on the middle of pixel `spot`
        pixels, frame = Image(size, resize).host_pixels(tf.constant(image))
        weight = pixels.numpy()[..., 0].astype(float)
        centre = [(weight.sum(axis=1 - k) * (np.arange(size) + 0.5)).sum() / weight.sum() for k in (0, 1)]
        want = (np.array(spot) + 0.5) * frame["scale"].numpy() + frame["offset"].numpy()
        np.testing.assert_allclose(centre, want, atol=0.1)
        np.testing.assert_array_equal(frame["size"], shape)


def test_frame_of_a_turned_photo_is_of_the_upright_picture():
    jpeg = encode(picture(), "JPEG")
    encoded = jpeg[:2] + segment(0xE1, b"Exif\0\0" + tiff(6, ">")) + jpeg[2:]
    _, frame = Image(35).host(tf.constant(encoded))
    np.testing.assert_array_equal(frame["size"], [WIDTH, HEIGHT])
    np.testing.assert_allclose(frame["scale"], [35 / WIDTH, 35 / HEIGHT], rtol=1e-6)


def large_photo(file_format="JPEG", height=601, width=850, **options) -> bytes:
    values = np.random.default_rng(3).integers(0, 256, (12, 17, 3), np.uint8)
    image = Pillow.fromarray(values).resize((width, height), Pillow.Resampling.BICUBIC)
    return encode(image, file_format, **options)


@pytest.mark.parametrize(("side", "reduction"), [(10, 8), (70, 4), (150, 2), (151, 1), (2000, 1)])
def test_a_jpeg_is_decoded_at_a_fraction_where_twice_the_pixels_remain(side, reduction):
    encoded = large_photo(quality=95)
    image, found, size = tf.function(lambda raw: decode_reduced(raw, side))(encoded)
    assert found == reduction
    np.testing.assert_array_equal(size, [601, 850])
    np.testing.assert_array_equal(image.shape, [-(-601 // reduction), -(-850 // reduction), 3])
    assert image.shape[0] >= 2 * side or reduction == 1
    _, other, _ = decode_reduced(large_photo("PNG"), side)
    assert other == 1


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_a_jpeg_that_is_decoded_at_a_fraction_looks_the_same(resize):
    encoded = large_photo(quality=95, height=608, width=848)
    got, frame = Image(40, resize).host(tf.constant(encoded))
    want, whole = Image(40, resize).host_pixels(decode(encoded))
    off = np.abs(got.numpy().astype(int) - want.numpy())
    assert off.mean() < 0.5 and off.max() <= 2
    for name in frame:
        np.testing.assert_allclose(frame[name], whole[name], rtol=1e-6)


def test_a_turned_photo_that_is_decoded_at_a_fraction_has_an_upright_frame():
    jpeg = large_photo(quality=95)
    encoded = jpeg[:2] + segment(0xE1, b"Exif\0\0" + tiff(6, ">")) + jpeg[2:]
    pixels, frame = Image(40).host(tf.constant(encoded))
    np.testing.assert_array_equal(frame["size"], [850, 601])
    straight, _ = Image(40).host(tf.constant(jpeg))
    np.testing.assert_allclose(pixels.numpy().astype(int), np.rot90(straight.numpy(), -1), atol=1)


# As an object


def test_specs_are_true():
    image = Image(24, "pad")
    pixels, frame = image.host(tf.constant(encode(picture(), "PNG")))
    assert (tuple(pixels.shape), pixels.dtype.name) == image.host_spec()
    assert {key: (tuple(v.shape), v.dtype.name) for key, v in frame.items()} == image.frame_spec()
    traced = tf.function(image.host).get_concrete_function(tf.TensorSpec([], tf.string))
    assert tuple(traced.structured_outputs[0].shape) == (24, 24, 3)


def test_json_makes_an_equal_object():
    image = Image(240, "crop", scale=(1 / 128,) * 3, offset=(-127 / 128,) * 3, bgr=True)
    again = Image.from_json(json.loads(json.dumps(image.to_json())))
    assert again == image and hash(again) == hash(image)
    assert again != Image(240, "crop")


@pytest.mark.parametrize(
    "arguments",
    [{"size": 0}, {"size": 8, "resize": "squeeze"}, {"size": 8, "scale": (1, 2)}, {"size": 8, "offset": ()}],
)
def test_refuses_wrong_arguments(arguments):
    with pytest.raises(ValueError, match=next(reversed(arguments))):
        Image(**arguments)


def test_through_a_saved_model(tmp_path):
    image = Image(16, "pad")
    photo = picture()
    exif = Pillow.Exif()
    exif[0x0112] = 6
    files = [*exact_cases().values(), encode(photo, "JPEG", exif=exif), encode(photo, "JPEG")]

    class Served(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def prepare(self, raw):
            spec = tf.TensorSpec([16, 16, 3], tf.uint8)
            frame = {key: tf.TensorSpec(shape, dtype) for key, (shape, dtype) in image.frame_spec().items()}
            return tf.map_fn(image.host, raw, fn_output_signature=(spec, frame))

    tf.saved_model.save(Served(), str(tmp_path / "served"))
    pixels, frame = tf.saved_model.load(str(tmp_path / "served")).prepare(tf.constant(files))
    dataset = tf.data.Dataset.from_tensor_slices(files).map(image.host, num_parallel_calls=2)
    for k, (want, want_frame) in enumerate(dataset):
        np.testing.assert_array_equal(pixels[k], want)
        for key, value in want_frame.items():
            np.testing.assert_array_equal(frame[key][k], value)
    assert frame["size"][-2].numpy().tolist() == [WIDTH, HEIGHT]


# The device half


def test_scales_in_float32_under_any_policy():
    pixels = np.arange(2 * 3 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 3) * 4
    scale, offset = (1 / 58.395, 1 / 57.12, 1 / 57.375), (-2.1179, -2.0357, -1.8044)
    before = keras.config.dtype_policy()
    try:
        for policy in ("float32", "mixed_bfloat16", "bfloat16"):
            keras.config.set_dtype_policy(policy)
            plain = Image(3, scale=scale, offset=offset).device()(pixels)
            swapped = Image(3, scale=scale, offset=offset, bgr=True).device()(pixels)
            assert plain.dtype == swapped.dtype == tf.float32
            np.testing.assert_allclose(plain, pixels * np.float32(scale) + np.float32(offset), rtol=1e-6, atol=1e-6)
            want = pixels[..., ::-1] * np.float32(scale) + np.float32(offset)
            np.testing.assert_allclose(swapped, want, rtol=1e-6, atol=1e-6)
    finally:
        keras.config.set_dtype_policy(before)


def test_device_layer_survives_saving(tmp_path):
    inputs = keras.Input([4, 4, 3], dtype="uint8")
    model = keras.Model(inputs, Image(4, scale=(0.5, 1, 2), offset=(-1, 0, 1), bgr=True).device()(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    pixels = np.random.default_rng(3).integers(0, 256, (2, 4, 4, 3), np.uint8)
    np.testing.assert_array_equal(again(pixels), model(pixels))
    layer = next(layer for layer in again.layers if isinstance(layer, PixelScale))
    assert layer.compute_dtype == "float32"
