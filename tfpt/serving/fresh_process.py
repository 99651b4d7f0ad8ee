"""Answers raw examples from a bundle with TensorFlow alone; run as a file by `parity.py`, it imports nothing of tfpt.

Arguments: the bundle, a folder with one TFRecord file of raw values for each input, the batch size, the .npz file to write
the answers to (as BATCH/NAME), and modules whose ops the graph uses (tensorflow_text).
"""

import importlib
import os
import pathlib
import sys


def main(bundle: str, folder: str, batch_size: str, result: str, *libraries: str) -> None:
    """Writes the bundle's answers."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import numpy as np
    import tensorflow as tf

    for library in libraries:
        importlib.import_module(library)
    serve = tf.saved_model.load(bundle).signatures["serving_default"]
    raw = {f.stem: tf.data.TFRecordDataset(str(f)) for f in sorted(pathlib.Path(folder).glob("*.tfrecord"))}
    answers = {}
    options = tf.data.Options()
    options.autotune.enabled = False  # it would make the end wait for its tuner
    for number, batch in enumerate(tf.data.Dataset.zip(raw).batch(int(batch_size)).with_options(options)):
        for name, value in serve(**batch).items():
            array = value.numpy()
            answers[f"{number}/{name}"] = array.astype("S") if array.dtype == object else array
    np.savez(result, **answers)
    foreign = [name for name in ("tfpt", "keras_hub") if name in sys.modules]
    if foreign:
        raise SystemExit(f"{foreign[0]} was imported")


if __name__ == "__main__":
    main(*sys.argv[1:])
