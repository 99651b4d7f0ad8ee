"""npz and IDX files, and arrays, data frames and data sets that are given in Python."""

import gzip
import io
import struct

import numpy as np
import pandas
import pytest
import tensorflow as tf
from PIL import Image

from tfpt.data._given import as_source
from tfpt.data.idx import Idx
from tfpt.data.npz import Npz
from tfpt.errors import UserError

RANDOM = np.random.default_rng(0)
PICTURES = RANDOM.integers(0, 256, (600, 5, 4), dtype=np.uint8)
LABELS = np.arange(600, dtype=np.int64) % 3


def read(data):
    return list(tf.data.Dataset.range(data.info().size).map(data.example).as_numpy_iterator())


def pixels(data):
    return np.stack([np.asarray(Image.open(io.BytesIO(row["image"]))) for row in read(data)])


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def test_npz_as_keras_keeps_it(tmp_path):
    colour = RANDOM.integers(0, 256, (300, 3, 4, 3), dtype=np.uint8)
    path = write_npz(
        tmp_path / "a.npz",
        x_train=colour[:200],
        y_train=LABELS[:200, None],
        x_test=colour[200:],
        y_test=LABELS[200:300],
    )
    data = Npz(path, Npz.Config(classes=("oak", "elm", "ash")))
    assert data.info().features == {"image": "image", "label": "class"} and data.info().classes == ("ash", "elm", "oak")
    assert data.index().splits == ["train"] * 200 + ["test"] * 100 and data.index().names[200] == "test:1"
    np.testing.assert_array_equal(pixels(data), colour)
    assert [row["label"] for row in read(data)] == [2 - k % 3 for k in range(300)] and len(set(data.digests())) == 300
    assert data.info().origin == f"npz {path}"


def test_npz_of_other_names(tmp_path):
    path = write_npz(
        tmp_path / "a.npz", train_images=PICTURES, train_labels=LABELS, val_images=PICTURES[:5], val_labels=LABELS[:5]
    )
    assert Npz(path).index().splits == ["train"] * 600 + ["validation"] * 5
    path = write_npz(tmp_path / "b.npz", features=np.array(["a", "b"]), kinds=np.array(["x", "y"]))
    with pytest.raises(UserError, match=r"which array is what\? It holds features, kinds"):
        Npz(path).info()
    data = Npz(path, Npz.Config(inputs="features", labels="kinds"))
    assert data.info().classes == ("x", "y") and [row["text"] for row in read(data)] == [b"a", b"b"]
    with pytest.raises(UserError, match=r"--data\.labels=q is not in it; it holds features, kinds"):
        Npz(path, Npz.Config(inputs="features", labels="q")).info()


def test_npz_that_is_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"a\.npz cannot be read"):
        Npz(str(tmp_path / "a.npz")).info()
    with pytest.raises(UserError, match="holds Python objects, which are not read"):
        Npz(write_npz(tmp_path / "b.npz", x=np.array([{}, 1]), y=np.array([0, 1]))).info()
    np.save(tmp_path / "c.npy", PICTURES)
    with pytest.raises(UserError, match="is a single array"):
        Npz(str(tmp_path / "c.npy")).info()
    cut = (tmp_path / "b.npz").read_bytes()[:-30]
    (tmp_path / "d.npz").write_bytes(cut)
    with pytest.raises(UserError, match=r"d\.npz cannot be read"):
        Npz(str(tmp_path / "d.npz")).info()


def idx(array, *, kind=0x08):
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path):
    for name, start, end in (("train", 0, 500), ("t10k", 500, 600)):
        packed = gzip.compress(idx(PICTURES[start:end]))
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(packed)
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx(LABELS[start:end].astype(np.uint8)))
    return tmp_path


def test_idx(mnist):
    data = Idx(str(mnist))
    assert data.info().classes == ("0", "1", "2") and data.index().labels.tolist() == LABELS.tolist()
    assert data.index().splits == ["train"] * 500 + ["test"] * 100
    np.testing.assert_array_equal(pixels(data), PICTURES)
    assert Idx(str(mnist), Idx.Config(classes="c,b,a")).index().labels.tolist() == (2 - LABELS).tolist()


