"""Folders as people have them: odd names, litter, links, splits, mistakes."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfpt.data import _digests, _tiff, _walk
from tfpt.data.folder import Folder
from tfpt.errors import UserError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "my photos").mkdir()
    return tmp_path / "my photos"


def put(root: Path, *files: str | bytes) -> None:
    """Writes files that hold their own name."""
    for file in files:
        path = root / os.fsdecode(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(file))


def table(source: Folder) -> dict[str, tuple[str, str]]:
    """Name -> (class, split)."""
    index, classes = source.index(), source.info().classes
    return {n: (classes[c], s) for n, c, s in zip(index.names, index.labels, index.splits, strict=True)}


def read(source: Folder) -> list[tuple[bytes, int]]:
    dataset = tf.data.Dataset.range(source.info().size).map(source.example)
    return [(e["image"].numpy(), int(e["label"])) for e in dataset]


def test_a_folder_a_class(root):
    put(
        root,
        "dog/b.jpg",
        "cat/2.PNG",
        "cat/10.jpeg",
        "cat/deep/er/1.webp",
        "dog/a.jpe",
        "dog/c.JFIF",
        "dog/d.gif",
        "dog/e.Bmp",
    )
    source = Folder(str(root))
    info = source.info()
    assert info.classes == ("cat", "dog") and info.size == 8 and info.notes == ()
    assert info.features == {"image": "image", "label": "class"}
    assert table(source)["cat/deep/er/1.webp"] == ("cat", "")
    assert source.index().labels.dtype == np.int64
    assert list(source.index().names) == sorted(source.index().names)
    wanted = [(name.encode(), label) for name, label in zip(source.index().names, source.index().labels, strict=True)]
    assert read(source) == wanted


def test_example_gives_int64_and_bytes(root):
    put(root, "a/1.jpg", "b/2.jpg")
    element = tf.data.Dataset.range(2).map(Folder(str(root)).example).element_spec
    assert element == {"image": tf.TensorSpec([], tf.string), "label": tf.TensorSpec([], tf.int64)}


def test_nested_classes_by_path(root):
    put(root, "animals/cat/1.jpg", "animals/dog/1.jpg", "plants/1.jpg", "plants/tree/oak/1.jpg")
    assert Folder(str(root)).info().classes == ("animals", "plants")
    nested = Folder(str(root), Folder.Config(label="path"))
    assert nested.info().classes == ("animals/cat", "animals/dog", "plants", "plants/tree/oak")
    assert table(nested)["plants/1.jpg"] == ("plants", "")
    with pytest.raises(ValueError, match="label: deep is not top or path"):
        Folder.Config(label="deep")


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "val", "test"),
        ("Training", "VALIDATION", "Testing"),
        ("TRAIN", "dev", "test"),
        ("train", "valid", "test"),
    ],
)
def test_split_folders(root, train, validation, test):
    put(
        root,
        f"{train}/cat/1.jpg",
        f"{train}/dog/x/1.jpg",
        f"{validation}/cat/1.jpg",
        f"{test}/dog/1.jpg",
        "readme/a.txt",
    )
    source = Folder(str(root))
    assert source.info().classes == ("cat", "dog")
    assert table(source) == {
        f"{train}/cat/1.jpg": ("cat", "train"),
        f"{train}/dog/x/1.jpg": ("dog", "train"),
        f"{validation}/cat/1.jpg": ("cat", "validation"),
        f"{test}/dog/1.jpg": ("dog", "test"),
    }
    nested = Folder(str(root), Folder.Config(label="path"))
    assert nested.info().classes == ("cat", "dog", "dog/x")


def test_a_stranger_beside_split_folders_is_noted(root):
    put(root, "train/cat/1.jpg", "val/cat/1.jpg", "extra/cat/1.jpg")
    info = Folder(str(root)).info()
    assert info.classes == ("extra", "train", "val")
    assert any("train, val look like splits" in note and "extra" in note for note in info.notes)


def test_odd_names(root):
    names = [
        "a [1]/x#1.jpg",
        'a [1]/it\'s "q" *?.jpg',
        "a [1]/[0-9].jpg",
        "b $HOME ~ %20/ü é 猫.jpg",
        "b $HOME ~ %20/a\nb.jpg",
    ]
    put(root, *names)
    source = Folder(str(root))
    assert sorted(source.index().names) == sorted(names)
    assert source.info().classes == ("a [1]", "b $HOME ~ %20")
    assert {image.decode() for image, _ in read(source)} == set(names)


def test_a_root_with_odd_names(tmp_path):
    root = tmp_path / "[1] ü # 'x'"
    put(root, "a/1.jpg", "b/1.jpg")
    assert len(read(Folder(str(root)))) == 2


def test_latin_1_names(root):
    put(root, b"K\xfche/M\xe4rz.jpg", b"Hund/1.jpg")
    source = Folder(str(root))
    assert source.info().classes == ("Hund", "Kühe")
    assert list(source.index().names) == ["Hund/1.jpg", "Kühe/März.jpg"]
    assert read(source)[1] == (b"K\xfche/M\xe4rz.jpg", 1)
    assert len(set(source.digests())) == 2


def test_names_stay_unique_when_encodings_look_the_same(root):
    put(root, b"K\xfche/1.jpg", "Kühe/1.jpg", "Hund/1.jpg")
    source = Folder(str(root))
    assert source.info().classes == ("Hund", "Kühe")
    assert len(set(source.index().names)) == 3
    assert any("Kühe is spelled in 2 ways" in note for note in source.info().notes)


def test_composed_and_decomposed_umlauts_are_one_class(root):
    put(root, unicodedata.normalize("NFC", "Kühe/1.jpg"), unicodedata.normalize("NFD", "Kühe/2.jpg"), "Hund/1.jpg")
    source = Folder(str(root))
    assert source.info().classes == ("Hund", unicodedata.normalize("NFC", "Kühe"))
    assert sorted(source.index().labels) == [0, 1, 1]
    assert any("spelled in 2 ways" in note for note in source.info().notes)
    assert len(read(source)) == 3


def test_litter_is_ignored_and_counted(root):
    put(root, "a/1.jpg", "b/1.jpg")
    litter = [
        "a/Thumbs.db",
        "a/.DS_Store",
        "a/._1.jpg",
        "b/desktop.ini",
        "__MACOSX/a/._1.jpg",
        ".git/x.jpg",
        "b/.hidden.png",
    ]
    put(root, *litter)
    info = Folder(str(root)).info()
    assert info.size == 2 and info.classes == ("a", "b")
    assert info.notes == (
        "Ignored: 7 hidden files and files of the operating system (.DS_Store, Thumbs.db and the like).",
    )


def test_other_files_are_counted(root, monkeypatch):
    monkeypatch.setattr(_tiff, "is_installed", lambda: False)
    put(root, "a/1.jpg", "b/1.jpg", "a/1.txt", "a/2.TXT", "b/1.xml", "a/noextension", "a/1.tif", "b/1.HEIC", "top.jpg")
    notes = " ".join(Folder(str(root)).info().notes)
    assert "1 pictures that lie directly in the folder" in notes
    assert "1 .heic file, 1 .tif file, which TensorFlow cannot read; convert them to JPEG or PNG" in notes
    assert "2 .txt files, 1 extensionless file, 1 .xml file, which are no pictures" in notes


def test_a_class_without_pictures_is_noted(root):
    put(root, "a/1.jpg", "b/1.jpg", "c/1.txt")
    (root / "d").mkdir()
    info = Folder(str(root)).info()
    assert info.classes == ("a", "b")
    assert any("without pictures: c, d" in note for note in info.notes)
    put(root, "train/a/1.jpg", "train/b/1.jpg", "test/a/1.jpg")
    (root / "test/b").mkdir()
    splits = root / "only splits"
    splits.mkdir()
    for name in ("train", "test"):
        (root / name).rename(splits / name)
    assert not Folder(str(splits)).info().notes


def test_links_are_followed_but_not_in_circles(root, tmp_path):
    put(tmp_path, "elsewhere/1.jpg", "elsewhere/sub/2.jpg")
    put(root, "a/0.jpg")
    (root / "a/file.jpg").symlink_to(tmp_path / "elsewhere/1.jpg")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "a/up").symlink_to(root)
    (tmp_path / "elsewhere/sub/again").symlink_to(tmp_path / "elsewhere")
    (root / "a/self.jpg").symlink_to(root / "a/self.jpg")
    (root / "a/nowhere.jpg").symlink_to(root / "nothing")
    source = Folder(str(root))
    assert list(source.index().names) == ["a/0.jpg", "a/file.jpg", "b/1.jpg", "b/sub/2.jpg"]
    notes = " ".join(source.info().notes)
    assert "2 links that lead nowhere" in notes and "2 links to a folder that they lie in" in notes
    assert len(read(source)) == 4


def test_a_linked_root_and_a_tilde(root, tmp_path, monkeypatch):
    put(root, "a/1.jpg", "b/1.jpg")
    (tmp_path / "link").symlink_to(root)
    assert Folder(str(tmp_path / "link")).info().size == 2
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Folder("~/my photos").info().size == 2
    monkeypatch.chdir(tmp_path)
    source = Folder("my photos")
    monkeypatch.chdir("/")
    assert len(read(source)) == 2


def test_order_does_not_depend_on_the_file_system(root, monkeypatch):
    put(root, *(f"{c}/{k}.jpg" for c in "ba" for k in range(20)))
    expected = table(Folder(str(root)))
    scandir = os.scandir

    class Backwards:
        def __init__(self, path):
            with scandir(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            return False

    monkeypatch.setattr(_walk.os, "scandir", Backwards)
    again = table(Folder(str(root)))
    assert again == expected and list(again) == list(expected)


def test_a_folder_that_cannot_be_listed(root, monkeypatch):
    put(root, "a/1.jpg", "b/1.jpg")
    scandir = os.scandir

    def refuse(path):
        if path.endswith(b"/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(_walk.os, "scandir", refuse)
    with pytest.raises(UserError, match=r"my photos/b cannot be listed: Permission denied; make it readable"):
        Folder(str(root)).info()


# Mistakes


def refused(path: Path | str, **config) -> str:
    with pytest.raises(UserError) as caught:
        Folder(str(path), Folder.Config(**config)).info()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_path():
    with pytest.raises(UserError, match="write --data=folder:PATH"):
        Folder("")


def test_a_path_that_is_missing(root, tmp_path):
    assert "did you mean" in refused(tmp_path / "my_photos") and "my photos?" in refused(tmp_path / "My Photo")
    assert "there is no" in refused(tmp_path / "my fotos/deeper") and "my photos?" in refused(
        tmp_path / "my fotos/deeper"
    )
    assert refused(tmp_path / "zzzzzz").endswith("give the path of a folder that exists.")
    assert "File name too long" in refused(tmp_path / ("x" * 300))


def test_a_file_instead_of_a_folder(tmp_path):
    put(tmp_path, "photos.zip")
    assert "is a file, not a folder" in refused(tmp_path / "photos.zip")


def test_nothing_inside(root):
    assert "is empty" in refused(root)
    put(root, "a/1.txt", "a/2.txt", "b/1.csv")
    assert "holds no picture that can be read; found: 2 .txt files, 1 .csv file; there should be .jpg" in refused(root)
    put(root, "a/1.avif")
    assert "convert them to JPEG or PNG" in refused(root)


def test_only_empty_class_folders(root):
    (root / "a").mkdir()
    assert "only 1 folders without pictures" in refused(root)


def test_pictures_without_class_folders(root):
    put(root, "1.jpg", "2.jpg")
    assert "2 pictures lie directly in it, but none in a class folder" in refused(root)
    splits = root / "splits"
    put(splits, "train/1.jpg", "test/1.jpg")
    assert "2 pictures lie directly in its split folders" in refused(splits)


def test_one_class_only_is_for_tasks_to_refuse_and_says_how_folders_below_become_classes(root):
    put(root, "cat/1.jpg", "cat/2.jpg")
    info = Folder(str(root)).info()
    assert info.classes == ("cat",) and info.notes == ()
    put(root, "cat/siamese/1.jpg", "cat/persian/1.jpg")
    assert any(
        "(cat, cat/persian, cat/siamese, ...) write --data.label=path" in n for n in Folder(str(root)).info().notes
    )
    assert Folder(str(root), Folder.Config(label="path")).info().classes == ("cat", "cat/persian", "cat/siamese")


# Digests


def test_digests_are_of_the_content(root):
    put(root, "a/1.jpg", "b/1.jpg", "b/2.jpg")
    (root / "b/2.jpg").write_bytes((root / "a/1.jpg").read_bytes())
    first, second, third = Folder(str(root)).digests()
    assert first == third != second and len(first) == 16


def test_digests_are_remembered_until_a_file_changes(root, home, monkeypatch):
    put(root, *(f"{c}/{k}.jpg" for c in "ab" for k in range(100)))
    source = Folder(str(root))
    before = source.digests()
    assert list(home.glob("digests/*.json"))
    monkeypatch.setattr(_digests.hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    assert Folder(str(root)).digests() == before
    monkeypatch.undo()
    monkeypatch.setenv("TFPT_HOME", str(home))
    (root / "a/7.jpg").write_bytes(b"other")
    os.utime(root / "a/7.jpg", ns=(1, 1))
    old = (root / "a/8.jpg").stat()
    (root / "a/8.jpg").write_bytes(b"~" * old.st_size)
    os.utime(root / "a/8.jpg", ns=(old.st_atime_ns, old.st_mtime_ns))  # as `cp -p` does
    after = Folder(str(root)).digests()
    assert [name for name, x, y in zip(source.index().names, before, after, strict=True) if x != y] == [
        "a/7.jpg",
        "a/8.jpg",
    ]
    assert not [path for path in root.rglob("*") if path.is_file() and path.suffix != ".jpg"]


def test_a_damaged_or_unwritable_memory_does_no_harm(root, home):
    put(root, "a/1.jpg", "b/1.jpg")
    before = Folder(str(root)).digests()
    (memory,) = home.glob("digests/*.json")
    for text in ("", "[1]", '{"a/1.jpg": [1, 2, "zz"]}', '{"a/1.jpg": 3}'):
        memory.write_text(text)
        assert Folder(str(root)).digests() == before
    memory.unlink()
    memory.parent.rmdir()
    memory.parent.write_text("a file where the folder should be")
    assert Folder(str(root)).digests() == before


def test_a_file_that_vanishes(root):
    put(root, "a/1.jpg", "b/1.jpg")
    source = Folder(str(root))
    source.info()
    (root / "b/1.jpg").unlink()
    with pytest.raises(UserError, match=r"b/1\.jpg was there a moment ago and is gone"):
        source.digests()


def test_a_file_that_cannot_be_read(root, monkeypatch):
    put(root, "a/1.jpg", "b/1.jpg")
    source = Folder(str(root))
    source.info()

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_digests.hashlib, "file_digest", refuse)
    with pytest.raises(UserError, match=r"1\.jpg cannot be read: Permission denied"):
        source.digests()
