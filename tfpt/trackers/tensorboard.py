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
        with self._writer.as_default(step=row["total_steps"]):
            for name, value in numbers(row).items():
                _scalar(name, value)
        if row["split"] != "train":
            self._writer.flush()

    def finish(self, state: str, results: Mapping[str, float]) -> None:
        """Closes the file."""
        self._writer.close()


def _scalar(tag: str, value: float) -> None:
    # tf.summary.scalar lives in the tensorboard package; the record itself needs only the plugin's name.
    import tensorflow as tf

    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = "scalars"
    tf.summary.write(tag, tf.constant(value, tf.float32), metadata=metadata)
