import keras

from tfpt.backbones import _functional


def names(layers):
    return [layer.name for layer in layers]


def residual():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    y = keras.layers.Conv2D(4, 3, padding="same", name="branch")(x)
    y = keras.layers.BatchNormalization(name="branch_bn")(y)
    x = keras.layers.Add(name="add")([x, y])
    x = keras.layers.Conv2D(2, 1, name="last")(x)
    return keras.Model(inputs, [x, keras.layers.Flatten(name="aside")(y)])


def test_a_cut_is_passed_by_nothing():
    model = residual()
    assert names(_functional.cuts(model, model.outputs[0])) == ["stem", "add"]
    # Only what leads to the output in question counts.
    assert names(_functional.cuts(model, model.outputs[1])) == ["stem", "branch", "branch_bn"]


def test_a_layer_that_is_called_twice_is_no_cut():
    inputs = keras.Input((4,))
    twice = keras.layers.Dense(4, name="twice")
    x = keras.layers.Dense(4, name="between")(twice(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(twice(x)))
    assert names(_functional.cuts(model, model.outputs[0])) == ["between"]


def test_other_models_over_the_same_layers_do_not_mislead():
    model = residual()
    keras.Model(model.inputs, model.get_layer("add")([model.get_layer("stem").output, model.get_layer("stem").output]))
    assert names(_functional.cuts(model, model.outputs[0])) == ["stem", "add"]


def test_groups_follow_the_cuts_and_normalisation_its_convolution():
    model = residual()
    assert [names(group) for group in _functional.groups(model, model.outputs[0])] == [
        ["stem"],
        ["branch", "branch_bn"],
        ["last"],
    ]


def test_a_bare_operation_ends_a_group_but_is_no_cut():
    inputs = keras.Input((8, 8, 3))
    x = inputs
    for k in range(2):
        y = keras.layers.Conv2D(3, 3, padding="same", name=f"first_{k}")(x)
        x = keras.ops.add(x, keras.layers.Conv2D(3, 1, name=f"second_{k}")(y))
    model = keras.Model(inputs, keras.layers.Flatten()(x))
    assert _functional.cuts(model, model.outputs[0]) == []
    assert [names(group) for group in _functional.groups(model, model.outputs[0])] == [
        ["first_0", "second_0"],
        ["first_1", "second_1"],
    ]
