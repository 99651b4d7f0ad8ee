"""A trunk without a network, for tests of tasks: its inputs are the endpoints."""

import keras


class GivenTrunk(keras.layers.Layer):
    def __init__(self, shapes, *, name="trunk"):
        super().__init__(name=name, dtype="float32")
        self.shapes = dict(shapes)

    def host_input(self):
        return {name: keras.Input(shape, name=name) for name, shape in self.shapes.items()}

    def call(self, inputs):
        return dict(inputs)
