"""Tagging and question answering from data with a rule to a served model, through the programs."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from tfpt import evaluate, predict, train
from tfpt.serving.servable import Servable

WORDS = ("and", "then", "saw", "the", "old", "house", "near", "a", "river", "people", "had", "no", ",", ".", "(", ")")
FIRST = ("Anna", "Berik", "Katte", "Luvo", "O'Neil", "Per-Erik")
LAST = ("Berg", "Dorfer", "Stadler", "Vogt", "Al-Nor")
PLACES = ("Graburg", "Holdorf", "Norstadt", "Zell-am-See")
COLOURS = ("red", "green", "blue", "black", "white")
TOWNS = ("Bonn", "Rome", "Oslo", "Lima", "Cairo")
HOSTILE = [
    *("", " ", "\0", "nul\0in\0side \0", "👍🏽👩‍👩‍👧 ok", "שלום עולם مرحبا", "\n\n", "x" * 100_000, "word " * 20_000),
    *(b"\xff\xfe\x80 no utf-8", b"\xe4\xb8 cut"),
]
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
    options = {**SMALL, "head_epochs": 1, "epochs": 4, "learning_rate": 5e-3}
    run = fit(folder, task="token_classification", data=f"conll:{data}", **options)
    return SimpleNamespace(run=run, data=data, model=Servable.load(run.model_folder))


@pytest.fixture(scope="module")
def answerer(fit, tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("answerer"), np.random.default_rng(0)
    data = folder / "data"
    data.mkdir()
    for name, count in (("train", 640), ("dev", 60), ("test", 100)):
        asked = [question(random, f"{name}-{k}") for k in range(count)]
        (data / f"{name}.json").write_text(json.dumps({"data": [{"paragraphs": asked}]}))
    options = {**SMALL, "max_length": 40, "batch_size": 32, "epochs": 6, "learning_rate": 5e-3}
    run = fit(folder, task="question_answering", data=f"squad:{data}", **options)
    return SimpleNamespace(run=run, data=data, model=Servable.load(run.model_folder))


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


def test_answers_are_printed_as_words(tagger, answerer, capsys):
    code, printed = call(capsys, predict, f"--model={tagger.run.model_folder}", "--text=then (Anna Vogt), saw Graburg.")
    assert code == 0
    assert [line.rpartition(" ")[0] for line in printed.splitlines()] == ["PER Anna Vogt", "LOC Graburg"]
    text = "where did it happen? ||| the house near Oslo , a river"
    code, printed = call(capsys, predict, f"--model={answerer.run.model_folder}", f"--text={text}")
    assert (code, printed.split()[0]) == (0, "Oslo")
    code, printed = call(capsys, predict, f"--model={answerer.run.model_folder}", f"--text={text}", "--json")
    answer = json.loads(printed)
    assert (answer["answer"], answer["start"], answer["end"]) == ("Oslo", 15, 19)


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


def test_evaluate_repeats_the_numbers_of_the_run(answerer, capsys, tmp_path):
    code, printed = call(
        capsys, evaluate, f"--model={answerer.run.model_folder}", f"--data=squad:{answerer.data}",
        "--evaluate.split=test", f"--evaluate.output={tmp_path}", "--json",
    )  # fmt: skip
    assert code == 0
    assert json.loads(printed)["test"] == answerer.run.metrics["test"]


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


def test_odd_texts_are_answered(tagger, answerer):
    raw = [text if isinstance(text, bytes) else text.encode() for text in HOSTILE]
    entities = tagger.model.predict({"text": raw})
    assert len(entities["label"]) == len(raw)
    assert np.isfinite(entities["score"]).all()
    for questions, contexts in (([b"what colour was it?"] * len(raw), raw), (raw, [b"a river"] * len(raw))):
        answers = answerer.model.predict({"question": questions, "context": contexts})
        assert np.isfinite(answers["score"]).all()
        for context, text, start, end in zip(contexts, *(answers[n] for n in ("answer", "start", "end")), strict=True):
            assert context.decode("utf-8", "replace")[start:end] == text.decode()
