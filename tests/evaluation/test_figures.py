"""Figures are well-formed, quiet, repeatable and leave matplotlib's settings alone."""

import csv
import os
import warnings
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from tfpt.errors import UserError
from tfpt.evaluation import figure_files, regression_figures
from tfpt.evaluation.figures import confusion, curve, most_confused

ODD = [
    "猫",
    "😀 face",
    "$5 bill$ \\frac",
    "<script>alert(1)</script>",
    "caf\udce9",
    "العربية",
    "a\x00b",
    "& < > \" '",
    "x" * 80,
]


def texts(figure):
    return [
        element.text for element in ElementTree.fromstring(figure.svg).iter() if element.text and element.text.strip()
    ]


def history():
    for stage, first in (("head", 0), ("fine_tune", 30)):
        for step in (10, 20, 30):
            row = {"stage": stage, "step": step, "total_steps": first + step}
            yield {**row, "split": "train", "loss": 1 / (first + step)}
            yield {**row, "split": "validation", "loss": 2 / (first + step), "accuracy": 1 - 1 / step}


def test_curve_shows_splits_stages_and_quantity():
    found = texts(curve(history(), "loss"))
    assert {"loss", "train", "validation", "head", "fine tune", "update"} <= set(found)
    only_validation = texts(curve(history(), "accuracy"))
    assert "validation" in only_validation and "train" not in only_validation


def test_curve_counts_updates_over_all_stages():
    assert "60" in texts(curve(history(), "loss"))


def test_curve_of_one_point_or_of_none():
    assert curve([{"stage": "head", "step": 1, "split": "train", "loss": 0.5}], "loss").svg.startswith("<svg")
    assert curve([], "loss") is None
    assert curve([{"stage": "head", "step": 1, "split": "train", "loss": float("nan")}], "loss") is None
    assert curve(history(), "perplexity") is None


def test_odd_class_names_are_shown_as_they_are_and_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = confusion(np.eye(len(ODD)), ODD)
    found, svg = texts(figure), figure.svg
    assert {"猫", "😀 face", "$5 bill$ \\frac", "caf\ufffd", "العربية", "a\ufffdb", "& < > \" '"} <= set(found)
    assert "<script" not in svg
    svg.encode("utf-8")


@pytest.mark.parametrize("count", [2, 12, 30])
def test_every_count_but_zero_is_written(count):
    counts = np.arange(1000, 1000 + count * count).reshape(count, count)
    counts[0, 1] = 0
    found = texts(confusion(counts, [f"class {k}" for k in range(count)]))
    numbers = {text for text in found if text.isdigit()}
    assert numbers == {str(k) for k in counts.ravel() if k}


def test_too_many_classes_have_no_matrix():
    assert confusion(np.eye(31), [str(k) for k in range(31)]) is None


def test_a_class_without_examples_is_no_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert confusion(np.array([[0, 0], [1, 4]]), ["a", "b"])


def test_equal_data_gives_equal_text():
    assert curve(history(), "loss") == curve(history(), "loss")
    assert confusion(np.eye(3), list("abc")) == confusion(np.eye(3), list("abc"))


def test_ids_of_two_figures_in_one_page_do_not_collide():
    def ids(figure):
        return {element.attrib["id"] for element in ElementTree.fromstring(figure.svg).iter() if "id" in element.attrib}

    both = [ids(curve(history(), name)) for name in ("loss", "accuracy")]
    assert both[0] and both[1] and not both[0] & both[1]


def test_settings_of_matplotlib_stay_and_do_not_matter(monkeypatch):
    expected = curve(history(), "loss")
    with matplotlib.rc_context({"text.usetex": True, "font.size": 40, "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        assert curve(history(), "loss") == expected
        assert dict(matplotlib.rcParams) == before


def test_most_confused():
    counts = np.array([[5, 2, 0], [0, 9, 1], [4, 0, 0]])
    assert most_confused(counts, list("abc")) == [("c", "a", 4, 1.0), ("a", "b", 2, 2 / 7), ("b", "c", 1, 0.1)]
    assert most_confused(counts, list("abc"), count=1) == [("c", "a", 4, 1.0)]


def test_numbers_have_two_figures_each():
    random = np.random.default_rng(0)
    target = random.normal(size=(5000, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = regression_figures.draw({"target": target, "value": target + 1, "other": target})
        constant = regression_figures.draw({"target": np.zeros((3, 1)), "value": np.zeros((3, 1))})
    titles = ["Predicted against true 1", "Residuals 1", "Predicted against true 2", "Residuals 2"]
    assert [next(title for title in titles if title in texts(figure)) for figure in found] == titles
    assert len(constant) == 2
    assert all(figure.svg.count("<use") < 1100 for figure in found)  # 1,000 points and the axes' ticks
    many = np.zeros((3, 20))
    assert len(regression_figures.draw({"target": many, "value": many})) == 12
    assert regression_figures.draw({"label": target}) == []


def test_figures_are_files_with_their_numbers(tmp_path):
    odd = [*ODD[:4], os.fsdecode(b"caf\xe9")]
    target = np.array([[1.0], [2.0]])
    drawn = [curve(history(), "accuracy"), confusion(np.eye(5), odd)]
    drawn += regression_figures.draw({"target": target, "value": target + 0.5})
    folder = tmp_path / "figures"
    figure_files.write(drawn, folder)
    names = ["accuracy", "confusion", "predicted_against_true", "residuals"]
    assert sorted(file.name for file in folder.iterdir()) == [f"{n}.{kind}" for n in names for kind in ("csv", "svg")]
    for name, figure in zip(names, drawn, strict=True):
        root = ElementTree.parse(folder / f"{name}.svg").getroot()
        assert [element.text for element in root.iter() if element.text and element.text.strip()] == texts(figure)
        assert not any(element.tag.endswith("script") for element in root.iter())
        with open(folder / f"{name}.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
            header, *rows = csv.reader(file, quoting=csv.QUOTE_NONNUMERIC)
        assert (tuple(header), tuple(map(tuple, rows))) == (figure.header, figure.rows)
    assert drawn[0].rows[0] == ("head", 10, "validation", 0.9)
    assert drawn[1].rows[0] == ("猫", 1, 0, 0, 0, 0)
    assert drawn[2].rows == ((1.0, 1.5), (2.0, 2.5)) and drawn[3].rows == ((0.5, 1.5), (0.5, 2.5))


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "figures").write_text("")
    with pytest.raises(UserError, match="figures cannot be written"):
        figure_files.write([confusion(np.eye(2), "ab")], tmp_path / "figures")
