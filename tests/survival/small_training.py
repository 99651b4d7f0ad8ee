"""What several replicas do to updates, without all that `tfpt train` does around: a small network, a few updates."""

import json

import numpy as np

STEPS, BATCH = 4, 8


def train(argv):
    """Trains on the devices that are asked for, and the first process writes losses, variables and the examples it saw.

    Args:
        argv: settings of Runtime as JSON, the file to write, and flags, of which those of several workers count.
    """
    import keras
    import tensorflow as tf

    from tfpt.config import Optim, Runtime
    from tfpt.tasks import Primary, Task
    from tfpt.training import strategies
    from tfpt.training.averages import Averages
    from tfpt.training.steps import compiled_steps
    from tfpt.training.updates import RateGroup, Updates

    class Three(Task):
        primary = Primary("loss", higher_is_better=False)

        def losses(self, outputs, targets):
            return keras.losses.sparse_categorical_crossentropy(targets, outputs, from_logits=True)

    options, file, *flags = argv
    settings, given = json.loads(options), dict(flag.split("=", 1) for flag in flags)
    if "--runtime.workers" in given:
        settings["workers"] = tuple(given["--runtime.workers"].split(","))
        settings["worker"] = int(given["--runtime.worker"])
    together = strategies.start(Runtime(**settings))
    draw = np.random.default_rng(0)
    rows = {
        "inputs": draw.normal(size=(STEPS, BATCH, 6)).astype("float32"),
        "targets": draw.integers(0, 3, (STEPS, BATCH)),
        "weight": (draw.random((STEPS, BATCH)) < 0.8).astype("float32"),
        "example": np.arange(STEPS * BATCH).reshape(STEPS, BATCH),
        "ok": draw.random((STEPS, BATCH)) < 0.9,
    }
    with together.scope():
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(8), keras.layers.BatchNormalization(momentum=0.5), keras.layers.ReLU()]
        model = keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(3)])
        if together.replicas > 1:
            strategies.synchronise_batch_norm(model)
        groups = [
            RateGroup(1.0, tuple(layers[0].trainable_variables)),
            RateGroup(0.5, tuple(model.trainable_variables[2:])),
        ]
        updates = Updates(groups, Optim(name="sgd", clip_norm=0.5, warmup=0.0), learning_rate=0.3, steps=STEPS)
        averages = Averages(model.variables, decay=0.7)
        call = compiled_steps(Three(), model, updates, averages, accumulate=2)
        iterator = iter(tf.data.Dataset.from_tensor_slices(rows))
        losses, weights, failed, *_ = call(iterator, tf.constant(STEPS))
    if together.is_chief:
        values = [v.numpy() for v in (*(v.value for v in model.variables), *averages.state)]
        np.savez(file, losses, weights, failed, *values)
    assert together.leave() or not together.is_chief


def masks(argv):
    """Writes what each of two replicas drops, twice."""
    import keras
    import tensorflow as tf

    from tfpt.config import Runtime
    from tfpt.training import strategies

    together = strategies.start(Runtime(strategy="mirrored", replicas=2))
    assert together.replicas == 2 and together.is_chief
    with together.scope():
        layer = keras.layers.Dropout(0.25, seed=3)
        layer.build((40, 50))

    @tf.function(autograph=False)
    def step():
        with strategies.seeds_by_replica(2):
            return together.strategy.run(lambda: layer(tf.ones((40, 50)), training=True))

    first, second = (together.strategy.experimental_local_results(step()) for _ in range(2))
    assert keras.random.SeedGenerator.next.__name__ == "next"
    np.savez(argv[0], *(part.numpy() > 0 for part in (*first, *second)))