def test_idx_that_is_refused(mnist):
    with pytest.raises(UserError, match=r"has labels from 0 to 2, and --data\.classes names 2"):
        Idx(str(mnist), Idx.Config(classes=("a", "b"))).info()
    (mnist / "emnist-train-images-idx3-ubyte").write_bytes(idx(PICTURES))
    with pytest.raises(UserError, match="emnist-train-labels-idx1-ubyte is missing"):
        Idx(str(mnist)).info()
    (mnist / "emnist-train-labels-idx1-ubyte").write_bytes(idx(LABELS.astype(np.uint8)))
    with pytest.raises(UserError, match="holds several data sets"):
        Idx(str(mnist)).info()
    for name in ("images-idx3", "labels-idx1"):
        (mnist / f"emnist-train-{name}-ubyte").unlink()
    labels = mnist / "train-labels-idx1-ubyte"
    for content, message in (
        (idx(LABELS.astype(np.uint8))[:-1], "should hold 600 numbers, and its length is not theirs"),
        (b"PNG", "is no IDX file"),
        (idx(LABELS[:7].astype(np.uint8)), "has 500 examples and 7 labels"),
        (b"\x1f\x8bbroken", "cannot be read"),
    ):
        labels.write_bytes(content)
        with pytest.raises(UserError, match=message):
            Idx(str(mnist)).info()
    with pytest.raises(UserError, match="is a file; give its folder"):
        Idx(str(labels)).info()
    (mnist / "empty").mkdir()
    with pytest.raises(UserError, match="has no file such as train-images-idx3-ubyte; found: nothing"):
        Idx(str(mnist / "empty")).info()
    with pytest.raises(UserError, match="needs a folder"):
        Idx("").info()


@pytest.mark.parametrize(
    ("given", "scale"),
    [(PICTURES / 255, 1), (PICTURES.astype(np.float32), 1), (PICTURES.astype(np.int64), 1), (PICTURES > 127, 0)],
)
def test_numbers_become_pixels(given, scale):
    data = as_source((given, LABELS), {})
    np.testing.assert_array_equal(pixels(data), PICTURES if scale else np.where(PICTURES > 127, 255, 0))
    assert ("Pixels are numbers from 0 to 1" in data.info().notes[0]) == (given.max() <= 1)


def test_sixteen_bits():
    wide = RANDOM.integers(0, 65536, (4, 3, 2), dtype=np.uint16)
    data = as_source((wide, np.arange(4)), {})
    np.testing.assert_array_equal([tf.io.decode_png(row["image"], dtype=tf.uint16)[..., 0] for row in read(data)], wide)


def test_labels_of_arrays():
    def labels(values, **options):
        data = as_source((PICTURES[: len(values)], np.array(values)), options)
        feature = next(name for name in data.info().features if name != "image")
        return data.info().classes, [np.asarray(row[feature]).tolist() for row in read(data)]

    assert labels([[0, 1], [1, 0], [0, 1]]) == (("0", "1"), [1, 0, 1])
    assert labels([[1, 1], [1, 0]], classes=["a", "b"]) == (("a", "b"), [[1, 1], [1, 0]])
    assert labels([[0, 1], [1, 0]], label_type="multi") == (("0", "1"), [[0, 1], [1, 0]])
    assert labels([2.0, 7.0]) == (("2", "7"), [0, 1])
    assert labels([2.0, 7.0], label_type="number") == ((), [[2], [7]])
    assert labels([0.5, 7.0]) == ((), [[0.5], [7]])
    assert labels([[0.5, 1], [2, 3]]) == ((), [[0.5, 1], [2, 3]])
    assert labels(["b", "a"]) == (("a", "b"), [1, 0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((PICTURES, LABELS[:-1]), "data has 600 examples and 599 labels"),
        ((PICTURES * 2.0, LABELS), "pixels from 0 to 510"),
        ((PICTURES * np.nan, LABELS), "pixels from nan to nan"),
        ((PICTURES[0], LABELS[:5]), r"is uint8 of the shape \[5, 4\]; pictures are"),
        ((PICTURES[:0], LABELS[:0]), "holds no examples"),
        ((np.array(["a", 1], object), LABELS[:2]), "holds a int where texts are expected"),
        ((PICTURES[:2], np.zeros((2, 2, 2))), r"labels of the shape \[2, 2, 2\]"),
        (
            {"train": (PICTURES, LABELS), "dev": (PICTURES, LABELS)},
            "the splits train, dev are not among train, validation, test",
        ),
        (5, "data=int: write data="),
    ],
)
def test_arrays_that_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        as_source(given, {}).info()


