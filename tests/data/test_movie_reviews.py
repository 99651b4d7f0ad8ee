"""The rated sentences: signs, ratings, what is left out, and that they are fetched once."""

import hashlib
from types import MappingProxyType

import numpy as np
import pytest
import tensorflow as tf

from tfpt.config import Input
from tfpt.data.movie_reviews import MovieReviews
from tfpt.errors import UserError
from tfpt.training.splits import split
from tfpt.weights import catalogue
from tfpt.weights.catalogue import Entry

ROWS = [
    (1, "2.5", "Jirí is a ''gem''."),
    (2, "-0.25", "Not so good   , this."),
    (3, "0.0", "It is a film."),
    (4, "0.5", "ok"),
]


@pytest.fixture(autouse=True)
def published(tmp_path, monkeypatch):
    """A small file of the same form, in the folder that stands for the network."""
    content = "".join(f"{number}\t{rating}\t{text}\r\n" for number, rating, text in ROWS).encode()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    entry = Entry(
        name="movie_reviews", filename="r.txt", sources=(), licence="MIT", origin="made up", digest=digest, room="data"
    )
    monkeypatch.setattr(catalogue, "CATALOGUE", MappingProxyType({entry.name: entry}))
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "r.txt").write_bytes(content)
    monkeypatch.setenv("TFPT_WEIGHTS", str(tmp_path / "mirror"))
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))
    return tmp_path


def read(source):
    return list(tf.data.Dataset.range(source.info().size).map(source.example).as_numpy_iterator())


def test_the_sign_of_the_rating_is_the_label(published):
    source = MovieReviews()
    info, index = source.info(), source.index()
    assert info.features == {"text": "text", "label": "class"} and info.classes == ("negative", "positive")
    assert info.notes == ("1 sentences whose mean rating is 0 are left out: neither negative nor positive.",)
    assert index.names == ["sentence-00001", "sentence-00002", "sentence-00004"] and index.labels.tolist() == [1, 0, 1]
    assert index.labels.dtype == np.int64 and len(set(source.digests())) == 3
    texts = [text.encode() for _, _, text in ROWS if text != "It is a film."]
    assert read(source) == [{"text": text, "label": label} for text, label in zip(texts, [1, 0, 1], strict=True)]
    assert (published / "home" / "data" / "movie_reviews" / "r.txt").is_file()


def test_the_rating_is_a_number_to_predict():
    source = MovieReviews(config=MovieReviews.Config(label="rating"))
    assert source.info().features == {"text": "text", "target": "number"} and not source.info().notes
    assert source.index().labels is None and source.info().classes == ()
    assert [example["target"].tolist() for example in read(source)] == [[2.5], [-0.25], [0.0], [0.5]]
    assert source.example(0)["target"].dtype == tf.float32
    assert len(split(source.index(), source.digests(), Input(split=(100, 0, 0))).train) == 4


def test_what_is_nearly_neutral_can_be_left_out():
    source = MovieReviews(config=MovieReviews.Config(neutral=0.5))
    assert source.index().names == ["sentence-00001"]
    assert source.info().notes[0].startswith("3 sentences whose mean rating is at most 0.5 from 0")


def test_offline_without_the_file_names_the_command(published, monkeypatch):
    monkeypatch.setenv("TFPT_OFFLINE", "1")
    assert MovieReviews().data_files() == ("movie_reviews",)
    (published / "mirror" / "r.txt").rename(published / "elsewhere")
    with pytest.raises(UserError, match=r"^movie_reviews is not at .*`tfpt fetch movie_reviews`"):
        MovieReviews().info()
    (published / "elsewhere").rename(published / "mirror" / "r.txt")
    assert MovieReviews().info().size == 3


def test_refused():
    with pytest.raises(UserError, match="write --data=movie_reviews"):
        MovieReviews("imdb")
    with pytest.raises(ValueError, match=r"neutral: 4\.5 is not at least 0 and below 4"):
        MovieReviews.Config(neutral=4.5)
    with pytest.raises(ValueError, match=r"for --data\.label=sentiment only"):
        MovieReviews.Config(label="rating", neutral=0.5)
