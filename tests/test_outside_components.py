"""A task, a data source and a backbone in a package of one's own, trained by the program without touching tfpt."""

import json
import subprocess
import sys

FILES = {
    "my_task.py": """
        from tfpt.tasks.image_classification import ImageClassification

        class MyTask(ImageClassification):
            default_augment = "none"
    """,
    "my_data.py": """
        import dataclasses, hashlib
        from tfpt.config import setting
        from tfpt.data import DataSource, Index, Info

        class MyData(DataSource):
            @dataclasses.dataclass(frozen=True, kw_only=True)
            class Config(DataSource.Config):
                bright: int = setting(200, "How bright the bright pictures are.")

            def info(self):
                size = int(self.argument)
                return Info(features={"image": "image", "label": "class"}, classes=("dark", "bright"), size=size)

            def index(self):
                import numpy as np
                size = int(self.argument)
                return Index(names=[f"n{k}" for k in range(size)], labels=np.arange(size) % 2, splits=[""] * size)

            def digests(self):
                return [hashlib.sha256(str(k).encode()).digest() for k in range(int(self.argument))]

            def example(self, k):
                import tensorflow as tf
                noise = tf.random.stateless_uniform([8, 8, 3], tf.stack([k, 0]), maxval=50, dtype=tf.int32)
                pixels = tf.cast(noise, tf.uint8) + tf.cast(k % 2 * self.config.bright, tf.uint8)
                return {"image": tf.io.encode_png(pixels), "label": k % 2}
    """,
    "my_trunk.py": """
        from tfpt.backbones import Backbone, Spec

        class MyTrunk(Backbone):
            def spec(self):
                return Spec(modality="image", size=8, value_range=(0.0, 1.0), endpoints={"pooled": (4,)})

            def preprocessor(self, options):
                from tfpt.preprocessors.image import Image
                return Image(size=8, scale=(1 / 255,) * 3)

            def build(self, size):
                import keras
                inputs = keras.Input((size, size, 3))
                features = keras.layers.Conv2D(4, 3, activation="relu", name="only")(inputs)
                return keras.Model(inputs, {"pooled": keras.layers.GlobalAveragePooling2D()(features)})

            def groups(self, model):
                return [[model.get_layer("only")]]
    """,
}


def test_components_outside_tfpt_are_trained_by_the_program(tmp_path):
    package = tmp_path / "my_pkg"
    package.mkdir()
    for name, text in FILES.items():
        lines = text.strip("\n").splitlines()
        (package / name).write_text("\n".join(line[8:] for line in lines) + "\n")
    command = [
        sys.executable, "-m", "tfpt.train", "--task=my_pkg.my_task", "--data=my_pkg.my_data:40",
        "--backbone=my_pkg.my_trunk", "--data.bright=150", "--train.batch_size=8", "--train.head_epochs=8",
        "--train.epochs=1", "--output.name=mine",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    metrics = json.loads((tmp_path / "runs" / "mine" / "metrics.json").read_text())
    assert metrics["test"]["accuracy"]["value"] > 0.9
    assert metrics["parity"]["passed"]
    flags = (tmp_path / "runs" / "mine" / "experiment.flags").read_text()
    assert "--data=my_pkg.my_data:40" in flags
    assert "--data.bright=150" in flags
    assert (tmp_path / "saved_models" / "mine" / "1" / "saved_model.pb").is_file()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0
    assert "is finished" in again.stdout
