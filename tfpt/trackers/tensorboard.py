"""`--output.trackers=tensorboard`: an event file in the run folder. Writing it needs no package but TensorFlow."""

from collections.abc import Mapping, Sequence
from typing import Any

from tfpt.trackers import Followed, Row, Tracker, numbers


class Tensorboard(Tracker):
    """TensorBoard: `tensorboard --logdir=runs` shows the event files of all run folders."""

    def start(self, run: Followed, history: Sequence[Row]) -> str:
        """Writes the log anew with the rows that are known: what a killed run wrote after them would stand there twice."""
        import tensorflow as tf

        folder = run.folder / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer: Any = tf.summary.create_file_writer(str(folder))
        for row in history:
            self.add(row)
        self._writer.flush()
        return ""

    def add(self, row: Row) -> None:
        """Writes a row."""
        import tensorflow as tf

        # tf.summary.scalar lives in the tensorboard package, and is an operation a value; the record needs only the plugin's name.
        summary = tf.compat.v1.Summary()
        for name, value in numbers(row).items():
            scalar = summary.value.add(tag=name, tensor=tf.make_tensor_proto(value, tf.float32))
            scalar.metadata.plugin_data.plugin_name = "scalars"
        with self._writer.as_default():
            tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=row["total_steps"])
        if row["split"] != "train":
            self._writer.flush()

    def finish(self, state: str, results: Mapping[str, float]) -> None:
        """Closes the file."""
        self._writer.close()
