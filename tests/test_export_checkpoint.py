"""A checkpoint that was fine-tuned elsewhere: exported without data, evaluated, and trained further, with its own head."""

import json

import numpy as np
import pytest
from toys import transformers_folder

from tfpt import evaluate, export
from tfpt.serving.servable import Servable

TEXTS = ["a b", "d e , x", "b a d", "x x"]


def run(program, *arguments):
    """Runs a program; returns its exit code."""
    with pytest.raises(SystemExit) as ended:
        program.main(list(arguments))
    return ended.value.code or 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert") / "bert"
    return transformers_folder.write_folder(folder, "bert", id2label={"0": "good", "1": "bad", "2": "ugly"})


@pytest.fixture(scope="module")
def exported(folder):
    model = folder.parent / "model"
    assert run(export, "--task=text_classification", f"--backbone=hf:{folder}", f"--output.model_dir={model}") == 0
    return model


def test_a_fine_tuned_folder_becomes_a_bundle_with_its_classes_and_without_training(folder, exported):
    model = Servable.load(exported)
    answers = model.predict({"text": [text.encode() for text in TEXTS]})
    assert answers["classes"][0].tolist() == [b"good", b"bad", b"ugly"]
    assert np.ptp(answers["scores"], axis=0).max() > 1e-4  # the trunk has a say
    assert set(answers["label"]) <= {b"good", b"bad", b"ugly"}
    card = (exported / "1" / "assets.extra" / "model_card.md").read_text(encoding="utf-8")
    assert "good, bad, ugly" in card and "licence of the weights" in card and "export and proof" in card
    assert "- Data: what the checkpoint was fine-tuned on" in card and "- Input: text, up to " in card
    assert "## Limits" in card and "It was not measured at all" in card
    assert "`scores` float32 [batch, 3]" in card and "| `classification` | classify | `inputs` string [batch] |" in card


def test_its_accuracy_is_measured_on_data_with_fewer_classes_in_another_order(exported, tmp_path, capfd):
    labels = [
        label.decode() for label in Servable.load(exported).predict({"text": [t.encode() for t in TEXTS]})["label"]
    ]
    file = tmp_path / "new.tsv"
    file.write_text("text\tlabel\n" + "".join(f"{t}\t{label}\n" for t, label in zip(TEXTS, labels, strict=True)))
    code = run(
        evaluate, f"--model={exported}", f"--data=csv:{file}", "--data.text=text", "--data.label=label",
        "--evaluate.split=all", f"--evaluate.output={tmp_path / 'out'}",
    )  # fmt: skip
    said = capfd.readouterr()
    assert code == 0, said
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["test"]["accuracy"]["value"] == 1.0


def test_a_new_head_without_data_and_a_trunk_without_head_are_refused(tmp_path, capfd):
    folder = transformers_folder.write_folder(tmp_path / "bert", "bert", id2label={"0": "a", "1": "b", "2": "c"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    assert run(export, "--task=text_classification", f"--backbone=hf:{folder}") == 2
    assert "brings no head" in capfd.readouterr().err
    assert run(export, "--task=text_classification") == 2
    assert "--backbone=hf:FOLDER" in capfd.readouterr().err


@pytest.fixture
def tagger(tmp_path):
    tags = {"0": "O", "1": "B-PER", "2": "I-PER"}
    return transformers_folder.write_folder(tmp_path / "ner", "distilbert", "TokenClassification", id2label=tags)


def test_token_classifiers_are_of_another_task(tagger, capfd):
    wrong = run(export, "--task=text_classification", f"--backbone=hf:{tagger}")
    assert (wrong, "gives a class for each token" in capfd.readouterr().err) == (2, True)


@pytest.mark.slow
def test_token_classifiers_keep_their_tags(tagger, tmp_path, capfd):
    code = run(
        export, "--task=token_classification", f"--backbone=hf:{tagger}", f"--output.model_dir={tmp_path / 'ner_model'}"
    )
    assert code == 0, capfd.readouterr()
    answers = Servable.load(tmp_path / "ner_model").predict({"text": [b"a b d", b""]})
    assert set(answers["label"].reshape(-1)) <= {b"", b"PER"}


@pytest.mark.parametrize(
    "names", [("good", "bad", "ugly"), pytest.param(("LABEL_0", "LABEL_1", "LABEL_2"), marks=pytest.mark.slow)]
)
def test_training_goes_on_with_the_head_of_the_checkpoint(fit, exported, tmp_path, names):
    folder = transformers_folder.write_folder(
        tmp_path / "bert", "bert", id2label={str(k): name for k, name in enumerate(names)}
    )
    file = tmp_path / "data.tsv"
    rows = [
        f"{a} {b}\t{('bad', 'good', 'ugly')[k % 3]}"
        for k, (a, b) in enumerate((a, b) for a in "abdex" for b in "abdex")
    ]
    file.write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    options = {"task": "text_classification", "data": f"csv:{file}", "backbone": f"hf:{folder}", "batch_size": 4}
    options |= {"image_size": "auto", "head_epochs": 0, "epochs": 1, "learning_rate": 1e-9}
    trained = fit(tmp_path, task_options={"head": "checkpoint"}, **options).model
    assert trained.state["classes"] == (["good", "bad", "ugly"] if "good" in names else ["bad", "good", "ugly"])
    # with next to no learning rate, what is served is what the checkpoint answers
    raw = {"text": [text.encode() for text in TEXTS]}
    wanted = Servable.load(exported).predict(raw)["scores"]
    np.testing.assert_allclose(trained.predict(raw)["scores"], wanted, atol=1e-4)
