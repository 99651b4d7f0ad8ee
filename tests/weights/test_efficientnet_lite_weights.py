"""EfficientNet-Lite gives torch's numbers, from made-up weights always and from the real ones where they are at hand.

The golden values were made once, with torch 2.13 and a network written for it on `torch.nn.functional`, padded as TensorFlow
pads.
"""

import numpy as np
import pytest

from tfpt.backbones.efficientnet_lite import EfficientnetLite
from tfpt.errors import UserError

STAGES = ((1, 1, 3, 16), (6, 2, 3, 24), (6, 2, 5, 40), (6, 3, 3, 80), (6, 3, 5, 112), (6, 4, 5, 192), (6, 1, 3, 320))
# Every hundredth of the 1,000 logits.
SYNTHETIC = {
    64: [-5.01875, -4.02396, 5.05681, 4.76212, 1.05409, 1.16812, -0.34322, -2.98245, -2.99062, 6.16342],
    75: [-3.89996, -5.91262, 4.77502, 6.71061, 1.90801, 4.09694, 3.08415, -2.57339, -2.70738, 5.99041],
}
REAL = {
    "efficientnet_lite:lite0": (
        224,
        [-1.27262, -1.14602, -0.36667, -0.67311, -0.1221, -0.89458, 2.11828, 1.0496, -0.81623, -0.2009],
    ),
    "efficientnet_lite:lite1": (
        75,
        [-0.41028, 0.20613, -0.37357, -0.26681, 0.86263, -0.40015, 2.02832, 0.67038, -0.46467, 0.05516],
    ),
    "efficientnet_lite:lite2": (
        90,
        [-2.07612, -0.72704, -0.29514, -0.58527, 1.21075, -0.74789, 1.66996, -0.76448, -0.32758, 1.00106],
    ),
}


def lite0_shapes():
    """Names and shapes of a Lite0 checkpoint, in its order."""

    def norm(name, channels):
        for value in ("weight", "bias", "running_mean", "running_var"):
            yield f"{name}.{value}", (channels,)
        yield f"{name}.num_batches_tracked", ()

    yield "_conv_stem.weight", (32, 3, 3, 3)
    yield from norm("_bn0", 32)
    inputs, k = 32, 0
    for expansion, repeats, kernel, outputs in STAGES:
        for _ in range(repeats):
            wide = inputs * expansion
            if expansion > 1:
                yield f"_blocks.{k}._expand_conv.weight", (wide, inputs, 1, 1)
                yield from norm(f"_blocks.{k}._bn0", wide)
            yield f"_blocks.{k}._depthwise_conv.weight", (wide, 1, kernel, kernel)
            yield from norm(f"_blocks.{k}._bn1", wide)
            yield f"_blocks.{k}._project_conv.weight", (outputs, wide, 1, 1)
            yield from norm(f"_blocks.{k}._bn2", outputs)
            inputs, k = outputs, k + 1
    yield "_conv_head.weight", (1280, 320, 1, 1)
    yield from norm("_bn1", 1280)
    yield "_fc.weight", (1000, 1280)
    yield "_fc.bias", (1000,)


def made_up(k, name, shape):
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    values = np.random.default_rng(k).standard_normal(shape).astype(np.float32)
    if len(shape) == 4:
        return values * np.float32((2 / np.prod(shape[1:])) ** 0.5)
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return 1 + np.float32(0.1) * np.abs(values)
    return values * np.float32(0.05 if len(shape) == 2 else 0.1)


def picture(size):
    waves = np.sin(np.arange(size * size * 3, dtype=np.float64) * 0.0137)
    return (np.round(127.5 + 127.5 * waves).astype(np.float32).reshape(1, size, size, 3) - 127) / 128


@pytest.fixture
def checkpoint(write_legacy, tmp_path):
    tensors = {name: made_up(k, name, shape) for k, (name, shape) in enumerate(lite0_shapes())}
    return write_legacy(tmp_path / "lite0.pth", tensors)


def logits(variant, weights, size):
    classifier = EfficientnetLite(variant, EfficientnetLite.Config(weights=weights)).build_classifier(size)
    return classifier(picture(size)).numpy()[0]


@pytest.mark.parametrize("size", sorted(SYNTHETIC))
def test_a_made_up_checkpoint_gives_torchs_logits(checkpoint, size):
    # 75 meets odd sides, where TensorFlow's padding differs from the static one of some torch ports.
    np.testing.assert_allclose(logits("lite0", str(checkpoint), size)[::100], SYNTHETIC[size], atol=1e-4)


def test_the_trunk_is_the_classifier_without_its_last_layer(checkpoint):
    backbone = EfficientnetLite("lite0", EfficientnetLite.Config(weights=str(checkpoint)))
    classifier = backbone.build_classifier(64)
    head = classifier.get_layer("logits")
    pooled = backbone.build(64)(picture(64))["pooled"]
    np.testing.assert_allclose(head(pooled).numpy()[0, ::100], SYNTHETIC[64], atol=1e-4)


def test_another_variants_checkpoint_is_refused(checkpoint):
    with pytest.raises(UserError, match=r"lite0\.pth.*no weights of efficientnet_lite2.*shapes"):
        EfficientnetLite("lite2", EfficientnetLite.Config(weights=str(checkpoint))).build(64)
    with pytest.raises(UserError, match=r"lite0\.pth.*no weights of efficientnet_lite1.*shapes|no tensor"):
        EfficientnetLite("lite1", EfficientnetLite.Config(weights=str(checkpoint))).build(64)


# Deselected (see conftest.py) when the weights are not in the cache.
@pytest.mark.parametrize("cached_weights", list(REAL))
def test_the_real_weights_give_torchs_logits(cached_weights):
    size, golden = REAL[cached_weights]
    np.testing.assert_allclose(logits(cached_weights.partition(":")[2], "imagenet", size)[::100], golden, atol=1e-4)
