"""Trains a head on a frozen trunk with tfpt, with plain Keras, and against the least that has to be done; alternating.

    python benchmarks/frozen.py --pictures="my photos" --backbone=efficientnet_lite:lite0 --epochs=5,20

The folder has a folder of JPEGs for each class; without one, JPEGs are generated. All sides get the same training,
validation and test pictures, trunk, size and batch.

tfpt: `tfpt.fit` with --train.epochs=0, its caches empty. Keras: `image_dataset_from_directory` and `fit` with the trunk frozen,
as in the guide "Transfer learning & fine-tuning". Bound: each picture is decoded and goes through the trunk once, on the same
engine, and scikit-learn's logistic regression. Training counts from the first picture to the trained head, without listing files
and building models; the whole program also loads TensorFlow and measures the test pictures.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median

from pictures import SHARES, prepare
from section import table, write_section
from sides import answer, child

BATCH = 8
"""Of the bound's one pass; larger ones are slower."""
RATE = 1e-4
"""Learning rate where more than the head trains."""
OWN = ("pictures", "backbone", "size", "batch", "engine", "solver", "unfreeze")


def run_tfpt(given, work):
    """Trains with tfpt, from an empty cache of features."""
    import tfpt

    partly = given.unfreeze != "none"
    run = tfpt.fit(
        task="image_classification",
        data=f"folder:{given.pictures}",
        backbone=given.backbone,
        quiet=True,
        image_size=given.size,
        batch_size=given.batch,
        **({"head_epochs": 0, "epochs": given.epochs} if partly else {"head_epochs": given.epochs, "epochs": 0}),
        unfreeze=given.unfreeze if partly else "all",
        batch_norm="frozen",
        learning_rate=RATE,
        augment="none",
        head_solver=given.solver,
        engine=given.engine,
        publish=False,
        output={"run_dir": str(work / "run"), "model_dir": str(work / "models")},
    )
    (state,) = (run.folder / "checkpoints").glob("final-*/state.txt")
    timings = json.loads(state.read_text(encoding="utf-8").splitlines()[0])["state"]["timings"]
    return {
        "training": timings["prepare data"] + timings["fine_tune" if partly else "head"],
        "accuracy": run.metrics["test"]["accuracy"]["value"],
    }


def trunk(given):
    """Returns the network, its preprocessor and its backbone."""
    from tfpt import startup
    from tfpt.config import Component, Input

    startup.start_tensorflow()
    backbone = Component.parse("backbone", given.backbone).make()
    preprocessor = backbone.preprocessor(Input(image_size=given.size))
    return backbone.build(preprocessor.size), preprocessor, backbone


def run_keras(given, work):
    """Trains with Keras as its guide does."""
    network, preprocessor, backbone = trunk(given)
    import keras
    import tensorflow as tf

    groups = backbone.groups(network)
    count = int(given.unfreeze.removeprefix("last:")) if given.unfreeze != "none" else 0
    kept = {id(layer) for group in groups[len(groups) - count :] for layer in group}
    for layer in network.layers:
        layer.trainable = id(layer) in kept
    parts = {
        name: keras.utils.image_dataset_from_directory(
            Path(given.pictures) / name,
            image_size=(preprocessor.size, preprocessor.size),
            batch_size=given.batch,
            shuffle=name == "train",
            verbose=False,
        )
        for name in SHARES
    }
    classes = len(parts["train"].class_names)
    parts = {name: data.prefetch(tf.data.AUTOTUNE) for name, data in parts.items()}
    inputs = keras.Input((preprocessor.size, preprocessor.size, 3))
    pooled = network(preprocessor.device()(inputs), training=False)["pooled"]
    model = keras.Model(inputs, keras.layers.Dense(classes)(pooled))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(RATE if count else 1e-3), loss, metrics=["accuracy"])
    started = time.monotonic()
    model.fit(parts["train"], validation_data=parts["validation"], epochs=given.epochs, verbose=0)
    seconds = time.monotonic() - started
    return {"training": seconds, "accuracy": model.evaluate(parts["test"], verbose=0)[1]}


