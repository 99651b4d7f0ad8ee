"""What holds for every task: one way from a raw example to an answer, in training, evaluation and serving."""

import functools
import json

import numpy as np
import pytest

from tfpt import registry
from tfpt.config import Input
from tfpt.evaluation.measure import raw_examples
from tfpt.serving import bundle, parity
from tfpt.serving.servable import Servable
from tfpt.tasks import Task
from tfpt.training.assembly import assemble
from tfpt.training.pipeline import Prepared, evaluation_batches

MODALITIES = {"image": ("tiny:conv", "folder:{pictures}"), "text": ("toys.toy_words", "csv:{texts}")}
"""A small backbone and data for each modality that a task can stand on; {pictures} and {texts} are the fixtures' paths."""
DATA = {
    "question_answering": "squad:{questions}",
    "token_classification": "conll:{tagged}",
    "image_regression": "csv:{measured}",
}
"""Data of the tasks that learn from something else than classes."""
CASES = [
    *((name, "") for name in registry.names("task")),
    ("image_classification", "csv:{several}"),
    ("text_classification", "csv:{rated}"),
]
"""Every task on its own data, and tasks that learn from several kinds of labels on the others."""
COUNT = 8
TEXTS = (
    "good",
    "bad",
    "a good film",
    "not a good film, a bad one",
    "",
    "bad, bad and long " * 5,
    "good, I say",
    "bad!",
)
ASKED = (
    ("who", "Zoë  is here", "Zoë"),
    ("where is it?", "it is far, far away " * 6 + "in Köln.", "Köln"),
    ("what", "", ""),
    ("", "something", "something"),
    ("why is that so, and since when exactly is it?", "because \N{GRINNING FACE} it is", "because \N{GRINNING FACE}"),
    ("who", "nobody knows", ""),
    ("whom", "(her).", "her"),
    ("when", "yesterday\n\nor today", "or today"),
)
TAGGED = "O O B-PER|B-LOC|O O O B-PER I-PER O|O|B-LOC O O O O O O O O O O O O B-PER I-PER|O B-LOC|B-PER B-PER|I-PER"


@pytest.fixture(scope="module")
def paths(pictures, tmp_path_factory):
    """Small data of each modality."""
    texts = tmp_path_factory.mktemp("texts") / "texts.csv"
    rows = [f'"{text}",{"no" if "bad" in text else "yes"}' for text in TEXTS]
    texts.write_text("\n".join(["text,label", *rows]) + "\n")
    questions = tmp_path_factory.mktemp("questions") / "questions.json"
    asked = [
        (
            context,
            {"id": f"{k}", "question": question, "answers": [{"text": answer, "answer_start": context.find(answer)}]},
        )
        for k, (question, context, answer) in enumerate(ASKED)
    ]
    for _, question in asked:
        question["answers"] = [one for one in question["answers"] if one["text"]]
    paragraphs = [{"context": context, "qas": [question]} for context, question in asked]
    questions.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    tagged = tmp_path_factory.mktemp("tagged") / "tagged.txt"
    sentences = [[f"{'(' * (k % 2)}w{k}. {tag}" for k, tag in enumerate(line.split())] for line in TAGGED.split("|")]
    tagged.write_text("\n\n".join("\n".join(lines) for lines in sentences) + "\n")
    tables = tmp_path_factory.mktemp("tables")
    pictures_of = sorted(pictures.glob("*/*.png"))
    contents = {
        "several": ["path,labels", *(f"{path},{'a|b|c'[: 2 * (k % 3) + 1]}" for k, path in enumerate(pictures_of))],
        "measured": ["path,label", *(f"{path},{k}.5" for k, path in enumerate(pictures_of))],
        "rated": ["text,label", *(f'"{text}",{k}.25' for k, text in enumerate(TEXTS))],
    }
    for name, lines in contents.items():
        (tables / f"{name}.csv").write_text("\n".join(lines) + "\n")
    own = {name: tables / f"{name}.csv" for name in contents}
    return {"pictures": pictures, "texts": texts, "questions": questions, "tagged": tagged, **own}


