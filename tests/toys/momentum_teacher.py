"""A task outside tfpt: a student learns to see a second view as its momentum teacher sees the first.

After BYOL (Grill et al., "Bootstrap your own latent", 2020): the loss is 2 - 2 cos, the teacher an average of the student.
"""

import dataclasses

from tfpt.config import setting
from tfpt.tasks import Primary, Task


class MomentumTeacher(Task):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        momentum: float = setting(0.8, "Share of the teacher that stays at each update.")

    primary = Primary("agreement")
    default_augment = "random_crop(pad=4)|flip"
    caches_features = False

    def batch(self, features, frame, state, training):
        return {"inputs": features["image"], "weight": features["weight"]}

    def build(self, trunks, state):
        import keras

        (trunk,) = trunks.values()
        teacher = trunk.clone("teacher")
        teacher.trainable = False
        inputs = trunk.host_input()
        student = trunk(inputs)["pooled"]
        student = keras.layers.Dense(student.shape[-1], name="predictor")(student)
        return keras.Model(inputs, {"student": student, "teacher": teacher(inputs)["pooled"]}, name="momentum_teacher")

    def loss(self, model, batch, training):
        import tensorflow as tf

        views = batch["inputs"] if training else tf.stack([batch["inputs"]] * 2, axis=1)
        assert views.shape.rank == 5 and views.shape[1] == 2
        seen = model(tf.reshape(views, [-1, *views.shape[2:]]), training=training)
        seen = {name: tf.reshape(value, [-1, 2, value.shape[-1]]) for name, value in seen.items()}
        losses = 2 - 2 * _cosine(seen["student"], tf.stop_gradient(seen["teacher"])[:, ::-1])
        outputs = {name: value[:, 0] for name, value in seen.items()}
        return tf.reduce_sum(tf.reduce_mean(losses, 1) * batch["weight"]), tf.reduce_sum(batch["weight"]), outputs

    def after_update(self, model, step):
        student, teacher = model.get_layer("trunk"), model.get_layer("teacher")
        for mine, its in zip(student.variables, teacher.variables, strict=True):
            its.assign(self.config.momentum * its + (1 - self.config.momentum) * mine)

    def statistics(self, outputs, batch, state):
        return {"cosine": _cosine(outputs["student"], outputs["teacher"])}

    def metrics(self, statistics, state):
        return {"agreement": float(statistics["cosine"].mean())}

    def decode(self, outputs, frame, state):
        import tensorflow as tf

        return {"embedding": tf.math.l2_normalize(outputs["student"], -1)}


def _cosine(a, b):
    import tensorflow as tf

    return tf.reduce_sum(tf.math.l2_normalize(a, -1) * tf.math.l2_normalize(b, -1), -1)
