"""What all tables share: they train, split by content, and a large one does not take long."""

import time

import numpy as np
import pytest
import tensorflow as tf

from tfpt import registry
from tfpt.config import Input
from tfpt.data import _texts
from tfpt.data._texts import TextsBuilder
from tfpt.data.csv import Csv
from tfpt.training.splits import split


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet", "conll", "squad", "arrow", "hf", "tfrecord"])
def test_found_by_name(name):
    assert registry.find("data", name).__name__.lower() == name
    assert not [other for other in registry.names("data") if other.startswith("_")]


def test_splits_are_of_the_content(tmp_path):
    rows = [f"text {k % 90},{k % 3}\n" for k in range(100)]  # ten texts are there twice
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(rows))
    (tmp_path / "b.csv").write_text(
        "label,text\n" + "".join(",".join(r.strip().split(",")[::-1]) + "\n" for r in rows[::-1])
    )
    places = []
    for name in ("a", "b"):
        source = Csv(str(tmp_path / f"{name}.csv"))
        digests = source.digests()
        parts = split(source.index(), digests, Input(), classes=source.info().classes)
        places.append({digests[k]: part for part in ("train", "validation", "test") for k in getattr(parts, part)})
        assert sum(len(getattr(parts, part)) for part in ("train", "validation", "test")) == 100
    assert places[0] == places[1] and len(places[0]) == 90


def test_pictures_of_a_table_train(tmp_path, fit, pictures):
    rows = [f"{path},{path.parent.name}\n" for path in sorted(pictures.rglob("*.png"))]
    (tmp_path / "table.csv").write_text("path,label\n" + "".join(rows) + "gone.png,red\n")
    run = fit(tmp_path, data=f"csv:{tmp_path / 'table.csv'}", max_bad_fraction=0.1, export={"publish": False})
    assert run.metrics["test"]["accuracy"]["value"] >= 0
    assert (tmp_path / "run" / "splits.csv").read_text().count("table.csv:") == 37


def test_texts():
    builder = TextsBuilder()
    for text in (b"", b"a\nb", b"\0\xff"):
        builder.append(text)
    texts = builder.build()
    assert (
        [texts[k] for k in range(len(texts))] == [texts.read(k).numpy() for k in range(3)] == [b"", b"a\nb", b"\0\xff"]
    )
    kept = texts.only(np.array([True, False, True]))
    assert kept.read(1).numpy() == b"\0\xff" and len(kept) == 2


def test_texts_in_a_file(tmp_path, monkeypatch):
    """Where in the file a text is must not matter: reading all that is before it took 4.6 s for these."""
    monkeypatch.setenv("TFPT_HOME", str(tmp_path))
    monkeypatch.setattr(_texts, "MEMORY", 1000)
    builder = TextsBuilder()
    contents = [b"%d" % k * (k % 7) for k in range(300)] + [bytes(1 << 20) for _ in range(100)] + [b"", b"last"]
    for text in contents:
        builder.append(text)
    texts = builder.build()
    assert not list(tmp_path.iterdir())
    assert all(texts[k] == text for k, text in enumerate(contents))
    assert texts.only(np.arange(len(contents)) % 2 == 1).read(200).numpy() == b"last"
    start = time.process_time()
    read = tf.data.Dataset.from_tensor_slices([0, 5, 299, 400, 401] * 100).map(texts.read)
    assert list(read.as_numpy_iterator()) == [contents[k] for k in [0, 5, 299, 400, 401]] * 100
    assert time.process_time() - start < 2


def test_a_hundred_thousand_rows(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f'"short text, {k}",{k % 2}\n' for k in range(100_000)))
    start = time.process_time()
    source = Csv(str(tmp_path / "a.csv"))
    assert source.info().size == 100_000 and len(set(source.digests())) == 100_000
    assert time.process_time() - start < 5  # 0.5 s where it was measured
