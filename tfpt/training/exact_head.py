"""A head that is one linear layer on a frozen trunk, solved as what it is: multinomial logistic regression."""

import dataclasses
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfpt.console import Console
from tfpt.cores import cores
from tfpt.errors import UserError
from tfpt.training.cached_features import CachedFeatures
from tfpt.training.checkpoints import BEST, Checkpoints
from tfpt.training.loop import Hooks, Progress, Stage

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths of regularisation (scikit-learn's C) that are compared, on standardised features."""
_FOLDS = 5
_CHECKED = 64
_ITERATIONS = 1000
_ABSENT = -10.0
"""Logit below the others' biases of a class without a training example."""
_FLAG = "--train.head_solver=exact"


def solve(
    stage: Stage,
    progress: Progress,
    features: CachedFeatures,
    *,
    seed: int,
    saver: Checkpoints,
    console: Console,
    hooks: Hooks,
) -> None:
    """Solves the stage's head and evaluates it; afterwards the stage is at its end.

    Args:
        stage: whose model is the head on kept features.
        progress: is moved to the end of the stage.
        features: of the training examples; only the first view is read.
        seed: of the folds.
        saver: keeps the state.
        console: hears which strength was chosen.
        hooks: get the rows of history.

    Raises:
        UserError: the head is not one linear layer with cross-entropy.
    """
    started = time.monotonic()
    kernel, bias = _linear(stage)
    if stage.plan.sampling != "natural":
        raise UserError(f"{_FLAG} sees each example once; write --input.sampling=natural, or gradient.")
    batch = features.whole(stage.plan.examples)
    values, labels = _checked(stage, batch, kernel, bias)
    weight = batch["weight"].numpy()
    there = weight > 0
    found_kernel, found_bias, told = logistic_regression(
        values[there],
        labels[there],
        weight[there],
        classes=bias.shape[0],
        seed=seed,
    )
    kernel.assign(found_kernel)
    bias.assign(found_bias)
    if stage.averages:
        for average, variable in zip(stage.averages.averages, stage.averages.followed, strict=True):
            average.assign(variable)
    loss_sum, weight_sum, _ = stage.task.loss(stage.model, batch, False)
    done = stage.steps - progress.step
    progress.step += done
    progress.total_steps += done
    progress.seconds += time.monotonic() - started
    console.say(f"The head was solved exactly on {int(there.sum()):,} examples: {told}.")
    _add_row(stage, progress, hooks, split="train", values={"loss": float(loss_sum / weight_sum)})
    if stage.evaluate:
        metrics = stage.evaluate(lambda: None, console)
        progress.best = {**metrics, "total_steps": progress.total_steps}
        progress.evaluated = progress.total_steps
        saver.save(progress.order, [v.value for v in stage.model.variables], {}, name=BEST)
        _add_row(stage, progress, hooks, split="validation", values={**metrics, "best": True})
    saver.save(progress.order, stage.variables(), dataclasses.asdict(progress))
    hooks.status(progress)


def logistic_regression(
    features: np.ndarray, labels: np.ndarray, weight: np.ndarray, *, classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """Fits multinomial logistic regression by L-BFGS on standardised features; the strength is cross-validated.

    Args:
        features: `[examples, width]` float32.
        labels: `[examples]` integers.
        weight: `[examples]`.
        classes: how many there are, with or without an example.
        seed: of the folds.

    Returns:
        Kernel `[width, classes]` and bias `[classes]`, for features as they are, and what was chosen, in words.

    Raises:
        UserError: there are examples of one class only.
    """
    import threadpoolctl
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    present, counts = np.unique(labels, return_counts=True)
    if len(present) < 2:
        raise UserError(f"{_FLAG}: the training examples are all of one class; write gradient, or give more data.")
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    scale = 1.0 / np.where(deviation > 1e-6 * max(float(deviation.max()), 1e-30), deviation, np.inf)
    standard = ((features - mean) * scale).astype(np.float32)

    def path(rows: np.ndarray, strengths: tuple[float, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
        model = LogisticRegression(max_iter=_ITERATIONS, warm_start=True)
        found = []
        for strength in strengths:  # from strong to weak, each from where the one before ended
            model.set_params(C=strength).fit(standard[rows], labels[rows], weight[rows])
            found.append((model.coef_.copy(), model.intercept_.copy()))
        return found

    def loss(fitted: tuple[np.ndarray, np.ndarray], rows: np.ndarray) -> float:
        logits = _logits(standard[rows], *fitted)
        top = logits.max(axis=1, keepdims=True)
        total = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
        own = logits[np.arange(len(rows)), np.searchsorted(present, labels[rows])]
        return float(((total - own) * weight[rows]).sum())

    def losses_of(rows: np.ndarray, held: np.ndarray) -> list[float]:
        return [loss(one, held) for one in path(rows, STRENGTHS)]

    everything = np.arange(len(labels))
    folds = min(_FOLDS, int(counts.min()))
    # Matrices of this size are multiplied ten times as fast by one thread as by several that wait for each other; the folds
    # are what runs side by side.
    with warnings.catch_warnings(), threadpoolctl.threadpool_limits(1), ThreadPoolExecutor(cores()) as threads:
        warnings.simplefilter("ignore")  # of weak strengths that need more iterations; they are compared all the same
        if folds < 2:
            best, told = len(STRENGTHS) - 1, "C = 1, as a class has one example only"
        else:
            split = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32).split(standard, labels)
            losses = np.sum(list(threads.map(lambda parts: losses_of(*parts), split)), axis=0)
            best = int(losses.argmin())
            told = (
                f"C = {STRENGTHS[best]:g}, cross-validated log loss {losses[best] / weight.sum():.4f} in {folds} folds"
            )
        coefficients, intercept = path(everything, STRENGTHS[: best + 1])[-1]
    if len(present) == 2:
        coefficients, intercept = np.concatenate([-coefficients, coefficients]) / 2, np.array([-1, 1]) * intercept / 2
    kernel = np.zeros((features.shape[1], classes), np.float32)
    bias = np.full(classes, intercept.min() + _ABSENT, np.float32)
    kernel[:, present] = coefficients.T * scale[:, None]
    bias[present] = intercept - (mean * scale) @ coefficients.T
    if len(present) < classes:
        bias[np.setdiff1d(np.arange(classes), present)] = bias[present].min() + _ABSENT
    return kernel, bias, told


def _logits(features: np.ndarray, coefficients: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    logits = np.asarray(features, np.float64) @ coefficients.T + intercept
    return np.concatenate([-logits, logits], axis=1) / 2 if logits.shape[1] == 1 else logits


def _linear(stage: Stage) -> tuple[keras.Variable, keras.Variable]:
    variables = stage.model.trainable_variables
    if [len(v.shape) for v in variables] != [2, 1] or variables[0].shape[1] != variables[1].shape[0]:
        raise UserError(f"{_FLAG} is for a head that is one linear layer on a frozen backbone; write gradient.")
    return variables[0], variables[1]


def _checked(
    stage: Stage, batch: dict[str, Any], kernel: keras.Variable, bias: keras.Variable
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the layer's inputs, `[examples, width]` float32, and classes, `[examples]`, if the task's loss is the
    cross-entropy of what the layer makes of them; that is tried, with random weights."""
    inputs, targets = tf.nest.flatten(batch["inputs"]), batch.get("targets")
    classes = bias.shape[0]
    if tf.is_tensor(targets) and targets.shape.rank == 1 and targets.dtype.is_integer:  # type: ignore[union-attr]
        targets = tf.one_hot(targets, classes)
    shares = targets.numpy() if tf.is_tensor(targets) else np.empty(0)  # type: ignore[union-attr]
    fits = len(inputs) == 1 and inputs[0].shape[1:] == kernel.shape[:1] and shares.shape[1:] == (classes,)
    if fits:
        before, few = kernel.numpy(), tf.nest.map_structure(lambda t: t[:_CHECKED], batch)
        tried = tf.cast(inputs[0][:_CHECKED], tf.float32)
        size = 3.0 / max(
            float(tf.reduce_mean(tf.norm(tried, axis=1))), 1e-12
        )  # logits of about 3, whatever the features are
        kernel.assign(np.random.default_rng(0).normal(0, size, kernel.shape))
        logits = tried @ kernel.value + bias.value
        losses = tf.nn.softmax_cross_entropy_with_logits(shares[:_CHECKED], logits)
        wanted = tf.reduce_sum(losses * tf.cast(few["weight"], tf.float32))
        loss_sum, weight_sum, _ = stage.task.loss(stage.model, few, True)
        kernel.assign(before)
        fits = bool(np.isclose(loss_sum, wanted, rtol=1e-3, atol=1e-3 * float(weight_sum)))
    if not fits or not np.all(shares.max(axis=1) == 1):
        raise UserError(
            f"{_FLAG} is for the plain cross-entropy of a linear layer; do without dropout, label smoothing, class weights and other "
            "losses, or write gradient."
        )
    return tf.cast(inputs[0], tf.float32).numpy(), shares.argmax(axis=1)


def _add_row(stage: Stage, progress: Progress, hooks: Hooks, *, split: str, values: dict[str, float]) -> None:
    row = {
        "stage": stage.name,
        "epoch": float(stage.epochs),
        "step": progress.step,
        "total_steps": progress.total_steps,
        "split": split,
        **values,
        "seconds": round(progress.seconds, 2),
    }
    progress.history.append(row)
    hooks.row(row)
