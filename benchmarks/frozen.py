"""Trains a head on a frozen trunk with tfpt, with plain Keras, and against the least that has to be done; alternating.

    python benchmarks/frozen.py --pictures="my photos" --backbone=efficientnet_lite:lite0 --epochs=5,20

The folder has a folder of JPEGs for each class; without one, JPEGs are generated. All sides get the same training,
validation and test pictures, trunk, size and batch.

tfpt: `tfpt.fit` with --train.epochs=0, its caches empty. Keras: `image_dataset_from_directory` and `fit` with the trunk frozen,
as in the guide "Transfer learning & fine-tuning". Bound: each picture is decoded and goes through the trunk once, on the same
engine, and scikit-learn's logistic regression. Training counts from the first picture to the trained head; the whole program
also loads TensorFlow and measures the test pictures.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from section import table, write_section

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}
MARK = "RESULT "


def run_tfpt(given, work):
    """Trains with tfpt, from an empty cache of features."""
    import tfpt

    run = tfpt.fit(
        task="image_classification",
        data=f"folder:{given.pictures}",
        backbone=given.backbone,
        quiet=True,
        image_size=given.size,
        batch_size=given.batch,
        head_epochs=given.epochs,
        epochs=0,
        augment="none",
        head_solver=given.solver,
        engine=given.engine,
        publish=False,
        output={"run_dir": str(work / "run"), "model_dir": str(work / "models")},
    )
    (state,) = (run.folder / "checkpoints").glob("final-*/state.txt")
    timings = json.loads(state.read_text(encoding="utf-8").splitlines()[0])["state"]["timings"]
    return {"training": timings["prepare data"] + timings["head"], "accuracy": run.metrics["test"]["accuracy"]["value"]}


def trunk(given):
    """Returns the network and its preprocessor."""
    from tfpt import startup
    from tfpt.config import Component, Input

    startup.start_tensorflow()
    backbone = Component.parse("backbone", given.backbone).make()
    preprocessor = backbone.preprocessor(Input(image_size=given.size))
    return backbone.build(preprocessor.size), preprocessor


def run_keras(given, work):
    """Trains with Keras as its guide does."""
    network, preprocessor = trunk(given)
    import keras
    import tensorflow as tf

    network.trainable = False
    started = time.monotonic()
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
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
    model.fit(parts["train"], validation_data=parts["validation"], epochs=given.epochs, verbose=0)
    seconds = time.monotonic() - started
    return {"training": seconds, "accuracy": model.evaluate(parts["test"], verbose=0)[1]}


def run_bound(given, work):
    """Decodes each picture, runs the trunk on it, and fits logistic regression: nothing twice, nothing else."""
    network, preprocessor = trunk(given)
    import numpy as np
    import tensorflow as tf
    from sklearn.linear_model import LogisticRegression

    from tfpt import registry
    from tfpt.engines import _choice

    device = preprocessor.device()
    name = "tensorflow" if given.engine == "auto" else given.engine
    if given.engine == "auto" and registry.find("engine", "openvino").version():
        name = "openvino"
    started = time.monotonic()
    size = preprocessor.size
    spec = tf.TensorSpec((32, size, size, 3), tf.uint8)
    graph = _choice.freeze(lambda x: network(device(x), training=False)["pooled"], spec)
    run = registry.find("engine", name)().compile(graph, precision="float32", threads=os.cpu_count() or 1)

    def features(part):
        files = sorted((Path(given.pictures) / part).glob("*/*"))
        names = sorted({file.parent.name for file in files})
        decoded = tf.data.Dataset.from_tensor_slices([str(file) for file in files]).map(
            lambda path: preprocessor.host(tf.io.read_file(path))[0], num_parallel_calls=os.cpu_count()
        )
        found = []
        for batch in decoded.batch(32).prefetch(2):
            pixels = batch.numpy()
            whole = np.concatenate([pixels, np.zeros((32 - len(pixels), *pixels.shape[1:]), np.uint8)])
            found.append(run([whole])[0][: len(pixels)])
        return np.concatenate(found), np.array([names.index(file.parent.name) for file in files])

    kept = {part: features(part) for part in ("train", "validation")}
    head = LogisticRegression(C=0.01, max_iter=1000).fit(*kept["train"])
    seconds = time.monotonic() - started
    return {"training": seconds, "accuracy": head.score(*features("test"))}


SIDES = {"tfpt": run_tfpt, "Keras": run_keras, "bound": run_bound}


def prepare(given, work):
    """Links the pictures into folders for training, validation and test; returns that folder and how many there are."""
    source = Path(given.pictures) if given.pictures else generate(work / "generated", given.generated)
    count = 0
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        files = sorted(folder.iterdir())
        ends = [
            0,
            int(SHARES["train"] * len(files)),
            int((SHARES["train"] + SHARES["validation"]) * len(files)),
            len(files),
        ]
        for part, start, end in zip(SHARES, ends, ends[1:], strict=False):
            (work / "pictures" / part / folder.name).mkdir(parents=True)
            for file in files[start:end]:
                os.link(file, work / "pictures" / part / folder.name / file.name) if same_device(
                    file, work
                ) else shutil.copy(file, work / "pictures" / part / folder.name)
                count += 1
    return str(work / "pictures"), count


def same_device(file, folder):
    """Tells whether a hard link can be made."""
    return file.stat().st_dev == folder.stat().st_dev


def generate(folder, count):
    """Writes JPEGs of 300 x 400 pixels: smooth noise with stripes, whose angle is the class."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    y, x = np.mgrid[:300, :400]
    for k in range(count):
        angle = np.pi * (k % 4) / 4 + random.normal(0, 0.1)
        stripes = 60 * np.sin((x * np.cos(angle) + y * np.sin(angle)) / random.uniform(6, 12))
        noise = np.asarray(
            Image.fromarray(random.integers(0, 255, (30, 40, 3), np.uint8)).resize((400, 300)), np.float32
        )
        path = folder / f"angle{k % 4}" / f"{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((noise / 2 + 64 + stripes[..., None]).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return folder


