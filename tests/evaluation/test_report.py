"""The report holds what it is given, escaped, in one file."""

import dataclasses
import io
from html.parser import HTMLParser

import pytest
from PIL import Image

from tfpt.errors import UserError
from tfpt.evaluation.report import Report, WrongExample, render, write

ATTACK = "<script>alert(1)</script>"
VOID = {"meta", "br", "img"}


class Page(HTMLParser):
    """Collects elements and text, and checks that elements are closed in order."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(html)
        self.close()
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def picture():
    file = io.BytesIO()
    Image.new("RGB", (300, 200), "red").save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def report():
    return Report(
        title=f"run {ATTACK}",
        summary={"task": "image_classification", "data": f"folder:{ATTACK}"},
        metrics={
            "primary": "accuracy",
            "test": {
                "accuracy": {"value": 0.9, "low": 0.85, "high": 0.95},
                "macro_f1": {"value": 1.0, "low": None, "high": None},
            },
            "validation": {"accuracy": {"value": 0.8, "low": 0.7, "high": 0.88}},
            "baseline": {"accuracy": 0.55},
            "baseline_answer": "the most frequent class, always",
            "examples": {"train": 1400, "validation": 30, "test": 30},
            "per_class": [
                {"class": ATTACK, "precision": 0.875, "recall": 0.9, "f1": 0.887, "support": 20},
                {"class": "猫 \udce9", "precision": 1.0, "recall": 0.9, "f1": 0.947, "support": 9},
            ],
            "confusion": [[18, 2], [1, 9]],
            "classes": [ATTACK, "猫 \udce9"],
            "parity": {"passed": True, "examples": 30, "max_difference": 2.5e-7},
        },
        history=[{"stage": ATTACK, "step": 10 * k, "split": "train", "loss": 1 / k} for k in (1, 2, 3)],
        wrong=[
            WrongExample(name=f'"{ATTACK}.jpg', label=ATTACK, predicted="猫", remark="0.980", image=picture()),
            WrongExample(name="broken.jpg", label="a", predicted="b", remark="0.970", image=b"junk"),
        ],
        configuration=[("train.epochs", "7", True), ("train.seed", "0", False), ("data", ATTACK, True)],
        environment={"python": "3.11", "cpu": ATTACK},
        timings={"head": 4.25, "fine_tune": 3725.0},
        peak_memory=3 * 2**30,
        notes=[f"{ATTACK} was ignored."],
    )


def test_says_everything(report):
    page = Page(render(report))
    for text in (
        "0.9000 95 % interval 0.8500 to 0.9500",
        "baseline 0.5500 the most frequent class, always",
        "test examples 30 1,400 train, 30 validation",
        "✓ passed largest difference 2.5e-07 on 30 examples",
        "Fewer than 10 test examples in 1 of 2 classes, so their numbers are rough: 猫 \ufffd (9).",
        "macro F1 1.0000 –",
        "called 猫 (0.980)",
        "head 4.2 s fine tune 1 h 2 min together 1 h 2 min peak memory 3.00 GiB",
        "--train.epochs 7",
    ):
        assert text in page.text
    changed = [attributes.get("class") for tag, attributes in page.elements if tag == "div"]
    assert changed.count("changed") == 2


def test_user_text_is_never_markup(report):
    html = render(report)
    page = Page(html)
    assert "<script" not in html.lower()
    assert page.text.count(ATTACK) >= 8
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_nothing_is_loaded_from_elsewhere(report):
    for tag, attributes in Page(render(report)).elements:
        assert tag not in {"script", "link", "iframe", "object"}
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("data:image/jpeg;base64,", "#"))


def test_thumbnails_are_inside_and_a_broken_picture_is_said(report):
    page = Page(render(report))
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert [one["alt"] for one in pictures] == [f'"{ATTACK}.jpg']
    assert page.text.count("no picture") == 1


def test_sections_without_data_are_left_out(report):
    everything = Page(render(report)).text
    bare = Page(render(Report(title="bare"))).text
    for heading in (
        "Training",
        "Metrics",
        "Classes",
        "Confusion",
        "Most wrong",
        "Notes",
        "Environment",
        "Configuration",
    ):
        assert heading in everything
        assert heading not in bare
    assert bare == "bare · tfpt report tfpt report bare"


def test_a_task_without_classes_has_a_report():
    metrics = {"primary": "mae", "higher_is_better": False, "test": {"mae": {"value": 1.5, "low": 1.0, "high": 2.0}}}
    text = Page(render(Report(title="r", metrics=metrics))).text
    assert "MAE on test 1.5000 95 % interval 1.0000 to 2.0000" in text
    assert "baseline" not in text and "Confusion" not in text


def changed(report, **metrics):
    return Page(render(dataclasses.replace(report, metrics={**report.metrics, **metrics}))).text


def test_failed_parity_is_said(report):
    text = changed(report, parity={"passed": False, "max_difference": 0.5, "reason": "a score differs by 0.5"})
    assert "✗ failed" in text and "evaluated (a score differs by 0.5): do not use it" in text and "✓" not in text


def test_an_interval_that_holds_the_baseline_is_said(report):
    sentence = "does not lie clear of the baseline"
    assert sentence not in changed(report)
    assert sentence in changed(report, baseline={"accuracy": 0.86})
    assert sentence in changed(report, baseline={"accuracy": 0.86}, higher_is_better=True)
    assert sentence not in changed(report, baseline={"accuracy": 0.96}, higher_is_better=False)


def test_validation_is_the_headline_without_a_test_split(report):
    assert "accuracy on validation 0.8000" in changed(report, test={})


def test_many_classes_show_the_lowest_and_the_most_confused(report):
    classes = [f"class{k}" for k in range(50)]
    rows = [
        {"class": name, "precision": 0.5, "recall": 0.5, "f1": k / 50, "support": 20} for k, name in enumerate(classes)
    ]
    confusion = [[int(i == j) * 19 + int(j == i + 1) * (i == 48) for j in range(50)] for i in range(50)]
    text = changed(report, classes=classes, per_class=rows, confusion=confusion)
    assert "40 of 50 classes, the lowest F1 first" in text
    assert "class0 0.500" in text and "class45 0.500" not in text
    assert "class48 class49 1 5 %" in text
    assert "Confusion matrix" not in text


def test_equal_reports_give_equal_text(report):
    assert render(report) == render(report)


def test_write_is_whole_or_not_at_all(report, tmp_path):
    path = tmp_path / "report.html"
    write(report, path)
    assert path.read_text(encoding="utf-8") == render(report)
    with pytest.raises(TypeError):
        write(dataclasses.replace(report, peak_memory="much"), path)
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8") == render(report)
    with pytest.raises(UserError, match="cannot be written"):
        write(report, tmp_path / "missing" / "report.html")


def test_texts_are_shown_as_they_are(report):
    wrong = [WrongExample(name="t.csv:2", label="a, b", predicted="none", remark="a 0.100", text=f"{ATTACK} ¶ \x00")]
    html = render(dataclasses.replace(report, wrong=wrong))
    page = Page(html)
    assert f"{ATTACK} ¶ \ufffd is a, b , called none (a 0.100)" in page.text
    assert "no picture" not in page.text and "<script" not in html.lower()


def test_classes_with_thresholds_have_all_columns(report):
    row = {"class": "x", "threshold": 0.25, "average_precision": float("nan"), "f1": 0.5, "support": 30}
    text = changed(report, per_class=[row], confusion=None, baseline_answer="every class, always")
    assert "class threshold average precision F1 examples x 0.250 – 0.500 30" in text
    assert "every class, always" in text


def test_metrics_are_written_as_people_write_them(report):
    names = ("pearson", "spearman", "matthews", "roc_auc", "rmse", "has_answer_f1", "word_accuracy")
    text = changed(report, primary="pearson", test={name: {"value": 0.5, "low": 0.25, "high": 0.75} for name in names})
    assert "Pearson on test 0.5000 95 % interval 0.2500 to 0.7500" in text
    for shown in ("Spearman 0.5", "Matthews correlation 0.5", "ROC AUC 0.5", "RMSE 0.5", "has answer F1 0.5"):
        assert shown in text
