"""What every backbone of pictures promises, held over all that the registry knows.

Text trunks have test_hf.py, test_kerashub.py and test_tiny_transformer.py.
"""

import numpy as np
import pytest

from tfpt import registry
from tfpt.config import Input

BUILT = [
    ("applications", "ConvNeXtTiny", 64),
    ("applications", "MobileNetV2", 64),
    ("applications", "MobileNetV3Small", 64),
    ("applications", "NASNetMobile", 64),
    ("applications", "VGG16", 64),
    ("applications", "InceptionV3", 96),
    ("efficientnet_lite", "lite0", 64),
    ("efficientnet_lite", "lite2", 75),
    ("keras", "FILE", 32),
    ("tiny", "conv", 32),
]

# Components whose argument is a folder; their own tests write one.
PRESETS = {"hf", "kerashub", "saved_model", "tfhub"}


def references():
    for name in sorted(set(registry.names("backbone")) - PRESETS):
        for argument in registry.find("backbone", name).variants() or ("FILE",):
            if (name, argument) != ("tiny", "transformer"):
                yield name, argument


@pytest.fixture(scope="session")
def keras_file(tmp_path_factory):
    import keras

    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, name="first")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    side = keras.layers.Conv2D(4, 1, name="side")(x)
    x = keras.layers.Conv2D(8, 3, name="second")(keras.layers.Add()([x, side]))
    path = tmp_path_factory.mktemp("keras") / "own.keras"
    keras.Model(inputs, x).save(path)
    return str(path)


@pytest.fixture
def make(keras_file):
    def make(name, argument):
        kind = registry.find("backbone", name)
        fields = kind.Config.__dataclass_fields__
        config = kind.Config(weights="none") if "weights" in fields else kind.Config()
        return kind(keras_file if argument == "FILE" else argument, config)

    return make


def test_each_component_is_built_here():
    assert {name for name, _, _ in BUILT} == set(registry.names("backbone")) - PRESETS


@pytest.mark.parametrize(("name", "argument"), list(references()))
def test_pixels_become_what_the_network_expects(name, argument, make):
    backbone = make(name, argument)
    spec = backbone.spec()
    assert spec.modality == "image"
    assert spec.parameters > 0
    assert spec.endpoints["pooled"][0] > 0
    assert backbone.preprocessor(Input()).size == spec.size
    preprocessor = backbone.preprocessor(Input(image_size=16, resize="pad"))
    assert (preprocessor.size, preprocessor.resize) == (16, "pad")
    gradient = np.linspace(0, 255, 16 * 16 * 3).reshape(1, 16, 16, 3)
    pictures = np.concatenate([np.zeros_like(gradient), np.full_like(gradient, 255), gradient]).astype(np.uint8)
    fed = np.asarray(preprocessor.device()(pictures))
    assert fed.shape == pictures.shape
    assert fed.dtype == np.float32
    np.testing.assert_allclose((fed.min(), fed.max()), spec.value_range, atol=1e-4)
    assert np.all(fed[0] < fed[1])
    assert np.all((fed[0] - 1e-6 <= fed[2]) & (fed[2] <= fed[1] + 1e-6))


@pytest.mark.parametrize(("name", "argument", "size"), BUILT)
def test_network_groups_and_cuts(name, argument, size, make):
    import keras

    backbone = make(name, argument)
    spec = backbone.spec()
    model = backbone.build(size)
    batch = np.random.default_rng(0).uniform(*spec.value_range, (2, size, size, 3)).astype(np.float32)
    outputs = model(batch, training=False)

    assert model.input_shape == (None, size, size, 3)
    assert model.count_params() == spec.parameters
    assert set(outputs) == set(spec.endpoints)
    assert outputs["pooled"].shape == (2, *spec.endpoints["pooled"])
    sides = [level.shape[1] for level in outputs.get("levels", [])]
    assert sides == sorted(sides, reverse=True)
    assert len(sides) == len(set(sides))
    assert "levels" not in spec.endpoints or len(sides) >= 2

    grouped = [id(layer) for group in backbone.groups(model) for layer in group]
    assert sorted(grouped) == sorted(id(layer) for layer in model.layers if layer.weights)
    assert all(backbone.groups(model))

    cuts = backbone.cuts(model)
    order = [layer.name for layer in model.layers]
    assert [order.index(cut) for cut in cuts] == sorted(order.index(cut) for cut in cuts)
    for cut in {cuts[0], cuts[len(cuts) // 2], cuts[-1]}:
        narrow = model.get_layer(cut).output
        front, back = keras.Model(model.inputs[0], narrow), keras.Model(narrow, model.output["pooled"])
        np.testing.assert_allclose(back(front(batch)), outputs["pooled"], rtol=1e-4, atol=1e-5)
    assert backbone.cuts(model) == cuts  # the models made of its layers have not changed the answer


def test_groups_go_from_shallow_to_deep(make):
    backbone = make("applications", "MobileNetV2")
    first, *_, last = [[layer.name for layer in group] for group in backbone.groups(backbone.build(64))]
    assert (first, last) == (["Conv1", "bn_Conv1"], ["Conv_1", "Conv_1_bn"])


def test_weight_files_are_named_only_when_they_are_wanted(make):
    assert make("efficientnet_lite", "lite1").weight_files() == ()
    for name, argument in (("efficientnet_lite", "lite1"), ("applications", "VGG16")):
        assert registry.find("backbone", name)(argument).weight_files() == (f"{name}:{argument}",)
