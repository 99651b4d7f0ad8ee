import keras
import numpy as np
import pytest

from tfpt.backbones.keras import Keras
from tfpt.config import Input
from tfpt.errors import UserError


def model(outputs="map", side=16):
    inputs = keras.Input((side, side, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    pooled = keras.layers.GlobalMaxPooling2D()(x)
    return keras.Model(
        inputs, {"map": x, "vector": pooled, "named": {"pooled": pooled, "map": x}, "other": {"map": x}}[outputs]
    )


@pytest.mark.parametrize(
    ("outputs", "pooled_of"),
    [("map", lambda x: np.mean(x, (1, 2))), ("vector", lambda x: x), ("named", lambda x: x["pooled"])],
)
def test_outputs_become_endpoints(outputs, pooled_of):
    batch = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype(np.float32)
    own = model(outputs)
    backbone = Keras.from_model(own)
    answer = backbone.build(16)(batch)
    np.testing.assert_allclose(answer["pooled"], pooled_of(own(batch)), rtol=1e-5)
    shapes = {name: tuple(value.shape[1:]) for name, value in answer.items()}
    assert shapes == backbone.spec().endpoints
    assert shapes == {"pooled": (4,), **({"map": (14, 14, 4)} if outputs == "named" else {})}


def test_building_leaves_the_model_alone():
    own = model()
    before = own.get_weights()
    built = Keras.from_model(own, value_range=(-1, 1)).build(16)
    built.set_weights([w + 1 for w in built.get_weights()])
    for old, new in zip(before, own.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_file_and_a_sequential_model(tmp_path):
    own = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(5, 3), keras.layers.ReLU()])
    own.save(tmp_path / "own.keras")
    backbone = Keras(str(tmp_path / "own.keras"), Keras.Config(value_range=(0, 1)))
    batch = np.ones((1, 24, 24, 3), np.float32)
    np.testing.assert_allclose(backbone.build(24)(batch)["pooled"], np.mean(own(batch), (1, 2)), rtol=1e-5)
    assert backbone.preprocessor(Input()).size == 224


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Keras("photo.h5"), r"photo\.h5.*ends in \.keras"),
        (lambda: Keras("absent.keras"), "no such file"),
        (lambda: Keras.from_model(model("other")), "called pooled"),
        (lambda: Keras.from_model(keras.Sequential([keras.Input((7,)), keras.layers.Dense(2)])), r"not \(None, 7\)"),
        (lambda: Keras.from_model(Subclassed()), "functional"),
        (lambda: Keras.from_model(model()).build(32), r"--input\.image_size=32.*16 x 16"),
    ],
)
def test_mistakes_are_one_sentence(make, said):
    with pytest.raises(UserError, match=said) as raised:
        make()
    assert "\n" not in str(raised.value)


class Subclassed(keras.Model):
    def call(self, x):
        return x


def test_files_that_are_damaged_or_would_run_code(tmp_path):
    (tmp_path / "damaged.keras").write_text("no archive")
    inputs = keras.Input((8, 8, 3))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs)).save(tmp_path / "lambda.keras")
    for name in ("damaged.keras", "lambda.keras"):
        with pytest.raises(UserError, match=rf"{name}: the file cannot be loaded safely") as raised:
            Keras(str(tmp_path / name)).spec()
        assert "\n" not in str(raised.value)


def test_the_identity_is_of_settings_and_weights_not_of_names():
    def identity(*layers):
        return Keras.from_model(keras.Sequential([keras.Input((8, 8, 3)), *layers])).identity()

    rescaling, activation = keras.layers.Rescaling, keras.layers.Activation
    made = [
        identity(rescaling(1 / 255)),
        identity(rescaling(1 / 127.5, offset=-1)),
        identity(activation("relu")),
        identity(activation("gelu")),
        identity(keras.Sequential([rescaling(1 / 255), activation("gelu")])),
    ]
    assert len(set(made)) == len(made)
    assert identity(keras.Sequential([rescaling(1 / 255), activation("gelu")])) == made[-1]


@pytest.mark.parametrize("value_range", [(1, 0), (0,), (0, 1, 2)])
def test_value_range(value_range):
    with pytest.raises(ValueError, match="value_range"):
        Keras.Config(value_range=value_range)