def make(name, paths, data):
    """Returns a servable of a task with a random head, a few examples' batch, and their raw values."""
    task = registry.find("task", name)()
    trunk, of_modality = MODALITIES[task.modalities[0]]
    data = data or DATA.get(name, of_modality)
    kind, argument = registry.split_reference(trunk)
    backbones = {"trunk": registry.find("backbone", kind)(argument)}
    kind, argument = registry.split_reference(data.format(**paths))
    data_class = registry.find("data", kind)
    source = data_class(argument, data_class.Config(label_type="multi") if "several" in data else None)
    info = source.info()
    preprocessor = backbones["trunk"].preprocessor(Input(image_size=16)).for_features(info.features)
    preprocessors = {"trunk": task.adapt_preprocessor(preprocessor)}
    examples = np.arange(0, info.size, info.size // COUNT)[:COUNT]
    state = task.adapt(source, examples)
    made = assemble(task, state, backbones, preprocessors, precision="float32", seed=0)
    random = np.random.default_rng(0)
    for variable in made.head_variables():  # heads start at zero, where all answers are equal
        if variable.dtype == "float32":
            variable.assign(random.normal(size=variable.shape))
    servable = Servable.of(task=task, state=state, model=made.model, trunks=made.trunks, preprocessors=preprocessors)
    prepared = Prepared(source, list(preprocessors.values()), threads=1)
    (batch,) = evaluation_batches(prepared, examples[np.newaxis], task=task, state=state)
    return servable, batch, list(raw_examples(source, examples, preprocessors.values()))


@pytest.fixture(scope="module")
def made(paths):
    """Returns `make` of a task and its data, made once."""
    return functools.cache(lambda name, data: make(name, paths, data))


@pytest.mark.parametrize(("name", "data"), CASES)
def test_served_equals_decoded_predictions_before_and_after_save_and_load(name, data, made, tmp_path):
    servable, batch, examples = made(name, data)
    task, state, inputs, frame = servable.task, servable.state, batch["inputs"], batch["frame"]
    wanted = {k: v.numpy() for k, v in task.decode(task.predict(servable.model, inputs), frame, state).items()}
    raw = {feature: [example[feature] for example in examples] for feature in examples[0]}
    _assert_same(servable.predict(raw), wanted)
    bundle.save(servable, tmp_path / "1", model_name=name)
    found = parity.prove(tmp_path / "1", examples, wanted, batch_size=COUNT)
    assert (found.passed, found.reason) == (True, "")
    loaded = Servable.load(tmp_path)
    assert (type(loaded.task), loaded.state) == (type(task), state)
    assert list(loaded.preprocessors.values()) == list(servable.preprocessors.values())
    _assert_same(loaded.predict(raw), wanted)
    ours, theirs = (
        {k: v.numpy() for k, v in task.decode(one.outputs(inputs), frame, state).items()} for one in (loaded, servable)
    )
    _assert_same(ours, theirs)


def _assert_same(answer, wanted):
    found = parity.compare(wanted, answer, seconds=0.0)
    assert (found.passed, found.reason) == (True, "")
    assert found.max_difference < 1e-5


@pytest.mark.parametrize("name", registry.names("task"))
def test_a_task_defines_what_a_task_must(name):
    task = registry.find("task", name)()
    for method in ("batch", "build", "decode"):
        assert getattr(type(task), method) is not getattr(Task, method), method
    assert task.primary.name in task.metric_names()
    assert set(task.proportions) <= set(task.metric_names())
    assert task.modalities
    assert type(task).__doc__


@pytest.mark.parametrize(("name", "data"), CASES)
def test_metrics_are_those_that_are_named(name, data, made):
    servable, batch, _ = made(name, data)
    task = servable.task
    loss_sum, weight_sum, outputs = task.loss(servable.model, batch, False)
    assert loss_sum.shape == weight_sum.shape == ()
    assert np.isfinite(loss_sum) and float(weight_sum) >= 1
    statistics = {k: v.numpy() for k, v in task.statistics(outputs, batch, servable.state).items()}
    statistics = task.finish_statistics(statistics, servable.state)
    assert all(len(value) == COUNT for value in statistics.values())
    assert set(task.metrics(statistics, servable.state)) == set(task.metric_names_of(servable.state))
    assert set(task.metric_names_of(servable.state)) <= set(task.metric_names())
    if task.kept_answers:
        assert set(task.kept_answers) & set(task.decode(outputs, batch["frame"], servable.state))
