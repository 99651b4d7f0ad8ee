"""The window of intensities of 16-bit pictures: chosen once, and the same wherever the model goes."""

import json

import imagecodecs
import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image as Pillow

from tfpt.config import Input
from tfpt.data.folder import Folder
from tfpt.errors import UserError
from tfpt.layers.decoding import decode_window, is_deep_png
from tfpt.preprocessors.image import Image
from tfpt.training.intensity import with_intensity

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))


def png(samples) -> bytes:
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(samples)))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_samples_of_the_window_become_0_to_255(channels):
    samples = RANDOM.integers(0, 5000, (9, 11, channels)).astype(np.uint16)
    low, high = 200.0, 4095.0
    found = tf.function(lambda encoded: decode_window(encoded, low, high))(png(samples.squeeze()))
    colours = samples[..., :3] if channels >= 3 else samples[..., :1].repeat(3, axis=-1)
    np.testing.assert_allclose(found, ((colours - low) / (high - low)).clip(0, 1) * 255, atol=1e-3)


def test_other_pictures_stay_as_they_are(tmp_path):
    pixels = RANDOM.integers(0, 256, (9, 11, 3), np.uint8)
    for name in ("1.png", "1.bmp"):
        Pillow.fromarray(pixels).save(tmp_path / name)
        encoded = (tmp_path / name).read_bytes()
        assert not is_deep_png(encoded)
        np.testing.assert_array_equal(decode_window(encoded, 100.0, 200.0), pixels)
    assert not is_deep_png(b"") and not is_deep_png(b"\x89PNG")


def folder(path, *, scale=1, kind=np.uint16, count=6):
    """Two classes of pictures with samples from 100 to 4000, times the scale."""
    for name in ("a", "b"):
        (path / name).mkdir(parents=True)
        for k in range(count):
            samples = RANDOM.integers(100, 4000, (16, 16)) * scale
            (path / name / f"{k}.png").write_bytes(png(samples.astype(kind)))
    return Folder(str(path))


def test_auto_finds_the_12_bits(tmp_path):
    source = folder(tmp_path / "x")
    made, note = with_intensity(Image(16), source, np.arange(12), "auto")
    low, high = made.intensity
    assert 100 <= low < 120 and 3980 < high <= 4000
    assert f"range:{low:g},{high:g}" in note and "the exported model" in note
    again = with_intensity(Image(16), source, np.arange(12), "percentile:0,100")[0]
    assert (again.intensity[0], again.intensity[1]) == pytest.approx((100, 4000), abs=8)
    host = tf.function(made.host)
    pixels = host(source.example(tf.constant(0))["image"])[0].numpy()
    assert pixels.max() > 200 and Image(16).host(source.example(tf.constant(0))["image"])[0].numpy().max() <= 15


def test_auto_leaves_pictures_that_use_all_16_bits_and_those_of_8(tmp_path):
    made, note = with_intensity(Image(8), folder(tmp_path / "x", scale=16), np.arange(12), "auto")
    assert made == Image(8) and "upper 8 bits" in note
    shallow = folder(tmp_path / "y", scale=1 / 16, kind=np.uint8)
    assert with_intensity(Image(8), shallow, np.arange(12), "auto") == (Image(8), "")
    with pytest.raises(UserError, match=r"--input\.intensity=percentile:1,99 is for pictures with 16 bits"):
        with_intensity(Image(8), shallow, np.arange(12), "percentile:1,99")


def test_what_the_flag_says_needs_no_look(tmp_path):
    nothing = Folder(str(tmp_path))
    assert with_intensity(Image(8), nothing, np.arange(3), "range:0,4095") == (Image(8, intensity=(0, 4095)), "")
    assert with_intensity(Image(8), nothing, np.arange(3), "full") == (Image(8), "")


def test_constant_pictures_have_a_window(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "x" / name).mkdir(parents=True)
        (tmp_path / "x" / name / "1.png").write_bytes(png(np.full((4, 4), 7, np.uint16)))
    assert with_intensity(Image(8), Folder(str(tmp_path / "x")), np.arange(2), "auto")[0].intensity == (7, 8)


@pytest.mark.parametrize(
    "text", ["", "half", "full:1", "range", "range:5", "range:9,3", "range:0,70000", "percentile:1,101", "range:1,nan"]
)
def test_flags_that_make_no_sense(text):
    with pytest.raises(ValueError, match=r"intensity: .* is not auto, full, percentile:LOW,HIGH"):
        Input(intensity=text)


def test_the_window_is_part_of_the_preprocessor():
    image = Image(8, intensity=(5, 9))
    assert Image.from_json(json.loads(json.dumps(image.to_json()))) == image
    old = {key: value for key, value in Image(8).to_json().items() if key != "intensity"}
    assert Image.from_json(old) == Image(8)
    assert image.host_settings() != Image(8).host_settings()
    with pytest.raises(ValueError, match="intensity: 9 is not below 9"):
        Image(8, intensity=(9, 9))


@pytest.fixture(scope="module")
def microscope(fit, tmp_path_factory):
    """A run on 12-bit TIFF pictures, whose classes differ by 40 of 65,536 levels."""
    home = tmp_path_factory.mktemp("microscope")
    random = np.random.default_rng(1)
    for number, name in enumerate(("dead", "alive")):
        (home / "cells" / name).mkdir(parents=True)
        for k in range(40):
            samples = random.normal(100, 10, (24, 24))
            samples[6:18, 6:18] += 10 + 40 * number
            samples = samples.clip(0, 4095).astype(np.uint16)
            tifffile.imwrite(home / "cells" / name / f"{k}.tif", samples, compression="lzw")
    return fit(home, data=f"folder:{home / 'cells'}", head_epochs=0, epochs=6, learning_rate=3e-3, seed=1)


def test_16_bit_tiff_pictures_are_learned_and_served(microscope):
    found = microscope.metrics["test"]["accuracy"]
    assert found["value"] >= 0.95 and found["low"] > 0.7
    assert microscope.metrics["parity"]["passed"]
    log = (microscope.folder / "log.txt").read_text(encoding="utf-8")
    assert "TIFF files" in log and "16 bits a sample" in log
    (preprocessor,) = microscope.model.preprocessors.values()
    low, high = preprocessor.intensity
    assert 50 <= low < 100 < high < 250
    # raw PNG bytes of 16 bits, as a client sends them
    alive = np.full((24, 24), 150, np.uint16)
    assert microscope.predict([png(alive), png(alive - 45)])["label"].tolist() == [b"alive", b"dead"]


@pytest.mark.slow
def test_the_same_pictures_without_a_window_are_black(microscope, fit, tmp_path):
    cells = microscope.experiment.data.argument
    run = fit(tmp_path, data=f"folder:{cells}", head_epochs=0, epochs=1, seed=1, intensity="full", publish=False)
    assert run.metrics["test"]["accuracy"]["value"] < 0.8