def test_arrays_by_split_train(fit, tmp_path):
    shades = RANDOM.integers(0, 100, (24, 16, 16, 3), dtype=np.uint8)
    shades[12:] += 100
    labels = np.repeat([0, 1], 12)
    given = {"train": (shades, labels), "test": (shades[::2] + np.uint8(1), labels[::2])}
    run = fit(
        tmp_path,
        data=as_source(given, {"classes": ["dark", "light"]}),
        split=(80, 20, 0),
        epochs=0,
        export={"publish": False},
    )
    assert run.metrics["test"]["accuracy"]["value"] >= 0 and run.metrics["examples"]["test"] == 12


def test_a_data_frame():
    frame = pandas.DataFrame({"words": ["a", "b", None], "kind": ["x", "y", "x"], 3: [1.5, 2, 3]}, index=[9, 9, 9])
    data = as_source(frame, {"text": "words", "label": "kind"})
    assert data.info().classes == ("x", "y") and data.info().origin == "frames given in Python"
    assert [row["text"] for row in read(data)] == [b"a", b"b", b""] and data.index().names[0] == "examples:1"
    assert as_source(frame, {"text": "words", "label": ["3"]}).info().features["target"] == "number"
    both = as_source({"train": frame, "test": frame[:1]}, {"text": "words", "label": ["kind"]})
    assert both.index().splits == ["train", "train", "train", "test"]
    with pytest.raises(UserError, match="1 row has no label in the column words: examples:3"):
        as_source(frame, {"text": "kind", "label": "words"}).info()
    with pytest.raises(UserError, match=r"data\.txt: there is no such setting; there are text, text_pair"):
        as_source(frame, {"txt": "words"})
    with pytest.raises(UserError, match="which column is the text"):
        as_source(frame, {}).info()
    with pytest.raises(UserError, match="holds no rows"):
        as_source(frame[:0], {}).info()


def test_arrays_in_a_data_frame():
    tokens = {"tokens": [np.array(["a", "b"]), np.array(["c"])], "tags": [np.array([0, 1]), np.array([1])]}
    data = as_source(pandas.DataFrame(tokens), {"tokens": "tokens", "tags": "tags"})
    assert [row["tags"].tolist() for row in read(data)] == [[0, 1], [1]]
    answers = [{"text": np.array(["b"], object), "answer_start": np.array([2])}]
    data = as_source(pandas.DataFrame({"question": ["q"], "context": ["a b"], "answers": answers}), {})
    assert read(data)[0]["answer_text"] == b"b"
    labels = pandas.DataFrame({"text": ["a", "b"], "label": [np.array(["x"]), np.array(["x", "y"])]})
    assert [row["labels"].tolist() for row in read(as_source(labels, {}))] == [[1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("labels", "classes", "wanted"),
    [
        ([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], ("0", "1"), [1, 0, 1]),  # label_mode="categorical"
        ([[1.0], [0.0], [1.0]], ("0", "1"), [1, 0, 1]),  # label_mode="binary"
    ],
)
def test_labels_as_keras_gives_them(labels, classes, wanted):
    data = as_source(tf.data.Dataset.from_tensor_slices((["a", "b", "c"], labels)).batch(2), {})
    assert (data.info().classes, data.index().labels.tolist()) == (classes, wanted)


def test_a_dataset():
    flat = tf.data.Dataset.from_tensor_slices((PICTURES[:10, ..., None], LABELS[:10]))
    for dataset in (flat, flat.batch(4)):
        data = as_source(dataset, {})
        np.testing.assert_array_equal(pixels(data), PICTURES[:10])
        assert data.index().labels.tolist() == LABELS[:10].tolist()
    texts = tf.data.Dataset.from_tensor_slices({"text": ["a", "b"], "text_pair": ["c", "d"], "label": ["x", "y"]})
    data = as_source({"train": texts, "validation": texts.batch(2)}, {})
    assert data.info().features == {"text": "text", "text_pair": "text", "label": "class"}
    assert [row["text_pair"] for row in read(data)] == [b"c", b"d"] * 2 and data.index().splits[2] == "validation"
    for dataset, message in (
        (flat.repeat(), "never ends"),
        (flat.take(0), "holds no examples"),
        (flat.map(lambda x, y: (tf.cast(x, tf.float32), y)), "is float32; pictures are uint8"),
        (flat.map(lambda x, y: x), "pairs .* or dictionaries of tensors are read"),
    ):
        with pytest.raises(UserError, match=message):
            as_source(dataset, {}).info()
