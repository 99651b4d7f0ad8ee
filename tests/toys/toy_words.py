"""A text trunk outside tfpt: hashed words, their vectors, and the mean of these."""

from tfpt.backbones import Backbone, Spec

WIDTH = 6
INPUTS = {"ids": "token_ids", "mask": "padding_mask"}


class ToyWords(Backbone):
    def spec(self):
        endpoints = {"pooled": (WIDTH,), "sequence": (None, WIDTH)}
        return Spec(modality="text", size=12, value_range=(0, 49), endpoints=endpoints)

    def preprocessor(self, options):
        from tfpt.layers.hashed_words import HashedWords
        from tfpt.preprocessors.text import Text

        size = self.spec().size if options.max_length == "auto" else options.max_length
        tokenizer = HashedWords(buckets=50, reserved=2)
        return Text(size=size, tokenizer=tokenizer, before=(0,), between=(1,), after=(1,), inputs=INPUTS)

    def build(self, size):
        import keras

        from tfpt.layers.sequence_pooling import SequencePooling

        inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in INPUTS.values()}
        vectors = keras.layers.Embedding(50, WIDTH, embeddings_initializer="normal", name="words")(inputs["token_ids"])
        sequence = keras.layers.Dense(WIDTH, activation="relu", name="mixed")(vectors)
        pooled = SequencePooling("mean", name="pooling")(sequence, inputs["padding_mask"])
        return keras.Model(inputs, {"pooled": pooled, "sequence": sequence}, name="toy_words")

    def groups(self, model):
        return [[model.get_layer("words")], [model.get_layer("mixed")]]
