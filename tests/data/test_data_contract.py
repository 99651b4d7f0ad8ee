"""What every data source of tfpt must hold, whatever it reads."""

import csv
import hashlib
import json
from types import MappingProxyType

import numpy as np
import pytest
import tensorflow as tf

from tfpt import registry
from tfpt.weights import catalogue
from tfpt.weights.catalogue import Entry

TEXTS, LABELS = ["good", "bad film", "good", "ünïcode"], ["pos", "neg", "pos", "neg"]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
DTYPES = {"label": tf.int64, "labels": tf.float32, "target": tf.float32, "tags": tf.int64, "answer_start": tf.int64}
EXTRAS = {"parquet": "pyarrow", "arrow": "pyarrow", "hf": "datasets", "tfds": "tensorflow_datasets"}


def make_csv(folder):
    with open(folder / "a.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(ROWS)
    return str(folder / "a.csv"), {}


def make_jsonl(folder):
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return str(folder / "a.jsonl"), {}


def make_parquet(folder):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), folder / "a.parquet")
    return str(folder), {}


def make_arrow(folder):
    import pyarrow

    content = pyarrow.Table.from_pylist(ROWS)
    with pyarrow.OSFile(str(folder / "a.arrow"), "wb") as file, pyarrow.ipc.new_stream(file, content.schema) as writer:
        writer.write_table(content)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "a.arrow"}]}))
    return str(folder), {}


def make_hf(folder):
    make_csv(folder)
    return str(folder), {}


def make_tfrecord(folder):
    with tf.io.TFRecordWriter(str(folder / "a.tfrecord")) as writer:
        for row in ROWS:
            lists = {key: tf.train.BytesList(value=[value.encode()]) for key, value in row.items()}
            features = tf.train.Features(feature={key: tf.train.Feature(bytes_list=one) for key, one in lists.items()})
            writer.write(tf.train.Example(features=features).SerializeToString())
    return str(folder), {}


def make_tfds(folder):
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["neg", "pos"])}
    )
    tfds.dataset_builders.store_as_tfds_dataset(
        name="films",
        version="1.0.0",
        features=features,
        split_datasets={"train": list(enumerate(ROWS))},
        data_dir=folder,
        disable_shuffling=True,
    )
    return "films", {"folder": str(folder)}


def make_conll(folder):
    (folder / "a.txt").write_text("Ada B-PER\nwrote O\n\nbad O\n\nAda B-PER\nwrote O\n\nx O\n")
    return str(folder), {}


def make_squad(folder):
    answers = [{"text": "Ada", "answer_start": 0}]
    questions = [{"id": f"q{k}", "question": f"Who {k % 3}?", "answers": answers} for k in (0, 1, 0, 2)]
    for k, question in enumerate(questions):
        question["id"] = f"q{k}"
    data = [{"paragraphs": [{"context": "Ada wrote.", "qas": questions}]}]
    (folder / "a.json").write_text(json.dumps({"data": data}))
    return str(folder), {}


def pictures():
    shades = np.array([10, 200, 10, 90], np.uint8)
    return np.tile(shades[:, None, None], (1, 5, 4)), np.array([0, 1, 0, 1])


def make_npz(folder):
    x, y = pictures()
    np.savez(folder / "a.npz", x=x, y=y)
    return str(folder / "a.npz"), {}


def make_idx(folder):
    x, y = pictures()
    for name, array in (("images-idx3", x), ("labels-idx1", y.astype(np.uint8))):
        header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
        (folder / f"train-{name}-ubyte").write_bytes(header + array.tobytes())
    return str(folder), {}


def make_folder(folder):
    for k, (shades, label) in enumerate(zip(*pictures(), strict=True)):
        (folder / str(label)).mkdir(exist_ok=True)
        (folder / str(label) / f"{k}.png").write_bytes(tf.io.encode_png(shades[..., None]).numpy())
    return str(folder), {}


def make_digits(folder):
    return "", {}


def make_movie_reviews(folder):
    signs = {"pos": "1.5", "neg": "-2"}
    rows = [f"{k}\t{signs[row['label']]}\t{row['text']}\r\n" for k, row in enumerate(ROWS, 1)]
    (folder / "r.txt").write_bytes("".join(rows).encode())
    return "", {}


MAKERS = {name.removeprefix("make_"): maker for name, maker in list(globals().items()) if name.startswith("make_")}


def test_every_source_is_here():
    assert sorted(MAKERS) == registry.names("data")


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_source(name, tmp_path, monkeypatch):
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name], reason=f"{EXTRAS[name]}, of an extra, is not installed")
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    argument, settings = MAKERS[name](folder)
    if name == "movie_reviews":
        monkeypatch.setenv("TFPT_WEIGHTS", str(folder))
        digest = f"sha256:{hashlib.sha256((folder / 'r.txt').read_bytes()).hexdigest()}"
        entry = Entry(name=name, filename="r.txt", sources=(), licence="", origin="", digest=digest, room="data")
        monkeypatch.setattr(catalogue, "CATALOGUE", MappingProxyType({name: entry}))
    if name == "hf":
        monkeypatch.setattr(pytest.importorskip("datasets").config, "HF_DATASETS_CACHE", tmp_path / "cache")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    cls = registry.find("data", name)
    source, again = (cls(argument, cls.Config(**settings)) for _ in range(2))

    info, index, digests = source.info(), source.index(), list(source.digests())
    assert info.size == len(index.names) == len(digests) == len(index.splits) and info.origin
    assert len(set(index.names)) == info.size and all(isinstance(each, str) and each for each in index.names)
    assert set(index.splits) <= {"", "train", "validation", "test"}
    assert {type(digest) for digest in digests} == {bytes} and {len(digest) for digest in digests} == {16}
    if name != "digits":
        assert info.size == 4 and len(set(digests)) == 3  # one is there twice
    assert list(again.digests()) == digests and again.info() == info

    read = tf.data.Dataset.range(info.size).map(source.example, num_parallel_calls=2)
    assert set(read.element_spec) >= set(info.features)
    for feature, spec in read.element_spec.items():
        assert spec.dtype == DTYPES.get(feature, tf.string), feature
        assert spec.shape.rank == (1 if feature in ("labels", "target", "tags") else 0), feature
    examples = list(read.take(4))
    if index.labels is not None:
        assert index.labels.dtype == np.int64 and [int(e["label"]) for e in examples] == index.labels[:4].tolist()
        assert set(index.labels.tolist()) == set(range(len(info.classes))) and len(set(info.classes)) == len(
            info.classes
        )
    for feature in info.features:
        if feature == "image":
            assert tf.io.decode_image(examples[0][feature]).shape.rank == 3
    tf.nest.map_structure(np.testing.assert_array_equal, source.example(tf.constant(1, tf.int64)), examples[1])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
