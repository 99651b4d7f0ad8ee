"""The rated sentences are the published ones."""

import pytest

from tfpt.data.movie_reviews import MovieReviews
from tfpt.weights.home import home

HOME = home()  # before other tests choose folders of their own


# Deselected (see conftest.py) when the file is not in the cache.
@pytest.mark.parametrize("cached_weights", ["movie_reviews"])
def test_the_published_file(cached_weights, monkeypatch):
    monkeypatch.setenv("TFPT_HOME", str(HOME))
    source = MovieReviews()
    assert source.data_files() == (cached_weights,)
    index = source.index()
    assert len(index.names) == 10568 and index.labels.sum() == 5242
    assert source.info().notes[0].startswith("37 sentences")
    assert len(set(source.digests())) == 10566
    assert MovieReviews(config=MovieReviews.Config(label="rating")).info().size == 10605
