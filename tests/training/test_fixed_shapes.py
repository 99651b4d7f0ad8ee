"""`--input.pad_to=data`: every batch has one shape, and what comes out is what batches padded to their own longest give."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tfpt import keywords
from tfpt.config import Input, Optim
from tfpt.console import Console
from tfpt.evaluation.scoring import score
from tfpt.registry import find, split_reference
from tfpt.serving.servable import Servable
from tfpt.training.assembly import assemble
from tfpt.training.fit import train
from tfpt.training.freezing import rate_groups, set_trainable
from tfpt.training.pipeline import Augmentation, Prepared, evaluation_batches, give_one_shape, training_batches
from tfpt.training.plan import evaluation_plan, training_plan
from tfpt.training.run_folder import RunFolder
from tfpt.training.setting import set_up
from tfpt.training.stages import Training
from tfpt.training.strategies import Together
from tfpt.training.updates import Updates

COUNT, BATCH, LENGTH = 82, 8, 20
WORDS = ("sea", "day", "tree", "it's", "fine,")
TASKS = {
    "texts": "text_classification",
    "pairs": "text_classification",
    "tags": "token_classification",
    "questions": "question_answering",
}


def sentence(k, most):
    """Returns up to so many words, rarely many; lengths come in no order."""
    return [WORDS[(k + n) % len(WORDS)] for n in range((k * 7 % most) ** 3 // most**2)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Data of each kind; some texts are longer than what is read of them."""
    folder = tmp_path_factory.mktemp("data")
    rows = [(" ".join([*sentence(k, 23), "good" if k % 2 else "bad"]), " ".join(sentence(k, 5))) for k in range(COUNT)]
    texts = ["text,label", *(f'"{one}",{k % 2}' for k, (one, _) in enumerate(rows))]
    pairs = ["text,text_pair,label", *(f'"{one}","{two}",{k % 2}' for k, (one, two) in enumerate(rows))]
    (folder / "texts.csv").write_text("\n".join(texts) + "\n")
    (folder / "pairs.csv").write_text("\n".join(pairs) + "\n")
    tagged = ["\n".join([f"w{k} B-LOC", *(f"{word} O" for word in sentence(k, 31))]) for k in range(COUNT)]
    (folder / "tags.txt").write_text("\n\n".join(tagged) + "\n")
    paragraphs = []
    for k in range(COUNT):
        words = [*sentence(k, 41), f"town{k}", *sentence(k, 9)]
        context = " ".join(words)
        answers = [{"text": f"town{k}", "answer_start": context.index(f"town{k}")}] if k % 5 else []
        paragraphs.append({"context": context, "qas": [{"id": str(k), "question": "where is it", "answers": answers}]})
    (folder / "questions.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return {
        "texts": f"csv:{folder / 'texts.csv'}",
        "pairs": f"csv:{folder / 'pairs.csv'}",
        "tags": f"conll:{folder / 'tags.txt'}",
        "questions": f"squad:{folder / 'questions.json'}",
    }


@pytest.fixture(params=TASKS)
def parts(request, data):
    """A task with a tiny transformer and a random head; `prepared(kept)` makes its examples anew."""
    kind, argument = split_reference(data[request.param])
    source = find("data", kind)(argument)
    task, backbone = find("task", TASKS[request.param])(), find("backbone", "tiny")("transformer")
    preprocessor = task.adapt_preprocessor(
        backbone.preprocessor(Input(max_length=LENGTH)).for_features(source.info().features)
    )
    state = task.adapt(source, np.arange(COUNT))
    assembly = assemble(task, state, {"trunk": backbone}, {"trunk": preprocessor}, precision="float32", seed=0)
    random = np.random.default_rng(0)
    for variable in assembly.head_variables():
        variable.assign(random.normal(size=variable.shape))
    console = Console(stream=io.StringIO())

    def prepared(*, one_shape, kept=True):
        made = Prepared(source, [preprocessor], threads=2)
        if kept:
            made.keep(np.arange(COUNT), console=console, what="Preparing")
        if one_shape:
            give_one_shape(made, np.arange(COUNT), task=task, state=state, views=1, console=console)
        return made

    return SimpleNamespace(
        task=task, state=state, assembly=assembly, preprocessor=preprocessor, prepared=prepared, console=console
    )


def trained_on(parts, prepared):
    rows = training_plan(np.arange(COUNT), batch_size=BATCH, seed=1, epoch=0)
    return training_batches(
        prepared,
        lambda: iter([(0, row) for row in rows]),
        width=BATCH,
        task=parts.task,
        state=parts.state,
        augmentation=Augmentation(),
    )


def evaluated(parts, prepared):
    rows = evaluation_plan(np.arange(COUNT), batch_size=BATCH)
    return evaluation_batches(prepared, rows, task=parts.task, state=parts.state)


def is_static(spec):
    return all(one.shape.is_fully_defined() for one in tf.nest.flatten(spec))


def assert_padded(value, original):
    """Checks that a value begins with the original and has only zeros behind it."""
    assert not (np.array(value.shape) < original.shape).any()
    filled = np.zeros_like(value) if value.dtype != object else np.full_like(value, b"")
    filled[tuple(map(slice, original.shape))] = original
    np.testing.assert_array_equal(value, filled)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("batches", [trained_on, evaluated])
