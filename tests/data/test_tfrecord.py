"""TFRecord files: keys, splits, names of classes, records found where they are, and what is refused."""

import gzip
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfpt.data.tfrecord import Tfrecord
from tfpt.errors import UserError


def feature(value):
    values = value if isinstance(value, list) else [value]
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def write(path, *examples):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            features = tf.train.Features(feature={key: feature(value) for key, value in example.items()})
            writer.write(tf.train.Example(features=features).SerializeToString())
    return path


def source(argument, **settings):
    return Tfrecord(str(argument), Tfrecord.Config(**settings))


def read(data):
    examples = tf.data.Dataset.range(data.info().size).map(data.example, num_parallel_calls=4)
    return list(examples.as_numpy_iterator())


def png(shade):
    file = io.BytesIO()
    Image.new("L", (4, 4), shade).save(file, "PNG")
    return file.getvalue()


def test_pictures_by_the_usual_keys(tmp_path):
    rows = [{"image/encoded": png(k), "image/class/label": k % 3, "image/height": 4} for k in range(30)]
    write(tmp_path / "train.tfrecord-00000-of-00002", *rows[:20])
    write(tmp_path / "train.tfrecord-00001-of-00002", *rows[20:24])
    write(tmp_path / "test.tfrecord-00000-of-00001", *rows[24:])
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "names.txt").write_text("cat\nant\nbee\n\n")
    before = sorted(tmp_path.iterdir())
    data = source(tmp_path, label_file=str(tmp_path / "names.txt"))
    assert data.info().features == {"image": "image", "label": "class"} and data.info().classes == ("ant", "bee", "cat")
    assert data.index().names[:2] == ["train:1", "train:2"] and data.index().names[24] == "test:1"
    assert data.index().splits == ["train"] * 24 + ["test"] * 6
    assert data.index().labels.tolist() == [(k + 2) % 3 for k in range(30)]
    found = read(data)
    assert [row["image"] for row in found] == [row["image/encoded"] for row in rows]
    assert [row["label"] for row in found] == data.index().labels.tolist()
    assert len(set(data.digests())) == 30 and sorted(tmp_path.iterdir()) == before
    assert data.info().origin == f"tfrecord {tmp_path}"


def test_texts_names_and_numbers(tmp_path):
    rows = [
        {"q": "Ünïcode".encode(), "a": b"second", "y": 0.25, "kind": b"x"},
        {"q": b"", "a": b"b", "y": 2.0, "kind": b"y"},
    ]
    file = write(tmp_path / "a.tfrecord", *rows)
    data = source(file, text="q", text_pair="a", label="y")
    assert data.info().features == {"text": "text", "text_pair": "text", "target": "number"}
    assert [(row["text"].decode(), row["target"].tolist()) for row in read(data)] == [("Ünïcode", [0.25]), ("", [2.0])]
    assert data.index().names == ["records:1", "records:2"] and set(data.index().splits) == {""}
    assert source(file, text="q", label="kind").info().classes == ("x", "y")
    several = write(tmp_path / "b.tfrecord", {"text": b"a", "label": [1, 2]}, {"text": b"b", "label": 2})
    with pytest.raises(UserError, match="is a list; write"):
        source(several, label_type="class").info()


def test_several_labels_of_one(tmp_path):
    file = write(tmp_path / "a.tfrecord", {"text": b"a", "label": [1, 2]}, {"text": b"b", "label": [0, 2]})
    data = source(file)
    assert data.info().features["labels"] == "classes"
    assert [row["labels"].tolist() for row in read(data)] == [[0, 1, 1], [1, 0, 1]]


def test_a_pattern_for_each_split(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "x.rec", {"text": name.encode(), "label": 1}, {"text": b"and", "label": 0})
    data = source(tmp_path, train="on*/x.rec", test="two/x.rec")
    assert data.index().splits == ["train", "train", "test", "test"]
    assert [row["text"] for row in read(data)] == [b"one", b"and", b"two", b"and"]
    with pytest.raises(UserError, match=r"one/x\.rec is in more than one split"):
        source(tmp_path, train="*/x.rec", validation="one/*").info()
    with pytest.raises(UserError, match=r"^--data.test=nothing\* matches no file"):
        source(tmp_path, train="one/*", test="nothing*").info()
    assert source(f"{tmp_path}/*/x.rec").info().size == 4
    with pytest.raises(ValueError, match=r"train: is empty, and --data\.test is given"):
        Tfrecord.Config(test="x")


def test_where_tensorflow_reads_files(tmp_path):
    """ram:// is a file system that only TensorFlow knows, as gs:// is."""
    folder = f"ram://{tmp_path}"
    tf.io.gfile.makedirs(folder)
    write(f"{folder}/train.tfrecord", {"text": b"a", "label": 0}, {"text": b"bb", "label": 1})
    write(f"{folder}/dev.tfrecord", {"text": b"c", "label": 1})
    for argument in (folder, f"{folder}/*.tfrecord"):
        data = source(argument)
        assert data.index().splits == ["train", "train", "validation"]
        assert [row["text"] for row in read(data)] == [
            b"a",
            b"bb",
            b"c",
        ] and data.info().origin == f"tfrecord {argument}"
    with pytest.raises(UserError, match="matches no file"):
        source(f"{folder}/nothing-*").info()