def child(given, side, epochs):
    """Runs a side in a process of its own, with an empty cache but for weights; returns what it came to."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        weights = Path(os.environ.get("TFPT_HOME") or "~/.cache/tfpt").expanduser() / "weights"
        if weights.is_dir():
            (home / "weights").symlink_to(weights)
        own = [
            f"--{name}={getattr(given, name)}" for name in ("pictures", "backbone", "size", "batch", "engine", "solver")
        ]
        command = [sys.executable, __file__, f"--side={side}", f"--epochs={epochs}", f"--work={folder}", *own]
        started = time.monotonic()
        done = subprocess.run(
            command,
            env={**os.environ, "TFPT_HOME": str(home), "TFPT_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        seconds = time.monotonic() - started
    return {**json.loads(done.stdout.rpartition(MARK)[2]), "program": seconds}


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
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        given.epochs = int(given.epochs)
        given.size = given.size if given.size == "auto" else int(given.size)
        print(MARK + json.dumps(SIDES[given.side](given, Path(given.work))))
        return
    with tempfile.TemporaryDirectory() as folder:
        name = Path(given.pictures).name or "generated JPEGs"
        given.pictures, count = prepare(given, Path(folder))
        for epochs in map(int, given.epochs.split(",")):
            found = {side: [] for side in SIDES}
            for number in range(given.rounds):
                for side, runs in found.items():
                    runs.append(child(given, side, epochs))
                    print(epochs, number, side, runs[-1], flush=True)
            write(given, found, epochs, f"{count:,} pictures ({name})")


def write(given, found, epochs, data):
    """Writes the section."""
    lines = [
        f"{data}, {given.backbone} at {given.size} pixels, batch {given.batch}, engine {given.engine}, head by {given.solver}. "
        "Sides alternate, each run in a process of its own with an empty cache; ratios are of medians. "
        f"`python benchmarks/frozen.py --backbone={given.backbone} --engine={given.engine} --solver={given.solver} --epochs={epochs}`",
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
            told = f"Keras / tfpt = {middle['Keras'] / middle['tfpt']:.2f}, tfpt / bound = {middle['tfpt'] / middle['bound']:.2f}"
        lines += [f"### {title}: {told}", "", *table(values, unit=unit, digits=digits), ""]
    packages = ("tensorflow", "keras", "scikit-learn", *(["openvino"] if given.engine != "tensorflow" else []))
    write_section(
        f"Frozen trunk, {epochs} epochs, engine {given.engine}, head by {given.solver}", lines, packages=packages
    )


if __name__ == "__main__":
    main()
