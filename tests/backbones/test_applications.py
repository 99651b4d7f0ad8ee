import h5py
import keras
import numpy as np
import pytest

from tfpt.backbones.applications import Applications
from tfpt.config import Input
from tfpt.errors import UserError
from tfpt.weights import catalogue, fetch

SIZE = 32


def normalising(model):
    """Gives the first layer a mean and a variance, as the published files do."""
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    layer.set_weights([np.array([0.48, 0.45, 0.4]), np.array([0.23, 0.22, 0.21]), np.array(0)])
    layer.finalize_state()
    return model


def picture():
    return np.random.default_rng(1).uniform(0, 255, (1, SIZE, SIZE, 3)).astype(np.float32)


def build(name, weights):
    return Applications(name, Applications.Config(weights=str(weights))).build(SIZE)


@pytest.mark.parametrize("name", ["mobilenetv2", "MOBILENETV2"])
def test_case_does_not_matter(name):
    assert Applications(name).argument == "MobileNetV2"


@pytest.mark.parametrize(
    ("name", "said"), [("MobilNetV2", "did you mean MobileNetV2?"), ("", "there are ConvNeXtBase")]
)
def test_unknown_names(name, said):
    with pytest.raises(UserError, match=said.replace("?", r"\?")):
        Applications(name)


def test_every_builder_of_keras_is_there():
    builders = {name for name in dir(keras.applications) if callable(getattr(keras.applications, name))}
    assert set(Applications.variants()) == builders


@pytest.mark.parametrize("name", ["ResNet50", "DenseNet121", "MobileNet"])
def test_preprocessing_is_keras_own(name):
    module = {"ResNet50": "resnet50", "DenseNet121": "densenet", "MobileNet": "mobilenet"}[name]
    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3)).astype(np.uint8)
    ours = Applications(name).preprocessor(Input(image_size=8)).device()(pixels)
    theirs = getattr(keras.applications, module).preprocess_input(pixels.astype(np.float32))
    np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_weights_from_a_file(tmp_path, suffix):
    theirs = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    path = tmp_path / f"own{suffix}"
    theirs.save(path) if suffix == ".h5" else theirs.save_weights(path)
    pooled = np.mean(theirs(picture()), (1, 2))
    np.testing.assert_allclose(build("MobileNetV3Small", path)(picture())["pooled"], pooled, rtol=1e-4)


def test_published_efficientnet_files_are_read_as_keras_reads_them(tmp_path, monkeypatch):
    # keras.applications adds a layer to EfficientNet when, and only when, it loads the published file itself.
    from keras.src.utils import file_utils

    made = normalising(keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3)))
    path = tmp_path / "efficientnetb0_notop.h5"
    made.save(path)
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: str(path))
    theirs = keras.applications.EfficientNetB0(include_top=False, weights="imagenet", input_shape=(SIZE, SIZE, 3))
    pooled = np.mean(theirs(picture()), (1, 2))
    plain = build("EfficientNetB0", path)(picture())["pooled"]
    assert not np.allclose(plain, pooled, rtol=1e-2, atol=1e-9)

    entry = catalogue.find("applications:EfficientNetB0")
    published = {**catalogue.CATALOGUE, entry.name: keep_digest(entry, path)}
    monkeypatch.setattr(catalogue, "CATALOGUE", published)
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TFPT_WEIGHTS", str(tmp_path))
    for weights in ("imagenet", path):
        np.testing.assert_allclose(build("EfficientNetB0", weights)(picture())["pooled"], pooled, rtol=1e-3, atol=1e-7)


def keep_digest(entry, path):
    import dataclasses

    return dataclasses.replace(entry, digest=fetch._digest(path, "sha256"))


def test_files_that_are_no_weights(tmp_path):
    (tmp_path / "notes.h5").write_text("no hdf5")
    with h5py.File(tmp_path / "empty.weights.h5", "w"):
        pass
    other = keras.applications.MobileNetV3Large(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    other.save_weights(tmp_path / "other.weights.h5")
    for name in ("notes.h5", "empty.weights.h5", "other.weights.h5"):
        with pytest.raises(UserError, match=f"{name}: these are no weights of applications:MobileNetV3Small") as raised:
            build("MobileNetV3Small", tmp_path / name)
        assert "\n" not in str(raised.value)
    for name in ("absent.h5", "weights.bin"):
        with pytest.raises(UserError, match=name):
            Applications("VGG16", Applications.Config(weights=name))


def test_too_small_a_picture():
    with pytest.raises(UserError, match=r"--input\.image_size=32.*InceptionV3.*75"):
        build("InceptionV3", "none")


def test_no_network_says_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("TFPT_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(fetch, "_take", fail)
    with pytest.raises(UserError, match=r"TFPT_WEIGHTS.*--backbone\.weights=FILE") as raised:
        build("MobileNetV3Small", "imagenet")
    assert "\n" not in str(raised.value)


def fail(*_, **__):
    raise fetch.SourceError("it cannot be reached")