def run_bound(given, work):
    """Decodes each picture, runs the trunk on it, side by side, and fits logistic regression: nothing twice, nothing else."""
    network, preprocessor, _ = trunk(given)
    import numpy as np
    import tensorflow as tf
    from sklearn.linear_model import LogisticRegression

    from tfpt.engines import _choice
    from tfpt.training.side_by_side import side_by_side
    from tfpt.untuned import untuned
    from tfpt.weights.home import home

    device = preprocessor.device()
    name, precision = given.engine, "float32"
    if given.engine == "auto":  # what tfpt chose before the first round
        file = home() / "engines.json"
        known = list(json.loads(file.read_text(encoding="utf-8")).values()) if file.exists() else []
        name, precision = (known[0]["engine"], known[0]["precision"]) if known else ("tensorflow", "float32")
    started = time.monotonic()
    size = preprocessor.size
    spec = tf.TensorSpec((BATCH, size, size, 3), tf.uint8)
    graph = _choice.freeze(lambda x: network(device(x), training=False)["pooled"], spec)
    runs = {
        part: _choice.compiled(graph, name, precision if part == "train" else "float32", threads=0) for part in SHARES
    }

    def features(part):
        files = sorted((Path(given.pictures) / part).glob("*/*"))
        names = sorted({file.parent.name for file in files})
        decoded = tf.data.Dataset.from_tensor_slices([str(file) for file in files]).map(
            lambda path: preprocessor.host(tf.io.read_file(path))[0], num_parallel_calls=os.cpu_count()
        )

        def pooled(batch):
            pixels = batch.numpy()
            whole = np.concatenate([pixels, np.zeros((BATCH - len(pixels), *pixels.shape[1:]), np.uint8)])
            return runs[part]([whole])[0][: len(pixels)]

        batches = untuned(decoded.batch(BATCH).prefetch(2))
        found = [made for _, made in side_by_side(pooled, batches, at_a_time=_choice.at_a_time(0))]
        return np.concatenate(found), np.array([names.index(file.parent.name) for file in files])

    kept = {part: features(part) for part in ("train", "validation")}
    head = LogisticRegression(C=0.01, max_iter=1000).fit(*kept["train"])
    seconds = time.monotonic() - started
    return {"training": seconds, "accuracy": head.score(*features("test"))}


SIDES = {"tfpt": run_tfpt, "Keras": run_keras, "bound": run_bound}


def main():
    """Runs the rounds and writes the section, or one side of one round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", default="", help="folder with a folder of JPEGs for each class")
    parser.add_argument("--generated", type=int, default=2000, help="JPEGs to generate when there is no folder")
    parser.add_argument("--backbone", default="efficientnet_lite:lite0")
    parser.add_argument("--size", default="auto", help="side of the pictures; auto: the trunk's")
    parser.add_argument("--epochs", default="5,20", help="one section each")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--engine", default="auto", help="auto, tensorflow or openvino; of tfpt and of the bound")
    parser.add_argument("--solver", default="gradient", help="gradient or exact: tfpt's --train.head_solver")
    parser.add_argument("--unfreeze", default="none", help="none, or last:N, which trains so many groups as well")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        given.epochs = int(given.epochs)
        given.size = given.size if given.size == "auto" else int(given.size)
        answer(SIDES[given.side](given, Path(given.work)))
        return
    with tempfile.TemporaryDirectory() as folder:
        name = Path(given.pictures).name or "generated JPEGs"
        given.pictures, count = prepare(given.pictures, Path(folder), generated=given.generated)
        for epochs in map(int, given.epochs.split(",")):
            remembered = Path(folder) / f"engines-{epochs}.json"
            found = {side: [] for side in SIDES if side != "bound" or given.unfreeze == "none"}
            own = [f"--epochs={epochs}", *(f"--{option}={getattr(given, option)}" for option in OWN)]
            first = child(__file__, ["--side=tfpt", *own], remembered=remembered)
            print(epochs, "first", first, flush=True)
            for number in range(given.rounds):
                for side, runs in found.items():
                    runs.append(child(__file__, [f"--side={side}", *own], remembered=remembered))
                    print(epochs, number, side, runs[-1], flush=True)
            write(given, found, first, epochs, f"{count:,} pictures ({name})")


def write(given, found, first, epochs, data):
    """Writes the section."""
    lines = [
        f"{data}, {given.backbone} at {given.size} pixels, batch {given.batch}, engine {given.engine}, head by {given.solver}. "
        "Sides alternate, each run in a process of its own with an empty cache; ratios are of medians. Which engine is fastest was "
        f"found by a run before the first round, whose training took {first['training']:.1f} s.",
        "",
    ]
    for title, key, unit, digits in (
        ("Training", "training", "s", 1),
        ("Whole program", "program", "s", 1),
        ("Test accuracy", "accuracy", "", 4),
    ):
        values = {side: [run[key] for run in runs] for side, runs in found.items()}
        middle = {side: median(one) for side, one in values.items()}
        if key == "accuracy":
            told = f"tfpt - Keras = {100 * (middle['tfpt'] - middle['Keras']):+.1f} points"
        else:
            told = f"Keras / tfpt = {middle['Keras'] / middle['tfpt']:.2f}"
            if "bound" in middle:
                told += f", tfpt / bound = {middle['tfpt'] / middle['bound']:.2f}"
        lines += [f"### {title}: {told}", "", *table(values, unit=unit, digits=digits), ""]
    packages = ("tensorflow", "keras", "scikit-learn", *(["openvino"] if given.engine != "tensorflow" else []))
    title = f"Frozen trunk, {epochs} epochs, engine {given.engine}, head by {given.solver}"
    if given.unfreeze != "none":
        title = f"{given.unfreeze} groups unfrozen, {epochs} epochs, engine {given.engine}"
    write_section(title, lines, packages=packages)


if __name__ == "__main__":
    main()
