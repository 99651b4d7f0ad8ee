"""A task outside tfpt: two trunks learn that the pictures of a pair belong together (InfoNCE, van den Oord et al., 2018)."""

from tfpt.tasks import Primary, Task

TEMPERATURE = 0.1


class PairContrast(Task):
    primary = Primary("retrieved")

    def batch(self, features, frame, state, training):
        inputs = {"left": features["left"], "right": features["right"]}
        return {"inputs": inputs, "weight": features["weight"]}

    def build(self, trunks, state):
        import keras

        inputs = {name: trunk.host_input() for name, trunk in trunks.items()}
        outputs = {
            name: keras.layers.Dense(16, name=f"{name}_projection")(trunk(inputs[name])["pooled"])
            for name, trunk in trunks.items()
        }
        return keras.Model(inputs, outputs, name="pair_contrast")

    def loss(self, model, batch, training):
        import tensorflow as tf

        outputs = model(batch["inputs"], training=training)
        weight = batch["weight"]
        left, right = (tf.math.l2_normalize(outputs[name], -1) for name in ("left", "right"))
        logits = tf.matmul(left, right, transpose_b=True) / TEMPERATURE
        logits += tf.where(weight > 0, 0.0, -1e9)[tf.newaxis]  # a filler is nobody's negative
        own = tf.range(tf.shape(logits)[0])
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(own, logits)
        return tf.reduce_sum(tf.where(weight > 0, losses, 0.0)), tf.reduce_sum(weight), outputs

    def statistics(self, outputs, batch, state):
        import tensorflow as tf

        return {name: tf.math.l2_normalize(value, -1) for name, value in outputs.items()}

    def metrics(self, statistics, state):
        import numpy as np

        nearest = (statistics["left"] @ statistics["right"].T).argmax(axis=1)
        return {"retrieved": float((nearest == np.arange(len(nearest))).mean())}

    def decode(self, outputs, frame, state):
        import tensorflow as tf

        left, right = (tf.math.l2_normalize(outputs[name], -1) for name in ("left", "right"))
        return {"similarity": tf.reduce_sum(left * right, -1)}
