"""Feature matching: what the student's head reads comes to tell, through a linear map, what the teacher's head reads.

Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015 (arXiv:1412.6550), with the pooled features as the hint. The map
learns along with the student and is thrown away with the last update: the result is the student alone.
"""

from collections.abc import Mapping
from typing import Any

from tfpt.compression._around import as_sum, with_methods
from tfpt.tasks import State, Task

TEACHER_FEATURES = "teacher_features"
"""The feature of an example that holds the model's pooled features for it, `[width]`, less their mean."""


def matched(task: Task, *, width: int, weight: float, learns: bool = True) -> Task:
    """Returns a task whose model also has a linear map from its trunk's pooled features to the teacher's.

    Args:
        task: what is learned, on one trunk.
        width: of the teacher's features.
        weight: of the cosine distance between both in the loss, beside what `task` has.
        learns: whether there is anything left to learn; without, the model has no such map.
    """
    whole: dict[int, Any] = {}
    there = learns

    def batch(features: Any, frame: Any, state: State, training: bool) -> dict[str, Any]:
        made = dict(task.batch(features, frame, state, training))
        return {**made, "targets": {**made["targets"], TEACHER_FEATURES: features[TEACHER_FEATURES]}}

    def build(trunks: Mapping[str, Any], state: State) -> Any:
        import keras

        ((name, trunk),) = trunks.items()
        seen = _Seen(trunk)
        model = task.build({name: seen}, state)
        if there:
            shape = (seen.pooled.shape[-1], width)
            model.teacher_map = keras.Variable(keras.initializers.GlorotUniform()(shape), name="teacher_map")
            whole[id(model)] = model, keras.Model(model.input, {"outputs": model.output, "pooled": seen.pooled})
        return model

    def loss(model: Any, batch: Any, training: bool) -> tuple[Any, Any, Any]:
        import tensorflow as tf

        calling = _Calling(*whole[id(model)])
        total, weights, outputs = task.loss(calling, batch, training)
        found = tf.math.l2_normalize(tf.matmul(calling.pooled, model.teacher_map), axis=-1)
        wanted = tf.math.l2_normalize(batch["targets"][TEACHER_FEATURES], axis=-1)
        distance = 1.0 - tf.reduce_sum(found * wanted, axis=-1)
        return total + weight * as_sum(distance, batch, weights), weights, outputs

    def finish(model: Any, source: Any) -> None:
        nonlocal there
        task.finish(model, source)
        if there:
            there = False  # what is built from now on is the student alone
            del model.teacher_map
            whole.clear()

    return with_methods(task, batch=batch, build=build, loss=loss, finish=finish)


class _Seen:
    """A trunk that remembers the pooled features of the symbolic batch that it is called on."""

    def __init__(self, trunk: Any) -> None:
        self._trunk = trunk
        self.pooled: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trunk, name)

    def __call__(self, inputs: Any, **more: Any) -> Any:
        outputs = self._trunk(inputs, **more)
        self.pooled = outputs["pooled"]
        return outputs


class _Calling:
    """A model for the loss of a task, which calls it once; keeps the pooled features of that call."""

    def __init__(self, model: Any, whole: Any) -> None:
        self._model, self._whole = model, whole
        self.pooled: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, inputs: Any, training: bool = False) -> Any:
        found = self._whole(inputs, training=training)
        self.pooled = found["pooled"]
        return found["outputs"]
