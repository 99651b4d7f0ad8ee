"""Answers to files: one that cannot be read never costs another its answer."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tfpt.console import Console
from tfpt.serving.answers import answer_files


def servable(overtaken):
    """A servable that answers b"good"; `overtaken` is what a batch with anything else in it raises."""

    def predict(raw):
        values = raw["image"]
        if any(value != b"good" for value in values):
            error = tf.errors.InvalidArgumentError if len(values) == 1 else overtaken
            raise error(None, None, "a picture does not decode")
        return {"label": np.array([b"cat"] * len(values))}

    image = SimpleNamespace(raw_features=("image",))
    return SimpleNamespace(preprocessors={"image": image}, predict=predict)


@pytest.mark.parametrize("overtaken", [tf.errors.InvalidArgumentError, tf.errors.CancelledError])
def test_files_that_do_not_decode_cost_no_neighbour_its_answer(tmp_path, overtaken):
    contents = {"0.jpg": b"good", "1.jpg": b"", "2.jpg": b"text", "3.jpg": b"good"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    files = [str(tmp_path / name) for name in (*contents, "gone.jpg")]
    found = list(answer_files(servable(overtaken), files, console=Console(stream=io.StringIO())))
    assert [a.path for a in found] == files
    assert [a.answer.get("label") for a in found] == ["cat", None, None, "cat", None]
    assert [a.error for a in found] == [
        "",
        *["it is not a picture that can be decoded"] * 2,
        "",
        "No such file or directory",
    ]
