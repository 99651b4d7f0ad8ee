"""Data sets of the datasets library: from a folder, from its cache, and what is said when there is no network."""

import time

import pytest
import tensorflow as tf

from tfpt.data.hf import Hf
from tfpt.errors import UserError

datasets = pytest.importorskip("datasets", reason="datasets, of the extra [hf], is not installed")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.delenv("TFPT_OFFLINE", raising=False)
    datasets.disable_progress_bars()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "reviews"
    made.mkdir()
    (made / "train.csv").write_text("text,label\na,x\nb,y\nc,x\nd,y\n")
    (made / "test.csv").write_text("text,label\ne,x\n")
    return made


def read(data):
    return [
        row["text"].decode() for row in tf.data.Dataset.range(data.info().size).map(data.example).as_numpy_iterator()
    ]


def test_a_folder(folder):
    data = Hf(str(folder))
    assert data.info().classes == ("x", "y") and data.info().origin == f"hf {folder}"
    assert data.index().names == ["train:1", "train:2", "train:3", "train:4", "test:1"]
    assert data.index().splits == ["train"] * 4 + ["test"] and read(data) == list("abcde")
    assert sorted(path.name for path in folder.iterdir()) == ["test.csv", "train.csv"]


def test_parts_of_splits(folder):
    one = Hf(str(folder), Hf.Config(split=("train[1:3]",)))
    assert one.index().splits == ["", ""] and read(one) == ["b", "c"]
    named = Hf(str(folder), Hf.Config(split="train=train[:50%],validation=train[50%:]"))
    assert named.index().splits == ["train", "train", "validation", "validation"] and read(named) == list("abcd")
    assert named.index().names[2] == "train[50%:]:1"


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("dev=test", "dev is not train, validation or test"),
        ("train=a,train=b", "does not say once for each part what it is"),
        ("a,b", "does not say once for each part what it is"),
        ("train=", "a part is empty"),
    ],
)
def test_a_choice_that_is_refused(split, message):
    with pytest.raises(ValueError, match=message):
        Hf.Config(split=split)


def test_names_of_classes_and_pictures(folder, monkeypatch):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = {"image": [{"bytes": b"PNG", "path": None}] * 2, "label": [1, 0]}
    made = datasets.Dataset.from_dict(rows, features=features).select([1, 0])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict(train=made))
    data = Hf("org/pictures")
    assert data.info().classes == ("no", "yes") and data.index().labels.tolist() == [0, 1]
    assert data.example(1)["image"].numpy() == b"PNG"


@pytest.fixture
def hub(monkeypatch):
    """A hub that has one data set, and a library that must not ask it where the cache will do."""
    import huggingface_hub

    asked = []

    class HfApi:
        def dataset_info(self, name, *, revision, timeout):
            asked.append((name, revision))
            if name != "org/there":
                raise OSError("404 Not Found\nmore")

    def load(path, **options):
        if datasets.config.HF_HUB_OFFLINE:
            raise ConnectionError("offline")
        return datasets.DatasetDict(
            train=datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["x", options["name"]]})
        )

    monkeypatch.setattr(huggingface_hub, "HfApi", HfApi)
    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    return asked


def test_the_hub_is_asked_where_the_cache_has_nothing(hub):
    data = Hf("org/there", Hf.Config(subset="y", revision="main"))
    assert data.info().classes == ("x", "y") and hub == [("org/there", "main")]
    assert data.info().origin == "hf org/there y main"
    with pytest.raises(
        UserError, match=r"is no folder, is not in the cache .* did not give it \(OSError: 404 Not Found more\)"
    ):
        Hf("org/absent").info()


def test_offline(hub, monkeypatch):
    monkeypatch.setenv("TFPT_OFFLINE", "1")
    with pytest.raises(UserError, match=r"^--data=hf:org/there is not in the cache .* --offline forbids"):
        Hf("org/there").info()
    assert hub == []


def test_refused(folder):
    with pytest.raises(UserError, match="write --data=hf:ORGANISATION/NAME"):
        Hf("")
    with pytest.raises(UserError, match=r"cannot be loaded \(ValueError: Unknown split .nope.\. Should be one of"):
        Hf(str(folder), Hf.Config(split="nope")).info()


def test_no_network_is_said_soon(monkeypatch):
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    start = time.perf_counter()
    with pytest.raises(UserError, match="the hub did not give it"):
        Hf("org/nothing").info()
    assert time.perf_counter() - start < 10
