"""Labels of every kind, from a table of generated pictures or texts to a proven model that is measured again."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from tfpt.config import Input
from tfpt.console import Console
from tfpt.data.conll import Conll
from tfpt.data.csv import Csv
from tfpt.data.folder import Folder
from tfpt.errors import UserError
from tfpt.evaluation import on_data
from tfpt.tasks.text_classification import TextClassification

WORDS = ("film", "plot", "scene", "actor", "music", "light", "voice", "story", "screen", "frame")
MARKS = {"praise": "superb", "anger": "dreadful", "question": "why"}
COLOURS = ("red", "green", "blue")


def write_table(path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def write_picture(path, random, colours=(), shade=90.0):
    """Writes noise of a brightness, with a block of each colour in a place of its own."""
    pixels = random.normal(shade, 12, (16, 16, 3))
    for place, name in enumerate(COLOURS):
        if name in colours:
            pixels[4 * place : 4 * place + 5, 3:12] = 20
            pixels[4 * place : 4 * place + 5, 3:12, place] = 230
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def sentence(random, marks=()):
    words = [str(random.choice(WORDS)) for _ in range(random.integers(3, 9))]
    for mark in marks:
        words.insert(random.integers(len(words) + 1), MARKS[mark])
    return " ".join(words)


FINE_TUNED = {"head_epochs": 0, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """A CSV file of 160 pictures with any number of coloured blocks; blue is rare."""
    folder, random = tmp_path_factory.mktemp("coloured"), np.random.default_rng(0)
    rows = []
    for k in range(160):
        held = [random.random() < share for share in (0.5, 0.3, 0.15)]
        write_picture(folder / f"{k}.png", random, [name for name, has in zip(COLOURS, held, strict=True) if has])
        rows.append([f"{k}.png", *map(int, held)])
    return write_table(folder / "pictures.csv", ["path", *COLOURS], rows)


@pytest.fixture(scope="module")
def multi_label(fit, coloured, tmp_path_factory):
    options = {"data": f"csv:{coloured}", "data_options": {"label": COLOURS}, "epochs": 12, **FINE_TUNED}
    return fit(tmp_path_factory.mktemp("multi"), **options)


def test_pictures_with_several_classes_are_learned(multi_label):
    metrics = multi_label.metrics
    assert metrics["primary"] == "average_precision"
    assert metrics["test"]["average_precision"]["value"] >= 0.9
    assert metrics["test"]["average_precision"]["low"] > metrics["baseline"]["average_precision"]
    assert metrics["test"]["macro_f1"]["value"] >= 0.85
    assert metrics["parity"]["passed"]
    thresholds = [row["threshold"] for row in metrics["per_class"]]
    assert multi_label.model.state["thresholds"] == thresholds != [0.5] * 3
    page = (multi_label.folder / "report.html").read_text(encoding="utf-8")
    assert "every class, always" in page and "threshold" in page


def test_predictions_hold_the_served_choices(multi_label, coloured):
    with open(multi_label.folder / "predictions.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"][:8]
    lines = coloured.read_text().splitlines()
    pictures = [coloured.parent / lines[int(row["name"].split(":")[1]) - 1].split(",")[0] for row in rows]
    answer = multi_label.predict(pictures)
    for row, chosen, scores in zip(rows, answer["chosen"], answer["scores"], strict=True):
        assert row["predicted"] == "|".join(name for name, is_chosen in zip(COLOURS, chosen, strict=True) if is_chosen)
        np.testing.assert_allclose([float(row[f"score:{name}"]) for name in COLOURS], scores, atol=1e-5)


def test_a_model_of_several_classes_is_evaluated_on_data_with_fewer_in_another_order(multi_label, coloured, tmp_path):
    lines = [line.split(",") for line in coloured.read_text().splitlines()]
    rows = [[str(coloured.parent / path), green, red] for path, red, green, _ in lines[1:30]]
    other = write_table(tmp_path / "other.csv", ["path", "green", "red"], rows)
    source = Csv(str(other), Csv.Config(label=("green", "red")))
    found = evaluate(multi_label, source, tmp_path)
    rows = {row["class"]: row for row in found["per_class"]}
    assert min(rows["red"]["f1"], rows["green"]["f1"]) >= 0.85
    assert (rows["blue"]["support"], found["examples"]) == (0, {"test": 29})
    # a class without examples has no ROC AUC: null, since JSON knows no NaN
    written = (tmp_path / "out" / "metrics.json").read_text()
    assert "NaN" not in written and json.loads(written)["per_class"][2]["roc_auc"] is None


def evaluate(run, source, folder):
    return on_data.evaluate(
        run.model,
        source,
        data="other",
        part="all",
        output=folder / "out",
        report_examples=None,
        input_options=Input(),
        console=Console(quiet=True),
    )


@pytest.fixture(scope="module")
def brightness(fit, tmp_path_factory):
    """Two numbers of each picture, of very different size."""
    folder, random = tmp_path_factory.mktemp("shades"), np.random.default_rng(0)
    rows = []
    for k in range(160):
        shade = random.uniform(40, 200)
        write_picture(folder / f"{k}.png", random, shade=shade)
        rows.append([f"{k}.png", f"{-shade / 1000:.6f}", f"{1000 * shade:.1f}"])
    table = write_table(folder / "shades.csv", ["path", "dark", "light"], rows)
    data = {"data": f"csv:{table}", "data_options": {"label": ("dark", "light")}}
    return fit(tmp_path_factory.mktemp("shades"), task="image_regression", epochs=10, **data, **FINE_TUNED)


def test_numbers_of_very_different_size_are_learned(brightness):
    metrics = brightness.metrics
    assert metrics["primary"] == "r2"
    assert metrics["test"]["r2"]["low"] >= 0.95
    assert metrics["test"]["spearman"]["value"] >= 0.95
    assert metrics["parity"]["passed"]
    page = (brightness.folder / "report.html").read_text(encoding="utf-8")
    assert "Predicted against true 2" in page and "Residuals 1" in page and "off by" in page
    picture = brightness.folder.parent / "grey.png"
    write_picture(picture, np.random.default_rng(1), shade=120)
    assert brightness.predict([picture])["values"][0] == pytest.approx([-0.12, 120_000], rel=0.1)


def test_numbers_are_not_compared_with_classes(brightness, pictures, coloured, tmp_path):
    with pytest.raises(UserError, match="--data=other holds one class an example, and the model answers numbers"):
        evaluate(brightness, Folder(str(pictures)), tmp_path)
    with pytest.raises(UserError, match="--data=other has 1 numbers an example, and the model answers 2"):
        evaluate(brightness, Csv(str(coloured), Csv.Config(label=("red",), label_type="number")), tmp_path)


@pytest.fixture(scope="module")
def texts(fit, tmp_path_factory):
    """Returns `texts(rows, ...)`: trains on a table of texts and labels."""
    small = {"task": "text_classification", "backbone": "tiny:transformer", "max_length": 12, "batch_size": 32}

    def texts(header, rows, **options):
        folder = tmp_path_factory.mktemp("texts")
        table = write_table(folder / "texts.csv", header, rows)
        return fit(folder, data=f"csv:{table}", **{**small, **FINE_TUNED, "publish": False, **options})

    return texts


@pytest.mark.slow
def test_texts_with_several_classes_are_learned_and_markup_in_them_is_shown_as_text(texts):
    random = np.random.default_rng(0)
    rows = []
    for _ in range(300):
        held = [name for name in MARKS if random.random() < 0.3]
        wrong = random.random() < 0.05  # some labels are not learnable: there are mistakes to show
        rows.append([sentence(random, held), "|".join([*held, "<script>"] if wrong else held)])
    run = texts(["text", "labels"], rows, data_options={"label_type": "multi"}, epochs=10, batch_size=8)
    found = {row["class"]: row for row in run.metrics["per_class"]}
    assert min(found[name]["average_precision"] for name in MARKS) >= 0.9
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page and "<blockquote" in page


@pytest.mark.slow
def test_numbers_of_texts_are_learned(texts):
    random = np.random.default_rng(0)
    rows = [(text, text.count("superb") / (1 + text.count(" ")) + 0.001) for text in map(rated, [random] * 300)]
    run = texts(["text", "score"], rows, epochs=10, task_options={"loss": "huber", "metric": "pearson"})
    assert run.metrics["primary"] == "pearson"
    assert run.metrics["test"]["pearson"]["value"] >= 0.9
    assert run.metrics["test"]["r2"]["value"] >= 0.7


def rated(random):
    return sentence(random, ["praise"] * random.integers(4))


@pytest.fixture(scope="module")
def imbalanced():
    """1 of 20 texts is spam; what it says occurs elsewhere, too, so that the other class is always the better guess."""
    random = np.random.default_rng(0)
    rows = []
    for k in range(800):
        is_spam = k % 20 == 0
        says_so = random.random() < (0.95 if is_spam else 0.15)
        rows.append([sentence(random, ["praise"] if says_so else []), "spam" if is_spam else "fine"])
    return rows


RARE = {"epochs": 4, "output": {"report_examples": "none"}}


@pytest.mark.slow
def test_a_rare_class_is_missed_without_class_weights(texts, imbalanced):
    plain = texts(["text", "label"], imbalanced, **RARE)
    assert plain.metrics["test"]["balanced_accuracy"]["value"] < 0.6
    log = (plain.folder / "log.txt").read_text(encoding="utf-8")
    assert "over 5 times fewer: macro_f1 is the primary metric" in log


def test_a_rare_class_is_found_with_class_weights(texts, imbalanced):
    weighted = texts(["text", "label"], imbalanced, task_options={"class_weights": "balanced"}, **RARE)
    assert weighted.metrics["primary"] == "macro_f1"
    assert weighted.metrics["test"]["balanced_accuracy"]["value"] >= 0.75
    # no example stands in the report
    page = (weighted.folder / "report.html").read_text(encoding="utf-8")
    assert "Most wrong examples" not in page and "<blockquote" not in page


def test_tags_are_no_classes_of_a_text(tmp_path):
    (tmp_path / "a.txt").write_text("a O\nb B-X\n\nc O\n")
    with pytest.raises(
        UserError, match=r"--task=text_classification needs one class .* has only text, tags; .*token_class"
    ):
        TextClassification().adapt(Conll(str(tmp_path / "a.txt")), np.arange(2))
