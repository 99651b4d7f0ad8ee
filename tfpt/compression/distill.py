"""Distillation: a smaller backbone learns from what the model says, and not from the labels alone.

Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv:1503.02531). Logits are compared in
standard deviations (Sun, Ren, Li, Wang & Cao, "Logit Standardization in Knowledge Distillation", CVPR 2024): a model that was
trained to its end has logits far apart, and a student that has to follow them there learns little else for long.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.compression import Compression, Options
from tfpt.compression._around import as_sum, with_methods
from tfpt.config import DEFAULT_TRUNK, Component, Experiment, Train
from tfpt.tasks import Task

if TYPE_CHECKING:
    from tfpt.compression._subject import Subject
    from tfpt.console import Console
    from tfpt.training.setting import Setting

HEAD_FACTOR = 4.0
"""On the learning rate of the student's head, at least: it starts at zero, and logits have far to go in few updates."""
LEAST_SPREAD = 0.01
"""Of standardised logits: those of a student that has learned nothing are all equal."""
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
        """Returns the model's own settings with the student as backbone, all of whose weights train."""
        original, options = subject.experiment, self.options
        if set(original.backbone) != {DEFAULT_TRUNK} or not hasattr(subject.servable.task, "kinds"):
            raise self.refuse(
                f"--task={original.task} cannot be distilled; tasks with one backbone and a label an example can: "
                "image_classification, image_regression, text_classification."
            )
        train = dataclasses.replace(
            original.train,
            epochs=options.epochs or _epochs(original.train),
            unfreeze="all",
            init_from="",
            head_solver="gradient",
            lora_rank=0,  # a student that starts at random has nothing that adapters could adapt
            seeds=(),
        )
        optim = dataclasses.replace(
            original.optim,
            learning_rate=options.learning_rate or original.optim.learning_rate,
            head_multiplier=max(HEAD_FACTOR, original.optim.head_multiplier),
        )
        given = original.input
        if options.image_size:
            given = dataclasses.replace(given, image_size=options.image_size)
        student = {DEFAULT_TRUNK: Component.parse("backbone", options.student)}
        return dataclasses.replace(original, backbone=student, train=train, optim=optim, input=given)

    def adapt(self, setting: "Setting", subject: "Subject", *, console: "Console") -> "Setting":
        """Returns the same with what the model says in each example, and a task that learns from it."""
        from tfpt.augment import Op
        from tfpt.compression._matching import TEACHER_FEATURES, matched
        from tfpt.compression._teacher import TaughtSource, answers_of
        from tfpt.training.prepared import Prepared

        options = self.options
        mixing = [type(op).__name__ for op in setting.ops if type(op).batch is not Op.batch]
        if mixing:
            raise self.refuse(
                f"{mixing[0]} mixes examples, which the model did not answer; train it with another --input.augment."
            )
        tables = answers_of(subject, setting, features=options.feature_weight > 0, console=console)
        source = TaughtSource(setting.source, tables)
        prepared = Prepared(source, setting.prepared.preprocessors, threads=setting.prepared.threads)
        task = taught(
            setting.task,
            kind=setting.state.get("labels", "single"),
            temperature=options.temperature,
            soft_weight=options.soft_weight,
            standardize=options.standardize,
        )
        if TEACHER_FEATURES in tables:
            done = any(Path(setting.experiment.output.run_dir).glob("checkpoints/final-*"))
            width = tables[TEACHER_FEATURES].shape[1]
            task = matched(task, width=width, weight=options.feature_weight, learns=not done)
        return dataclasses.replace(setting, task=task, source=source, prepared=prepared)


def _epochs(train: Train) -> int:
    """Returns how long all of a model trained; of one that was its head alone, how long that did."""
    if train.unfreeze == "none":
        return train.head_epochs + train.epochs
    return train.epochs or train.head_epochs


def taught(task: Task, *, kind: str, temperature: float, soft_weight: float, standardize: bool = False) -> Task:
    """Returns a task that also learns from the feature `teacher`, `[batch, width]`: another model's outputs.

    Args:
        task: what is learned, a label an example.
        kind: of label: `single`, `multi` or `values`.
        temperature: what logits are divided by.
        soft_weight: share of the teacher in the loss.
        standardize: as for `soft_losses`.
    """

    def batch(features: Any, frame: Any, state: Any, training: bool) -> dict[str, Any]:
        made = dict(task.batch(features, frame, state, training))
        return {**made, "targets": {"own": made["targets"], TEACHER: features[TEACHER]}}

    def own(batch: Any) -> dict[str, Any]:
        return {**batch, "targets": batch["targets"]["own"]}

    def loss(model: Any, batch: Any, training: bool) -> tuple[Any, Any, Any]:
        hard, weights, outputs = task.loss(model, own(batch), training)
        said = batch["targets"][TEACHER]
        soft = soft_losses(outputs, said, kind=kind, temperature=temperature, standardize=standardize)
        soft = as_sum(soft, batch, weights)
        return (1.0 - soft_weight) * hard + soft_weight * soft, weights, outputs

    def statistics(outputs: Any, batch: Any, state: Any) -> dict[str, Any]:
        return task.statistics(outputs, own(batch), state)

    return with_methods(task, batch=batch, loss=loss, statistics=statistics)


def soft_losses(outputs: Any, teacher: Any, *, kind: str, temperature: float, standardize: bool = False) -> Any:
    """Returns how far each example's outputs are from the teacher's, `[batch]`.

    For classes it is the Kullback-Leibler divergence at the temperature, times its square, which keeps gradients as large as those
    of the labels (Hinton et al., section 2.1); for numbers the mean squared error.

    Args:
        outputs: of the student, `[batch, width]`.
        teacher: what the teacher put out, likewise.
        kind: of label: `single`, `multi` or `values`.
        temperature: what logits are divided by.
        standardize: take each example's logits, of at least three classes, in standard deviations from their mean, and the
            divergence times the student's standard deviation.
    """
    import tensorflow as tf

    if kind == "values":
        return tf.reduce_mean(tf.square(outputs - teacher), axis=-1)
    size: Any = 1.0
    if standardize and kind == "single" and outputs.shape[-1] > 2:  # of two there is nothing left but which is higher
        (outputs, size), (teacher, _) = _standardized(outputs), _standardized(teacher)
        size = tf.stop_gradient(size)  # which gradients are otherwise divided by, unlike those of the labels
    ours, theirs = outputs / temperature, teacher / temperature
    if kind == "multi":
        wanted = tf.sigmoid(theirs)
        cross = tf.nn.sigmoid_cross_entropy_with_logits(wanted, ours)
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(wanted, theirs)
        return temperature**2 * tf.reduce_mean(cross - entropy, axis=-1)
    wanted = tf.nn.softmax(theirs)
    cross = tf.nn.softmax_cross_entropy_with_logits(wanted, ours)
    entropy = tf.nn.softmax_cross_entropy_with_logits(wanted, theirs)
    return size * temperature**2 * (cross - entropy)


def _standardized(logits: Any) -> tuple[Any, Any]:
    """Returns each example's logits in standard deviations from their mean, and the standard deviation, `[batch]`."""
    import tensorflow as tf

    mean, variance = tf.nn.moments(logits, axes=[-1], keepdims=True)
    spread = tf.sqrt(variance + LEAST_SPREAD**2)
    return (logits - mean) / spread, spread[:, 0]
