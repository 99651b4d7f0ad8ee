import numpy as np
import pytest

from tfpt.backbones.efficientnet_lite import EfficientnetLite
from tfpt.errors import UserError


def test_unknown_variants_and_files(tmp_path):
    with pytest.raises(UserError, match=r"lite7.*lite0, lite1, lite2"):
        EfficientnetLite("lite7")
    for name, said in ((str(tmp_path / "absent.pth"), "no such file"), ("weights.txt", "ends in")):
        with pytest.raises(UserError, match=said):
            EfficientnetLite("lite0", EfficientnetLite.Config(weights=name))
    (tmp_path / "notes.weights.h5").write_text("no hdf5")
    with pytest.raises(UserError, match=r"notes\.weights\.h5: these are no weights of efficientnet_lite0") as raised:
        EfficientnetLite("", EfficientnetLite.Config(weights=str(tmp_path / "notes.weights.h5"))).build(32)
    assert "\n" not in str(raised.value)


def test_keras_weights_come_back(tmp_path):
    made = EfficientnetLite("lite0", EfficientnetLite.Config(weights="none")).build(32)
    made.save_weights(tmp_path / "own.weights.h5")
    again = EfficientnetLite("lite0", EfficientnetLite.Config(weights=str(tmp_path / "own.weights.h5"))).build(64)
    for one, other in zip(made.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("variant", "blocks"), [("lite0", 16), ("lite1", 21), ("lite2", 21)])
def test_groups_and_cuts_are_the_blocks(variant, blocks):
    backbone = EfficientnetLite(variant, EfficientnetLite.Config(weights="none"))
    model = backbone.build(64)
    assert [level.shape[1] for level in model.output["levels"]] == [16, 8, 4, 2]
    groups = [{layer.name.partition("_")[0] for layer in group} for group in backbone.groups(model)]
    assert groups == [{"stem"}, *({f"block{k}"} for k in range(blocks)), {"head"}]
    assert [cut.partition("_")[0] for cut in backbone.cuts(model)] == ["stem", *(f"block{k}" for k in range(blocks))]
