"""Folders as `save_to_disk` writes them: splits, shards, names of classes, pictures, tokens, and what is refused."""

import json

import pytest
import tensorflow as tf

from tfpt.data.arrow import Arrow
from tfpt.errors import UserError

FEATURES = {
    "text": {"dtype": "string", "_type": "Value"},
    "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
    "tokens": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
    "ner_tags": {"feature": {"names": ["O", "B-PER", "I-PER"], "_type": "ClassLabel"}, "_type": "Sequence"},
}


def save(folder, *shards, features=FEATURES, **more):
    """Writes one data set with a file for each list of rows."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow, of the extra [parquet], is not installed")
    folder.mkdir(parents=True)
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pyarrow.Table.from_pylist([row for rows in shards for row in rows]).schema.with_metadata(metadata)
    names = [f"data-{k:05d}-of-{len(shards):05d}.arrow" for k in range(len(shards))]
    for name, rows in zip(names, shards, strict=True):
        content = pyarrow.Table.from_pylist(rows, schema=schema)
        with pyarrow.OSFile(str(folder / name), "wb") as file, pyarrow.ipc.new_stream(file, schema) as writer:
            for batch in content.to_batches(max_chunksize=2):
                writer.write_batch(batch)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None, **more}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def save_dict(folder, **splits):
    for name, shards in splits.items():
        save(folder / name, *shards)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return folder


def rows(*pairs):
    return [{"text": text, "label": label} for text, label in pairs]


def source(folder, **settings):
    return Arrow(str(folder), Arrow.Config(**settings))


def read(data):
    return list(tf.data.Dataset.range(data.info().size).map(data.example).as_numpy_iterator())


def test_splits_and_shards(tmp_path):
    folder = save_dict(
        tmp_path / "imdb",
        test=[rows(("d", 1))],
        unsupervised=[rows(("e", -1))],
        train=[rows(("a", 0), ("b", 1), ("a", 0)), rows(("c", 1))],
    )
    before = sorted(path for path in tmp_path.rglob("*"))
    data = source(folder)
    assert data.info().classes == ("neg", "pos") and data.info().features == {"text": "text", "label": "class"}
    assert data.info().origin == f"arrow {folder}"
    assert data.info().notes[0] == "Ignored, because their names say no split: unsupervised."
    assert data.index().names == ["train:1", "train:2", "train:3", "train:4", "test:1"]
    assert data.index().splits == ["train"] * 4 + ["test"]
    assert [(row["text"], row["label"]) for row in read(data)] == [
        (b"a", 0),
        (b"b", 1),
        (b"a", 0),
        (b"c", 1),
        (b"d", 1),
    ]
    assert data.digests()[0] == data.digests()[2] and len(set(data.digests())) == 4
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_one_data_set_and_pictures(tmp_path):
    pictures = [
        {"image": {"bytes": b"\x89PNG", "path": None}, "label": 1},
        {"image": {"bytes": b"GIF", "path": None}, "label": 0},
    ]
    data = source(save(tmp_path / "one", pictures))
    assert data.info().features == {"image": "image", "label": "class"} and set(data.index().splits) == {""}
    assert read(data) == [{"image": b"\x89PNG", "label": 1}, {"image": b"GIF", "label": 0}]
    (tmp_path / "a.png").write_bytes(b"PNG")
    outside = [{"image": {"bytes": None, "path": str(tmp_path / "a.png")}, "label": k} for k in (0, 1)]
    assert [row["image"] for row in read(source(save(tmp_path / "two", outside)))] == [b"PNG", b"PNG"]


def test_tokens_and_tags_by_name(tmp_path):
    sentences = [{"tokens": ["Ada", "Lovelace", "wrote"], "ner_tags": [1, 2, 0]}, {"tokens": ["x"], "ner_tags": [0]}]
    data = source(save(tmp_path / "ner", sentences), tokens="tokens", tags="ner_tags")
    assert data.info().classes == ("O", "B-PER", "I-PER")
    assert [(row["text"], row["tags"].tolist()) for row in read(data)] == [
        (b"Ada Lovelace wrote", [1, 2, 0]),
        (b"x", [0]),
    ]
    several = source(tmp_path / "ner", label=("ner_tags",), text="tokens")
    with pytest.raises(UserError, match="a cell is a list, not a text"):
        several.info()


def test_lists_of_classes_are_any_number_of_them(tmp_path):
    emotions = [{"text": "a", "ner_tags": [1, 2]}, {"text": "b", "ner_tags": []}]
    data = source(save(tmp_path / "emotions", emotions), label=("ner_tags",))
    assert data.info().features["labels"] == "classes" and data.info().classes == ("B-PER", "I-PER")
    assert [row["labels"].tolist() for row in read(data)] == [[1, 1], [0, 0]]


def test_what_the_library_itself_writes(tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets, of the extra [hf], is not installed")
    names = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    made = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, 1]}, features=names)
    made.select([2, 0, 1]).save_to_disk(str(tmp_path / "saved"))
    data = source(tmp_path / "saved")
    assert data.info().classes == ("no", "yes")
    assert [(row["text"], row["label"]) for row in read(data)] == [(b"c", 1), (b"a", 1), (b"b", 0)]


def test_refused(tmp_path):
    folder = save_dict(tmp_path / "ok", train=[rows(("a", 0))], test=[rows(("b", 1))])
    (folder / "test" / "state.json").unlink()
    with pytest.raises(UserError, match=r"ok/test has no state\.json, though .*dataset_dict\.json lists it"):
        source(folder).info()
    (folder / "dataset_dict.json").write_text('{"splits": ["a", "b"]}')
    with pytest.raises(UserError, match="has the splits a, b; none is train, validation or test"):
        source(folder).info()
    (folder / "train" / "data-00000-of-00001.arrow").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"data-00000-of-00001\.arrow cannot be read as Arrow"):
        source(folder / "train").info()
    (folder / "train" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(UserError, match=r"data-00000-of-00001\.arrow cannot be read as Arrow"):
        source(folder / "train").info()
    (folder / "train" / "state.json").write_text("{}")
    with pytest.raises(UserError, match=r"state\.json lists no _data_files"):
        source(folder / "train").info()
    with pytest.raises(UserError, match="did you mean ok"):
        source(tmp_path / "okk").info()
    with pytest.raises(UserError, match=r"holds neither dataset_dict\.json nor state\.json"):
        source(tmp_path).info()
    with pytest.raises(UserError, match="is a file; give the folder"):
        source(folder / "dataset_dict.json").info()
    with pytest.raises(UserError, match="needs a path"):
        source("").info()
    moved = save(tmp_path / "moved", rows(("a", 0)), _indices_data_files=[{"filename": "indices.arrow"}])
    with pytest.raises(UserError, match="load it and save it again"):
        source(moved).info()
