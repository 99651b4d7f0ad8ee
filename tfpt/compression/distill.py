"""Distillation: a smaller backbone learns from what the model says, and not from the labels alone.

Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv:1503.02531).
"""

import dataclasses
from typing import TYPE_CHECKING, Any

from tfpt.compression import Compression, Options
from tfpt.compression._around import with_methods
from tfpt.config import DEFAULT_TRUNK, Component, Experiment
from tfpt.tasks import Task

if TYPE_CHECKING:
    from tfpt.compression._subject import Subject
    from tfpt.console import Console
    from tfpt.training.setting import Setting

TEACHER = "teacher"
"""The feature of an example that holds the model's outputs for it."""


class Distill(Compression):
    """A bundle with another backbone, `--compress.student`, that learned from the model: `distill`.

    The loss is `soft_weight` times the cross-entropy between what both say at a temperature, times its square, plus the rest times
    the loss of the labels. The model answers each example once, without random changes.
    """

    trains = True

    def __init__(self, argument: str = "", options: Options | None = None) -> None:
        super().__init__(argument, options)
        if argument:
            raise self.refuse("write distill alone, and the student as --compress.student=BACKBONE.")

    def experiment(self, subject: "Subject") -> Experiment:
        """Returns the model's own settings with the student as backbone."""
        original, options = subject.experiment, self.options
        if set(original.backbone) != {DEFAULT_TRUNK} or not hasattr(subject.servable.task, "kinds"):
            raise self.refuse(
                f"--task={original.task} cannot be distilled; tasks with one backbone and a label an example can: "
                "image_classification, image_regression, text_classification."
            )
        train = dataclasses.replace(
            original.train,
            epochs=options.epochs or original.train.epochs,
            init_from="",
            head_solver="gradient",
            lora_rank=0,  # a student that starts at random has nothing that adapters could adapt
            seeds=(),
        )
        if options.epochs and train.unfreeze == "none":
            train = dataclasses.replace(train, unfreeze="all")
        optim = original.optim
        if options.learning_rate:
            optim = dataclasses.replace(optim, learning_rate=options.learning_rate)
        given = original.input
        if options.image_size:
            given = dataclasses.replace(given, image_size=options.image_size)
        student = {DEFAULT_TRUNK: Component.parse("backbone", options.student)}
        return dataclasses.replace(original, backbone=student, train=train, optim=optim, input=given)

    def adapt(self, setting: "Setting", subject: "Subject", *, console: "Console") -> "Setting":
        """Returns the same with the model's outputs in each example, and a task that learns from them."""
        from tfpt.augment import Op
        from tfpt.compression._teacher import TaughtSource, outputs_of
        from tfpt.training.prepared import Prepared

        mixing = [type(op).__name__ for op in setting.ops if type(op).batch is not Op.batch]
        if mixing:
            raise self.refuse(
                f"{mixing[0]} mixes examples, which the model did not answer; train it with another --input.augment."
            )
        table = outputs_of(subject, setting, console=console)
        source = TaughtSource(setting.source, table)
        prepared = Prepared(source, setting.prepared.preprocessors, threads=setting.prepared.threads)
        task = taught(
            setting.task,
            kind=setting.state.get("labels", "single"),
            temperature=self.options.temperature,
            soft_weight=self.options.soft_weight,
        )
        return dataclasses.replace(setting, task=task, source=source, prepared=prepared)


def taught(task: Task, *, kind: str, temperature: float, soft_weight: float) -> Task:
    """Returns a task that also learns from the feature `teacher`, `[batch, width]`: another model's outputs.

    Args:
        task: what is learned, a label an example.
        kind: of label: `single`, `multi` or `values`.
        temperature: what logits are divided by.
        soft_weight: share of the teacher in the loss.
    """

    def batch(features: Any, frame: Any, state: Any, training: bool) -> dict[str, Any]:
        made = dict(task.batch(features, frame, state, training))
        return {**made, "targets": {"own": made["targets"], TEACHER: features[TEACHER]}}

    def own(batch: Any) -> dict[str, Any]:
        return {**batch, "targets": batch["targets"]["own"]}

    def loss(model: Any, batch: Any, training: bool) -> tuple[Any, Any, Any]:
        import tensorflow as tf

        hard, weights, outputs = task.loss(model, own(batch), training)
        weight = tf.cast(batch["weight"], tf.float32)
        soft = tf.reduce_sum(
            soft_losses(outputs, batch["targets"][TEACHER], kind=kind, temperature=temperature) * weight
        )
        # Both are means times the same sum of weights, so that replicas and accumulation add up.
        soft *= weights / tf.maximum(tf.reduce_sum(weight), 1e-12)
        return (1.0 - soft_weight) * hard + soft_weight * soft, weights, outputs

    def statistics(outputs: Any, batch: Any, state: Any) -> dict[str, Any]:
        return task.statistics(outputs, own(batch), state)

    return with_methods(task, batch=batch, loss=loss, statistics=statistics)


def soft_losses(outputs: Any, teacher: Any, *, kind: str, temperature: float) -> Any:
    """Returns how far each example's outputs are from the teacher's, `[batch]`.

    For classes it is the Kullback-Leibler divergence at the temperature, times its square, which keeps gradients as large as those
    of the labels (Hinton et al., section 2.1); for numbers the mean squared error.
    """
    import tensorflow as tf

    if kind == "values":
        return tf.reduce_mean(tf.square(outputs - teacher), axis=-1)
    ours, theirs = outputs / temperature, teacher / temperature
    if kind == "multi":
        wanted = tf.sigmoid(theirs)
        cross = tf.nn.sigmoid_cross_entropy_with_logits(wanted, ours)
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(wanted, theirs)
        return temperature**2 * tf.reduce_mean(cross - entropy, axis=-1)
    wanted = tf.nn.softmax(theirs)
    cross = tf.nn.softmax_cross_entropy_with_logits(wanted, ours)
    entropy = tf.nn.softmax_cross_entropy_with_logits(wanted, theirs)
    return temperature**2 * (cross - entropy)
