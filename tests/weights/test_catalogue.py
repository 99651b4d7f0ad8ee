import re

import pytest

from tfpt.backbones.applications import Applications
from tfpt.backbones.efficientnet_lite import EfficientnetLite
from tfpt.backbones.hf import Hf
from tfpt.data.movie_reviews import MovieReviews
from tfpt.errors import UserError
from tfpt.weights import catalogue
from tfpt.weights.catalogue import CATALOGUE, Url


def test_every_entry_is_complete():
    assert len({entry.filename for entry in CATALOGUE.values()}) == len(CATALOGUE)
    for name, entry in CATALOGUE.items():
        assert entry.name == name
        assert re.fullmatch(r"[\w.-]+", entry.filename)
        assert entry.sources and entry.licence and entry.origin
        assert re.fullmatch(r"(sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})?", entry.digest)
        assert all(source.url.startswith("https://") for source in entry.sources if isinstance(source, Url))


def test_components_and_catalogue_agree():
    named = [
        f for kind in (Applications, EfficientnetLite, Hf) for v in kind.variants() for f in kind(v).weight_files()
    ]
    data = MovieReviews().data_files()
    assert sorted([*named, *data]) == sorted(CATALOGUE)
    assert {name for name, entry in CATALOGUE.items() if entry.room == "data"} == set(data)


@pytest.mark.parametrize(
    "builder", ["MobileNetV3Small", "MobileNetV2", "EfficientNetB0", "EfficientNetV2B0", "NASNetMobile"]
)
def test_files_are_the_ones_that_keras_would_take(builder, monkeypatch):
    import keras
    from keras.src.utils import file_utils

    class AskedError(Exception):
        pass

    def ask(fname, origin, file_hash=None, **_):
        raise AskedError(fname, origin, file_hash)

    monkeypatch.setattr(file_utils, "get_file", ask)
    with pytest.raises(AskedError) as asked:
        getattr(keras.applications, builder)(include_top=False, weights="imagenet", input_shape=(224, 224, 3))
    filename, origin, file_hash = asked.value.args
    entry = catalogue.find(f"applications:{builder}")
    assert (entry.filename, entry.sources[0].url) == (filename, origin)
    assert entry.digest.partition(":")[2] == (file_hash or "")


def test_a_name_that_is_not_there():
    with pytest.raises(UserError, match="efficientnet_lite:lite0"):
        catalogue.find("efficientnet_lite:lite9")
    with pytest.raises(UserError, match="applications:MobileNetV2"):
        catalogue.find("applications:mobilenetv22")
    assert catalogue.find("applications:mobilenetv2").name == "applications:MobileNetV2"
