"""A flag file made from a look at the data."""

import csv
import shutil

import pytest
from PIL import Image

from tfpt import flagfile, flags, new


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))

    def call(*argv):
        with pytest.raises(SystemExit) as ended:
            new.main([str(argument) for argument in argv])
        return ended.value.code or 0, *capsys.readouterr()

    return call


def settings(path):
    return {name: given.value for name, given in flagfile.read(path).items()}


def test_small_pictures_are_enlarged_a_little_and_the_file_parses(call, pictures, tmp_path):
    code, out, _ = call(f"--data=folder:{pictures}", "--new.output=mine.flags")
    assert code == 0
    assert "tfpt train --flagfile=mine.flags" in out
    found = settings(tmp_path / "mine.flags")
    assert found == {
        "data": f"folder:{pictures}",
        "task": "image_classification",
        "backbone": "efficientnet_lite:lite0",
        "input.image_size": "64",
        "train.head_epochs": "20",
        "train.epochs": "0",
        "input.split": "70,15,15",
    }
    experiment = flags.parse([f"--flagfile={tmp_path / 'mine.flags'}"]).experiment
    assert experiment.output.name == "mine"
    text = (tmp_path / "mine.flags").read_text()
    assert "# One of 3 classes for each example: blue, green, red.\n--task=image_classification\n" in text
    assert "24 x 24 pixels" in text
    assert "# --train.seeds=0,1,2\n" in text
    assert max(len(line) for line in text.splitlines() if line.startswith("#")) <= 120


def test_the_file_trains_as_it_is(call, pictures, tmp_path):
    from tfpt import train

    call(f"--data=folder:{pictures}", "--backbone=tiny:conv", "--train.head_epochs=1", "--new.output=mine.flags")
    assert settings(tmp_path / "mine.flags")["train.head_epochs"] == "1"
    with pytest.raises(SystemExit) as ended:
        train.main([f"--flagfile={tmp_path / 'mine.flags'}", "--dry_run"])
    assert not ended.value.code


def test_photos_of_uneven_classes_with_strange_names(call, tmp_path):
    for name, count in (("many # of\\$HOME", 40), ("few", 4)):
        (tmp_path / "my photos" / name).mkdir(parents=True)
        for k in range(count):
            Image.new("RGB", (200, 150), (k, 0, 0)).save(tmp_path / "my photos" / name / f"{k}.png")
    code, _, err = call("--data=folder:my photos")
    assert (code, err) == (0, "")
    found = settings(tmp_path / "my_photos.flags")
    assert (found["data"], found["input.resize"]) == ("folder:my photos", "crop")
    text = (tmp_path / "my_photos.flags").read_text()
    assert "200 x 150 pixels" in text
    assert "many # of\\$HOME has 40 examples and few 4" in " ".join(text.replace("\n#", "").split())
    assert "# --input.sampling=sqrt\n" in text


def write_csv(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_texts(call, tmp_path):
    rows = [(f"sehr schön {'ü' * 10} {k} " + "Wort " * (k % 20), "gut" if k % 2 else "schlecht") for k in range(60)]
    data = write_csv(tmp_path / "reviews.csv", ("text", "label"), rows)
    code, *_ = call(f"--data=csv:{data}")
    assert code == 0
    found = settings(tmp_path / "reviews.flags")
    assert (found["task"], found["backbone"]) == ("text_classification", "hf:minilm_l6")
    assert (found["train.epochs"], found["optim.learning_rate"]) == ("10", "1e-4")
    text = " ".join((tmp_path / "reviews.flags").read_text().replace("\n#", "").split())
    assert "are no ASCII: a multilingual checkpoint" in text
    assert "Half of the texts have over" in text


def test_numbers_and_several_labels(call, pictures, tmp_path):
    shutil.copytree(pictures / "red", tmp_path / "red")
    numbers = write_csv(tmp_path / "ages.csv", ("path", "target"), [(f"red/{k}.png", k + 0.5) for k in range(12)])
    call(f"--data=csv:{numbers}", "--data.label_type=number")
    found = settings(tmp_path / "ages.flags")
    assert (found["task"], found["input.augment"], found["data.label_type"]) == ("image_regression", "none", "number")
    several = write_csv(
        tmp_path / "tags.csv", ("path", "labels"), [(f"red/{k}.png", ("a|b", "a", "b")[k % 3]) for k in range(12)]
    )
    call(f"--data=csv:{several}", "--data.label_type=multi")
    assert settings(tmp_path / "tags.flags")["task"] == "image_classification"


def test_nothing_is_overwritten(call, pictures, tmp_path):
    (tmp_path / "mine.flags").write_text("precious")
    for argv, says in (
        ([f"--data=folder:{pictures}", "--new.output=mine.flags"], "mine.flags exists, and nothing is overwritten"),
        ([f"--data=folder:{pictures}", "--new.output=no/mine.flags"], "there is no folder no"),
        (["--data=folder:absent"], "absent"),
        ([], "--data is missing"),
    ):
        code, _, err = call(*argv)
        assert (code, says in err) == (2, True), err
    assert (tmp_path / "mine.flags").read_text() == "precious"
    assert not (tmp_path / "absent.flags").exists()
