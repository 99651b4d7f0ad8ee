"""Parquet files: columns as in csv, pictures inside, class names, and what is refused."""

import builtins
import json

import pytest
import tensorflow as tf

from tfpt.data.parquet import Parquet
from tfpt.errors import UserError


def table(**columns):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow, of the extra [parquet], is not installed")
    return pyarrow.table(columns)


def write(path, content):
    import pyarrow.parquet

    pyarrow.parquet.write_table(content, path)


def read(source):
    return list(tf.data.Dataset.range(source.info().size).map(source.example).as_numpy_iterator())


def test_folder_of_shards(tmp_path):
    write(tmp_path / "train-00000-of-00002.parquet", table(text=["a", None], label=[1, 0], id=[7, 8]))
    write(tmp_path / "train-00001-of-00002.parquet", table(text=["c"], label=[1], id=[9]))
    write(tmp_path / "test-00000-of-00001.parquet", table(text=["d"], label=[-1], id=[9]))
    source = Parquet(str(tmp_path))
    assert source.info().features == {"text": "text", "label": "class"} and source.info().classes == ("0", "1")
    assert source.index().names == [f"train-0000{s}-of-00002.parquet:{n}" for s, n in [(0, 1), (0, 2), (1, 1)]]
    assert read(source) == [{"text": b"a", "label": 1}, {"text": b"", "label": 0}, {"text": b"c", "label": 1}]


def test_many_rows_come_in_order(tmp_path):
    write(tmp_path / "a.parquet", table(text=[f"t{k}" for k in range(3000)], label=[k / 2 for k in range(3000)]))
    source = Parquet(str(tmp_path / "a.parquet"))
    assert source.index().names[2999] == "a.parquet:3000"
    assert source.example(2999)["text"].numpy() == b"t2999" and source.example(2999)["target"].numpy().tolist() == [
        1499.5
    ]


def test_pictures_and_class_names_of_hugging_face(tmp_path):
    pictures = [{"bytes": b"\x89PNG\0\xff", "path": "a.png"}, {"bytes": b"\xff\xd8", "path": None}]
    content = table(image=pictures, label=[1, 0])
    features = {"label": {"names": ["dog", "cat"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    content = content.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    write(tmp_path / "a.parquet", content)
    source = Parquet(str(tmp_path / "a.parquet"))
    assert source.info().features == {"image": "image", "label": "class"} and source.info().classes == ("cat", "dog")
    assert read(source) == [{"image": b"\x89PNG\0\xff", "label": 0}, {"image": b"\xff\xd8", "label": 1}]
    assert len(set(source.digests())) == 2
    pictures.append(pictures[0])
    unknown = table(image=pictures, label=[1, 0, -1]).replace_schema_metadata(content.schema.metadata)
    write(tmp_path / "a.parquet", unknown)
    with pytest.raises(UserError, match=r"1 row has no label in the column label: a\.parquet:3"):
        Parquet(str(tmp_path / "a.parquet")).info()


def test_refused(tmp_path, monkeypatch):
    write(tmp_path / "empty.parquet", table(text=[], label=[]))
    with pytest.raises(UserError, match=r"empty\.parquet holds no rows"):
        Parquet(str(tmp_path / "empty.parquet")).info()
    (tmp_path / "text.parquet").write_text("text,label\n")
    with pytest.raises(UserError, match=r"text\.parquet cannot be read as Parquet"):
        Parquet(str(tmp_path / "text.parquet")).info()


def test_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    original = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'tfpt\[parquet\]'"):
        Parquet(str(tmp_path / "a.parquet")).info()