def test_an_unlabelled_test_split_is_left_out(tmp_path):
    write(tmp_path / "train.tfrecord", {"text": b"a", "label": 0}, {"text": b"b", "label": 1})
    write(tmp_path / "test.tfrecord", {"text": b"c", "label": -1})
    write(tmp_path / "dev.tfrecord", {"text": b"d", "label": 1})
    data = source(tmp_path)
    assert [row["text"] for row in read(data)] == [b"a", b"b", b"d"] and data.index().names[2] == "validation:1"


def test_refused(tmp_path):
    good = write(tmp_path / "good.tfrecord", {"picture": b"a", "kind": 3, "other": 1})
    with pytest.raises(UserError, match=r"which column is the text.*kind, other, picture"):
        source(good).info()
    with pytest.raises(
        UserError, match=r"--data\.image=image/encoded is not a column; columns are kind, other, picture"
    ):
        source(good, image="image/encoded").info()
    (tmp_path / "names.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match="kind is 3, and there are 2 names of classes"):
        source(good, image="picture", label="kind", label_file=str(tmp_path / "names.txt")).info()
    (tmp_path / "names.txt").write_text("a\n\nb\n")
    with pytest.raises(UserError, match="has an empty line or a name twice"):
        source(good, image="picture", label="kind", label_file=str(tmp_path / "names.txt")).info()
    (tmp_path / "bad.tfrecord").write_bytes(b"text,label\na long enough text,1\n")
    with pytest.raises(UserError, match=r"bad\.tfrecord is damaged, or is no TFRecord file, at byte 0"):
        source(tmp_path / "bad.tfrecord").info()
    whole = write(tmp_path / "cut.tfrecord", {"text": b"a", "label": 0}, {"text": b"b", "label": 1}).read_bytes()
    (tmp_path / "cut.tfrecord").write_bytes(whole[:-3])
    with pytest.raises(
        UserError, match=rf"cut\.tfrecord is damaged, or is no TFRecord file, at byte {len(whole) // 2}"
    ):
        source(tmp_path / "cut.tfrecord").info()
    with tf.io.TFRecordWriter(str(tmp_path / "other.tfrecord")) as writer:
        writer.write(b"\xff\xff\xff")
    with pytest.raises(UserError, match=r"other\.tfrecord: record 1 is not a tf\.train\.Example"):
        source(tmp_path / "other.tfrecord").info()
    (tmp_path / "packed.tfrecord").write_bytes(gzip.compress(whole))
    with pytest.raises(UserError, match=r"packed\.tfrecord is compressed.*gunzip"):
        source(tmp_path / "packed.tfrecord").info()
    write(tmp_path / "empty.tfrecord")
    with pytest.raises(UserError, match="holds no records"):
        source(tmp_path / "empty.tfrecord").info()
    with pytest.raises(UserError, match=r"there is no .*goood\.tfrecord; did you mean good\.tfrecord"):
        source(tmp_path / "goood.tfrecord").info()
    with pytest.raises(UserError, match="needs files"):
        source("")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"has no file that ends with \.tfrecord.*found: nothing"):
        source(tmp_path / "none").info()


def test_long_records(tmp_path):
    random = np.random.default_rng(0)
    texts = [random.bytes(n) for n in (0, 1, 65_535, 65_536, 300_000, 5)]
    file = write(tmp_path / "a.tfrecord", *({"image": text, "label": k} for k, text in enumerate(texts)))
    assert [row["image"] for row in read(source(file))] == texts


def test_tokens_and_tags(tmp_path):
    rows = [{"tokens": [b"New", b"York"], "ner_tags": [1, 2]}, {"tokens": b"x", "ner_tags": 0}]
    write(tmp_path / "a.tfrecord", *rows)
    names = {"tokens": "tokens", "tags": "ner_tags", "tag_names": "O,B-LOC,I-LOC"}
    data = source(tmp_path / "a.tfrecord", **names)
    assert data.info().features == {"text": "text", "tags": "tags"} and data.info().classes == ("O", "B-LOC", "I-LOC")
    assert [(row["text"], row["tags"].tolist()) for row in read(data)] == [(b"New York", [1, 2]), (b"x", [0])]
    places = {key: str(1 + sorted(rows[0]).index(key)) for key in rows[0]}
    numbered = source(tmp_path / "a.tfrecord", **{**names, "tokens": places["tokens"], "tags": places["ner_tags"]})
    assert [row["text"] for row in read(numbered)] == [b"New York", b"x"]
    with pytest.raises(UserError, match=r"write --data.tokens=tokens and --data.tags=ner_tags"):
        write(tmp_path / "b.tfrecord", {**rows[0], "id": 1})
        source(tmp_path / "b.tfrecord").info()


def test_questions(tmp_path):
    told = {"question": b"who?", "context": "é a b".encode(), "title": b"t"}
    write(
        tmp_path / "a.tfrecord",
        {**told, "answers/text": [b"a", b"b"], "answers/answer_start": [2, 4]},
        {**told, "answers/text": b"b", "answers/answer_start": 4},
    )
    data = source(tmp_path / "a.tfrecord")
    assert data.index().names == ["records:1", "records:2"]
    found = [(row["question"], row["answer_text"], int(row["answer_start"]), row["answers"]) for row in read(data)]
    assert found == [(b"who?", b"a", 2, b"a\x1fb"), (b"who?", b"b", 4, b"b")]