def test_batches_have_one_static_shape_and_are_the_usual_ones_with_zeros_behind(parts, batches, kept):
    usual = batches(parts, parts.prepared(one_shape=False, kept=kept))
    fixed = batches(parts, parts.prepared(one_shape=True, kept=kept))
    assert not is_static(usual.element_spec)
    assert is_static(fixed.element_spec)
    found = list(fixed.as_numpy_iterator())
    assert len(found) == -(-COUNT // BATCH)
    for ours, theirs in zip(found, usual.as_numpy_iterator(), strict=True):
        tf.nest.map_structure(assert_padded, ours, theirs)
    places = tf.nest.flatten(fixed.element_spec["inputs"])[0].shape[-2]
    assert places <= LENGTH == parts.preprocessor.size  # a network may have no position beyond


def test_losses_metrics_and_answers_do_not_depend_on_padding(parts):
    made = [parts.prepared(one_shape=one_shape) for one_shape in (False, True)]
    usual, fixed = (
        sum(float(parts.task.loss(parts.assembly.model, batch, False)[0]) for batch in evaluated(parts, prepared))
        for prepared in made
    )
    assert fixed == pytest.approx(usual, rel=1e-5)
    servable = Servable.of(
        task=parts.task,
        state=parts.state,
        model=parts.assembly.model,
        trunks=parts.assembly.trunks,
        preprocessors={"trunk": parts.preprocessor},
    )
    usual, fixed = (
        score(servable, one, np.arange(COUNT), console=parts.console, what="Measuring", whole=range(COUNT))
        for one in made
    )
    assert parts.task.metrics(fixed.statistics, parts.state) == pytest.approx(
        parts.task.metrics(usual.statistics, parts.state), rel=1e-4
    )
    for part in ("statistics", "answers"):
        ours, theirs = getattr(fixed, part), getattr(usual, part)
        assert set(ours) == set(theirs)
        for name in ours:
            if ours[name].dtype.kind == "f":
                np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5)
            else:
                assert_padded(ours[name], theirs[name])


def test_a_step_is_traced_and_compiled_once_in_an_epoch_of_different_lengths(parts):
    assembly = parts.assembly
    set_trainable(assembly, unfreeze="all", train_batch_norm=True)
    groups = rate_groups(assembly, Optim(name="sgd"), unfreeze="all", head_multiplier=1.0)
    updates = Updates(groups, Optim(name="sgd"), learning_rate=0.01, steps=9)
    values = [v.value for v in updates.trained]
    traces = 0

    @tf.function(jit_compile=True, autograph=False)
    def step(batch):
        nonlocal traces
        traces += 1
        with tf.GradientTape() as tape:
            loss_sum, weight_sum, _ = parts.task.loss(assembly.model, batch, True)
        updates.apply(tape.gradient(loss_sum / weight_sum, values, unconnected_gradients="zero"))
        return loss_sum

    for batch in trained_on(parts, parts.prepared(one_shape=True)):
        assert np.isfinite(step({name: batch[name] for name in ("inputs", "targets", "weight")}))
    assert traces == 1
    lengths = {tf.nest.flatten(b["inputs"])[0].shape for b in trained_on(parts, parts.prepared(one_shape=False))}
    assert len(lengths) > 1


@pytest.mark.parametrize(
    ("kind", "pad_to", "tpu"),
    [("texts", "auto", True), ("pairs", "data", False), ("tags", "data", False), ("questions", "auto", True)],
)
def test_a_run_is_the_same_but_for_shapes(data, kind, pad_to, tpu, tmp_path, monkeypatch):
    outcomes, specs = [], []
    make_stage = Training.make_stage

    def recorded(self, *arguments):
        stage, cached = make_stage(self, *arguments)
        specs.append(stage.batches(lambda: iter([])).element_spec)
        return stage, cached

    monkeypatch.setattr(Training, "make_stage", recorded)
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))
    options = {"backbone": "tiny:transformer", "max_length": LENGTH, "batch_size": BATCH, "precision": "float32"}
    options |= {"head_epochs": 1, "epochs": 1, "unfreeze": "last:2", "split": (60, 20, 20), "feature_cache": "auto"}
    options |= {"engine": "tensorflow", "optim": {"name": "sgd", "learning_rate": 0.1}}
    for name, given, is_tpu in (("usual", "auto", False), ("fixed", pad_to, tpu)):
        monkeypatch.setattr(Together, "is_tpu", is_tpu)
        (tmp_path / name).mkdir()
        output = {"run_dir": str(tmp_path / name)}
        experiment = keywords.experiment_from_kwargs(
            task=TASKS[kind], data=data[kind], pad_to=given, output=output, **options
        )
        run, console = RunFolder(tmp_path / name), Console(stream=io.StringIO())
        try:
            outcomes.append(train(set_up(experiment, console=console), run, console=console))
        finally:
            run.close()
    assert list(map(is_static, specs))[1:] == [False, True, True]
    usual, fixed = outcomes
    theirs, ours = (
        [row[name] for row in outcome.progress.history for name in row if name in ("loss", "accuracy", "f1")]
        for outcome in outcomes
    )
    assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    for found, wanted in zip(fixed.assembly.model.variables, usual.assembly.model.variables, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-3)
