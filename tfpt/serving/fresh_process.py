"""Answers raw examples from a bundle with TensorFlow alone; run as a file by `parity.py`, it imports nothing of tfpt.

Arguments: the bundle, a folder with one TFRecord file of raw values for each input, the batch size, the .npz file to write
the answers to, and modules whose ops the graph uses (tensorflow_text).
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
    parts = [
        {name: value.numpy() for name, value in serve(**batch).items()}
        for batch in tf.data.Dataset.zip(raw).batch(int(batch_size))
    ]
    answers = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    strings = {name: value.astype("S") for name, value in answers.items() if value.dtype == object}
    answers.update(strings)
    np.savez(result, **answers)  # type: ignore[arg-type]
    foreign = [name for name in ("tfpt", "keras_hub") if name in sys.modules]
    if foreign:
        raise SystemExit(f"{foreign[0]} was imported")


if __name__ == "__main__":
    main(*sys.argv[1:])
