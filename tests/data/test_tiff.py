"""TIFF files become PNG with the same samples, and those that are not read say why."""

import csv
import io

import imagecodecs
import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image, ImageOps

from tfpt.data import _tiff
from tfpt.data.csv import Csv
from tfpt.data.folder import Folder
from tfpt.errors import UserError

RANDOM = np.random.default_rng(0)
GREY_16 = RANDOM.integers(0, 65536, (9, 11), np.uint16)
RGB_16 = RANDOM.integers(0, 65536, (9, 11, 3), np.uint16)
RGB_8 = RANDOM.integers(0, 256, (9, 11, 3), np.uint8)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def tiff(samples, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **options)
    return file.getvalue()


def samples_of(content):
    return imagecodecs.png_decode(_tiff.as_png(content))


@pytest.mark.parametrize(
    ("samples", "options"),
    [
        (GREY_16, {}),
        (GREY_16, {"compression": "lzw", "byteorder": ">"}),
        (GREY_16, {"compression": "zlib", "predictor": True, "bigtiff": True}),
        (GREY_16 >> 4, {"bitspersample": 12}),
        (RGB_16, {"photometric": "rgb"}),
        (RGB_8, {"photometric": "rgb", "tile": (16, 16), "compression": "packbits"}),
    ],
)
def test_samples_are_kept(samples, options):
    found = samples_of(tiff(samples, **{"photometric": "minisblack"} | options))
    assert found.dtype == samples.dtype
    np.testing.assert_array_equal(found, samples)


def test_other_layouts_become_grey_or_rgb():
    grey, alpha = RGB_8[..., 0], np.dstack([RGB_8, RGB_8[..., :1]])
    np.testing.assert_array_equal(samples_of(tiff(grey, photometric="miniswhite")), 255 - grey)
    planes = tiff(np.moveaxis(RGB_8, -1, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(samples_of(planes), RGB_8)
    np.testing.assert_array_equal(samples_of(tiff(alpha, photometric="rgb", extrasamples=["unassalpha"])), RGB_8)
    np.testing.assert_array_equal(samples_of(tiff(grey > 99, photometric="minisblack")), (grey > 99) * 255)
    stack = np.stack([GREY_16, GREY_16 + 1])
    np.testing.assert_array_equal(samples_of(tiff(stack, photometric="minisblack")), GREY_16)
    np.testing.assert_array_equal(samples_of(tiff(stack, imagej=True)), GREY_16)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_palette_and_orientation_are_as_pillow_reads_them(orientation):
    file = io.BytesIO()
    Image.fromarray(RGB_8).quantize(16).save(file, "TIFF", tiffinfo={274: orientation})
    want = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    np.testing.assert_array_equal(samples_of(file.getvalue()), np.asarray(want))


@pytest.mark.parametrize(
    ("samples", "options", "reason"),
    [
        (GREY_16.astype(np.float32), {}, "samples of the type float32"),
        (GREY_16.astype(np.int16), {}, "samples of the type int16"),
        (np.dstack([GREY_16] * 5), {"planarconfig": "contig"}, "5 channels"),
        (np.dstack([RGB_8, RGB_8[..., 0]]), {"photometric": "separated"}, "colours SEPARATED"),
    ],
)
def test_other_kinds_are_refused_by_name(tmp_path, samples, options, reason):
    (tmp_path / "cells" / "a").mkdir(parents=True)
    (tmp_path / "cells" / "a" / "1.tif").write_bytes(tiff(samples, **{"photometric": "minisblack"} | options))
    with pytest.raises(UserError, match=rf"--data=folder:.*1\.tif has .*{reason}.*; convert such files to PNG"):
        Folder(str(tmp_path / "cells")).info()


def read(source, size):
    elements = tf.data.Dataset.range(size).map(source.example)
    return [element["image"] for element in elements.as_numpy_iterator()]


def test_a_folder_gives_png_made_once(tmp_path, home):
    root = tmp_path / "cells"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
    (root / "a" / "1.TIF").write_bytes(tiff(GREY_16))
    (root / "a" / "caf\udce9.tiff").write_bytes(b"II*\0 is all that is left")
    Image.fromarray(RGB_8).save(root / "b" / "1.png")
    source = Folder(str(root))
    assert any("TIFF files" in note and "takes PNG" in note for note in source.info().notes)
    deep, damaged, plain = read(source, 3)
    np.testing.assert_array_equal(imagecodecs.png_decode(deep), GREY_16)
    assert damaged == b""
    assert plain == (root / "b" / "1.png").read_bytes()
    (kept,) = (home / "tiff").iterdir()
    assert kept.read_bytes() == deep
    kept.write_bytes(b"what is kept is not made again")
    assert read(source, 1) == [b"what is kept is not made again"]
    assert sorted(file.name for file in (root / "a").iterdir()) == ["1.TIF", "caf\udce9.tiff"]


def test_a_home_that_cannot_be_written_costs_time_only(tmp_path, home):
    home.write_text("a file")
    (tmp_path / "1.tif").write_bytes(tiff(GREY_16))
    png = _tiff.read_picture(tf.constant(str(tmp_path / "1.tif"))).numpy()
    np.testing.assert_array_equal(imagecodecs.png_decode(png), GREY_16)


def test_what_a_model_gets_of_a_file():
    png = _tiff.for_model(tiff(GREY_16))
    np.testing.assert_array_equal(imagecodecs.png_decode(png), GREY_16)
    for other in (png, b"", b"II*\0 is all that is left", tiff(GREY_16.astype(np.float32))):
        assert _tiff.for_model(other) == other


def test_a_table_of_paths(tmp_path):
    (tmp_path / "1.tif").write_bytes(tiff(RGB_16, photometric="rgb"))
    Image.fromarray(RGB_8).save(tmp_path / "2.png")
    with open(tmp_path / "t.csv", "w", newline="") as file:
        csv.writer(file).writerows([["1.tif", "x"], ["2.png", "y"]])
    source = Csv(str(tmp_path / "t.csv"))
    assert source.info().features["image"] == "image"
    first, second = read(source, 2)
    np.testing.assert_array_equal(imagecodecs.png_decode(first), RGB_16)
    assert second == (tmp_path / "2.png").read_bytes()


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(_tiff, "is_installed", lambda: False)
    for name in ("1.tif", "1.png"):
        (tmp_path / "cells" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "cells" / "a" / name).write_bytes(b"")
    info = Folder(str(tmp_path / "cells")).info()
    assert info.size == 1
    assert any("Ignored: 1 .tif file" in note and "pip install 'tfpt[tiff]'" in note for note in info.notes)
    (tmp_path / "cells" / "a" / "1.png").unlink()
    with pytest.raises(
        UserError, match=r"no picture that can be read; found: 1 \.tif file; .*pip install 'tfpt\[tiff\]'"
    ):
        Folder(str(tmp_path / "cells")).info()
    (tmp_path / "t.csv").write_text("1.tif,x\n")
    with pytest.raises(UserError, match=r"--data=csv:.*has TIFF pictures.*pip install 'tfpt\[tiff\]'"):
        Csv(str(tmp_path / "t.csv")).info()
