"""Tagging and question answering from data with a rule to a served model, through the programs."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pandas
import pytest

from tfpt import evaluate, predict, train
from tfpt.serving import asked
from tfpt.serving.servable import Servable

WORDS = ("and", "then", "saw", "the", "old", "house", "near", "a", "river", "people", "had", "no", ",", ".", "(", ")")
FIRST = ("Anna", "Berik", "Katte", "Luvo", "O'Neil", "Per-Erik")
LAST = ("Berg", "Dorfer", "Stadler", "Vogt", "Al-Nor")
PLACES = ("Graburg", "Holdorf", "Norstadt", "Zell-am-See")
COLOURS = ("red", "green", "blue", "black", "white")
TOWNS = ("Bonn", "Rome", "Oslo", "Lima", "Cairo")
HOSTILE = [
    *("", " ", "\0", "nul\0in\0side \0", "👍🏽👩‍👩‍👧 ok", "שלום עולם مرحبا", "\n\n", "x" * 3000, "word " * 300),
    *(b"\xff\xfe\x80 no utf-8", b"\xe4\xb8 cut"),
]
HUGE = ["x" * 100_000, "word " * 20_000, "👍🏽" * 50_000]
SMALL = {"backbone": "tiny:transformer", "precision": "float32", "head_epochs": 0, "batch_size": 16}


def sentence(random):
    """Returns tokens with tags: names are people's or places', and a last name follows a first one."""
    found = []
    for kind in random.integers(5, size=random.integers(2, 6)):
        if kind < 2:
            found += [f"{word} O" for word in random.choice(WORDS, random.integers(1, 4))]
        elif kind < 4:
            found += [f"{random.choice(FIRST)} B-PER", f"{random.choice(LAST)} I-PER"][: kind - 1]
        else:
            found.append(f"{random.choice(PLACES)} B-LOC")
    return "\n".join(found)


def question(random, name):
    """Returns a context of up to 60 words with a colour and a town, one of which is asked for, and may be missing."""
    asked = random.integers(2)
    things = [random.choice(COLOURS), random.choice(TOWNS)]
    answers = [things[asked]]
    if random.random() < 0.3:
        things[asked], answers = "nothing", []
    words = random.choice(WORDS, random.integers(5, 60)).tolist()
    for thing in things:
        words.insert(random.integers(len(words) + 1), thing)
    context = " ".join(words)
    spans = [{"text": text, "answer_start": len(context.partition(text)[0])} for text in answers]
    text = ("what colour was it?", "where did it happen?")[asked]
    qas = [{"id": name, "question": text, "answers": spans, "is_impossible": not answers}]
    return {"context": context, "qas": qas}


@pytest.fixture(scope="module")
def tagger(fit, tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("tagger"), np.random.default_rng(0)
    data = folder / "data"
    data.mkdir()
    for name, count in (("train", 320), ("dev", 40), ("test", 64)):
        (data / f"{name}.txt").write_text("\n\n".join(sentence(random) for _ in range(count)) + "\n")
    options = {**SMALL, "epochs": 4, "learning_rate": 5e-3}
    run = fit(folder, task="token_classification", data=f"conll:{data}", **options)
    return SimpleNamespace(run=run, data=data, model=Servable.load(run.model_folder))


@pytest.fixture(scope="module")
def answerer(fit, tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("answerer"), np.random.default_rng(0)
    data = folder / "data"
    data.mkdir()
    for name, count in (("train", 640), ("dev", 60), ("test", 100)):
        paragraphs = [question(random, f"{name}-{k}") for k in range(count)]
        (data / f"{name}.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    options = {**SMALL, "max_length": 40, "batch_size": 32, "epochs": 6, "learning_rate": 5e-3}
    run = fit(folder, task="question_answering", data=f"squad:{data}", **options)
    return SimpleNamespace(run=run, data=data, model=Servable.load(run.model_folder))


def encoded(texts):
    return [text if isinstance(text, bytes) else text.encode() for text in texts]


def call(capsys, program, *argv):
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit:
        program.main(list(map(str, argv)))
    return exit.value.code or 0, capsys.readouterr().out


def test_a_tagger_learns_the_rule_and_is_proven(tagger):
    found = tagger.run.metrics
    assert found["test"]["f1"]["value"] >= 0.95
    assert found["test"]["cut_off"]["value"] == 0
    assert found["parity"]["passed"] and found["parity"]["examples"] == 64
    assert [row["class"] for row in found["per_class"]] == ["LOC", "PER"]


def test_entities_are_printed_as_words(tagger, capsys):
    code, printed = call(capsys, predict, f"--model={tagger.run.model_folder}", "--text=then (Anna Vogt), saw Graburg.")
    assert code == 0
    assert [line.rpartition(" ")[0] for line in printed.splitlines()] == ["PER Anna Vogt", "LOC Graburg"]


def test_lines_of_a_file_are_tagged(tagger, capsys, tmp_path):
    file = tmp_path / "new.txt"
    file.write_text("then (Anna Vogt), saw Graburg.\n\nthen saw\n")
    code, printed = call(capsys, predict, f"--model={tagger.run.model_folder}", file, "--predict.format=csv")
    assert code == 0
    first, second = list(csv.DictReader(printed.splitlines()))
    assert (first["path"], first["label1"], first["label2"]) == (f"{file}:1", "PER Anna Vogt", "LOC Graburg")
    assert (second["path"], second["label1"]) == (f"{file}:3", "")
    frame = pandas.DataFrame({"text": ["Anna Vogt saw Graburg", "then saw"], "other": [1, 2]})
    assert tagger.run.predict(frame)["label"].tolist() == [[b"PER", b"LOC"], [b"", b""]]


def predictions(run):
    with open(run.folder / "predictions.csv", encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["split"] == "test"]


def test_spans_of_predictions_add_up_to_the_metrics(tagger):
    spans, metrics = predictions(tagger.run), tagger.run.metrics["test"]
    right = sum(row["correct"] == "1" for row in spans)
    assert metrics["precision"]["value"] == pytest.approx(right / sum(bool(row["predicted"]) for row in spans))
    assert metrics["recall"]["value"] == pytest.approx(right / sum(bool(row["label"]) for row in spans))


def test_tags_in_another_order_are_matched_by_name(tagger, capsys, tmp_path):
    data = tmp_path / "few.txt"
    data.write_text("Graburg B-LOC\nand O\n\nBerg B-PER\n")  # the model has more tags, and I-PER before
    code, printed = call(
        capsys, evaluate, f"--model={tagger.run.model_folder}", f"--data=conll:{data}", f"--evaluate.output={tmp_path}",
        "--json",
    )  # fmt: skip
    assert code == 0
    support = {row["class"]: row["support"] for row in json.loads(printed)["per_class"]}
    assert support == {"LOC": 1, "PER": 1}


@pytest.mark.parametrize("texts", [HOSTILE, pytest.param(HUGE, marks=pytest.mark.slow)], ids=["odd", "huge"])
def test_odd_texts_are_tagged(tagger, texts):
    entities = tagger.model.predict({"text": encoded(texts)})
    assert len(entities["label"]) == len(texts)
    assert np.isfinite(entities["score"]).all()


# Of the answerer only the parts are tested each time: test_question_answering.py, test_round_trip.py, the contract tests.


@pytest.mark.slow
def test_an_answerer_learns_the_rule_in_every_window_and_is_proven(answerer):
    found = answerer.run.metrics
    assert found["test"]["f1"]["value"] >= 0.95
    assert found["test"]["no_answer_accuracy"]["value"] >= 0.9
    assert found["parity"]["passed"] and found["parity"]["examples"] == 100
    assert (found["threshold"] != 0) and found["threshold"] == answerer.model.state["threshold"]
    for before in (0, 30, 200):
        context = "then " * before + "the old house near green , and then people saw a river " + "near " * 30
        answer = answerer.model.predict({"question": [b"what colour was it?"], "context": [context.encode()]})
        assert answer["answer"].tolist() == [b"green"]
        start, end = int(answer["start"][0]), int(answer["end"][0])
        assert (start, context[start:end]) == (5 * before + 19, "green")


@pytest.mark.slow
def test_answers_are_printed_as_words(answerer, capsys):
    text = "where did it happen? ||| the house near Oslo , a river"
    code, printed = call(capsys, predict, f"--model={answerer.run.model_folder}", f"--text={text}")
    assert (code, printed.split()[0]) == (0, "Oslo")
    code, printed = call(capsys, predict, f"--model={answerer.run.model_folder}", f"--text={text}", "--json")
    answer = json.loads(printed)
    assert (answer["answer"], answer["start"], answer["end"]) == ("Oslo", 15, 19)


@pytest.mark.slow
def test_questions_of_a_file_are_answered(answerer, capsys):
    code, printed = call(capsys, predict, f"--model={answerer.run.model_folder}", answerer.data / "dev.json", "--json")
    rows = [json.loads(line) for line in printed.splitlines()]
    assert (code, [row["path"] for row in rows]) == (0, [f"dev-{k}" for k in range(60)])
    argv = [f"--model={answerer.run.model_folder}", f"--data=squad:{answerer.data / 'dev.json'}", "--json"]
    code, printed = call(capsys, predict, *argv)
    assert [json.loads(line)["answer"] for line in printed.splitlines()] == [row["answer"] for row in rows]
    raw = [raw for _, raw in asked.of_files([str(answerer.data / "dev.json")], ["question", "context"])]
    found = answerer.run.predict(pandas.DataFrame(raw[:3]).map(bytes.decode))
    assert [answer.decode() for answer in found["answer"]] == [row["answer"] for row in rows[:3]]


@pytest.mark.slow
def test_answers_of_predictions_add_up_to_the_metrics(answerer):
    rows, metrics = predictions(answerer.run), answerer.run.metrics["test"]
    for name in ("exact_match", "f1"):
        assert metrics[name]["value"] == pytest.approx(np.mean([float(row[name]) for row in rows]))
    answered = np.array([[bool(row["answers"]), bool(row["predicted"])] for row in rows])
    assert answerer.run.metrics["confusion"] == [
        [int(np.sum((answered == [there, given]).all(axis=1))) for given in (True, False)] for there in (True, False)
    ]


@pytest.mark.slow
def test_a_dry_run_walks_to_the_answer(tagger, answerer, capsys):
    for task, data in (
        ("token_classification", f"conll:{tagger.data}"),
        ("question_answering", f"squad:{answerer.data}"),
    ):
        code, printed = call(
            capsys, train, f"--task={task}", f"--data={data}", "--backbone=tiny:transformer", "--dry_run"
        )
        assert code == 0
        assert [line.split()[2] for line in printed.splitlines() if line.startswith("served answer")]


@pytest.mark.slow
def test_evaluate_repeats_the_numbers_of_the_run(answerer, capsys, tmp_path):
    code, printed = call(
        capsys, evaluate, f"--model={answerer.run.model_folder}", f"--data=squad:{answerer.data}",
        "--evaluate.split=test", f"--evaluate.output={tmp_path}", "--json",
    )  # fmt: skip
    assert code == 0
    assert json.loads(printed)["test"] == answerer.run.metrics["test"]


@pytest.mark.slow
@pytest.mark.parametrize("texts", [HOSTILE, HUGE], ids=["odd", "huge"])
def test_odd_questions_and_contexts_are_answered(answerer, texts):
    raw = encoded(texts)
    for questions, contexts in (([b"what colour was it?"] * len(raw), raw), (raw, [b"a river"] * len(raw))):
        answers = answerer.model.predict({"question": questions, "context": contexts})
        assert np.isfinite(answers["score"]).all()
        for context, text, start, end in zip(contexts, *(answers[n] for n in ("answer", "start", "end")), strict=True):
            assert context.decode("utf-8", "replace")[start:end] == text.decode()
