"""A task outside tfpt: it classifies texts by the mean of their tokens' vectors, padding included."""

from tfpt.tasks.text_classification import TextClassification


class ToyMean(TextClassification):
    endpoints = ("sequence",)

    def build(self, trunks, state):
        import keras

        (trunk,) = trunks.values()
        inputs = trunk.host_input()
        pooled = keras.layers.GlobalAveragePooling1D()(trunk(inputs)["sequence"])
        model = keras.Model(inputs, keras.layers.Dense(len(state["classes"]), name="head")(pooled))
        model.label_kind, model.class_weights = "single", ()
        return model
