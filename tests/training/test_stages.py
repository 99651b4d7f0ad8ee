"""What each stage trains, on what, and when what is frozen is computed once."""

import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
from toys.toy_words import WIDTH

from tfpt import keywords
from tfpt.config import Input
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.registry import find
from tfpt.training import feature_cache
from tfpt.training.assembly import assemble
from tfpt.training.cached_features import Kept
from tfpt.training.feature_rows import Layout, Rows
from tfpt.training.fit import train
from tfpt.training.run_folder import RunFolder
from tfpt.training.setting import set_up
from tfpt.training.stages import Training

SMALL = {"image_size": 8, "batch_size": 6, "head_epochs": 1, "epochs": 0, "precision": "float32", "split": (50, 25, 25)}


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    """Trains without measuring: `trained(epochs=1)`; returns the outcome, what was said, and whether each wish for cached
    features was granted. Equal settings are trained once."""
    known = {}

    def trained(**options):
        key = repr(sorted(options.items()))
        if key not in known:
            with pytest.MonkeyPatch.context() as patch:
                given = {"data": f"folder:{pictures}", "augment": "none", **SMALL, **options}
                known[key] = _train(tmp_path_factory.mktemp("run"), patch, **given)
        return known[key]

    return trained


def _train(folder, patch, *, task="image_classification", backbone="toys.toy_pixels", **options):
    output = {"run_dir": str(folder)}
    experiment = keywords.experiment_from_kwargs(task=task, backbone=backbone, output=output, **options)
    console, cached = Console(stream=io.StringIO()), []
    features = feature_cache.FeatureCache.features

    def recorded(self, *examples):
        found = features(self, *examples)
        cached.append(found is not None)
        return found

    patch.setattr(feature_cache.FeatureCache, "features", recorded)
    patch.setenv("TFPT_HOME", str(folder / "home"))
    run = RunFolder(folder)
    try:
        outcome = train(set_up(experiment, console=console), run, console=console)
    finally:
        run.close()
    return outcome, console.stream.getvalue(), cached


def head(outcome):
    return [v.numpy() for v in outcome.assembly.head_variables()]


def assert_same(one, other):
    for ours, theirs in zip(head(one), head(other), strict=True):
        assert np.abs(ours).max() > 1e-3
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def losses(outcome):
    return [row["loss"] for row in outcome.progress.history]


def test_features_that_are_not_kept_are_computed_anew_and_nothing_else_changes(trained):
    options = {"epochs": 1, "unfreeze": "last:2", "head_epochs": 1}
    once, said, cached = trained(**options)
    assert cached == [True, True]
    assert re.search(r"The first step was done \d+\.\d s after the start", said)
    anew, _, cached = trained(feature_cache="off", **options)
    assert cached == [False, False]
    assert losses(anew) == pytest.approx(losses(once), abs=1e-5)
    for ours, theirs in zip(anew.assembly.model.variables, once.assembly.model.variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-4)


def test_a_head_that_is_all_there_is_is_trained_with_the_augmentation_that_was_asked_for(trained):
    plain, *_ = trained()
    shaded, said, cached = trained(augment="toys.toy_shade")
    assert cached == [False]
    assert "augmented anew, so it runs 1 times" in said
    assert losses(shaded) != pytest.approx(losses(plain), abs=1e-4)
    automatic, _, cached = trained(augment="auto")
    assert cached == [True]
    assert losses(automatic) == pytest.approx(losses(plain), abs=1e-6)
    assert trained(augment="toys.toy_shade", epochs=1, unfreeze="none", steps=1)[2] == [False]


def test_cached_views_are_the_augmentation_of_the_first_epochs(trained):
    anew, _, cached = trained(augment="toys.toy_shade")
    assert cached == [False]
    views, _, cached = trained(augment="toys.toy_shade", cached_views=3)
    assert cached == [True]
    assert losses(views) == pytest.approx(losses(anew), abs=1e-5)


def test_a_head_that_is_the_first_of_two_stages_is_trained_on_cached_features(trained):
    _, said, cached = trained(augment="toys.toy_shade", epochs=1, steps=1)
    assert cached == [True]
    assert "Random changes of examples start with the second stage" in said


@pytest.mark.parametrize(("accumulate", "trains"), [(1, True), (2, False)])
def test_batch_norm_is_trained_only_where_a_part_of_the_batch_is_large_enough(trained, accumulate, trains):
    # the head starts at zero, so nothing below it gets a gradient before the second update
    options = {"batch_size": 16, "accumulate": accumulate, "head_epochs": 0, "epochs": 1, "steps": 2, "warmup": 0.0}
    outcome, *_ = trained(split=(100, 0, 0), **options)
    backbone = find("backbone", "tiny")()
    preprocessor = backbone.preprocessor(Input(image_size=8))
    state = {"classes": ["a", "b", "c"]}
    task = find("task", "image_classification")()
    start = assemble(task, state, {"trunk": backbone}, {"trunk": preprocessor}, precision="float32", seed=0)
    pairs = zip(start.trunks["trunk"].variables, outcome.assembly.trunks["trunk"].variables, strict=True)
    moved = {a.path.rpartition("/")[2] for a, b in pairs if not np.array_equal(a.numpy(), b.numpy())}
    assert moved == {"kernel"} | ({"gamma", "beta", "moving_mean", "moving_variance"} if trains else set())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"unfreeze": "last:7"}, "--train.unfreeze=last:7: the backbone has 6 groups"),
        ({"unfreeze": "regex:absent"}, "--train.unfreeze=regex:absent: no variable matches"),
    ],
)
def test_a_stage_that_cannot_be_is_said_before_anything_is_trained(pictures, tmp_path, monkeypatch, options, says):
    with pytest.raises(UserError, match=says):
        _train(tmp_path, monkeypatch, data=f"folder:{pictures}", **{**SMALL, "epochs": 1}, **options)
    assert not (tmp_path / "checkpoints").exists()
    assert not (tmp_path / "metrics.jsonl").exists()


def test_texts_of_varying_length_are_cached_whatever_is_read_of_them(trained, tmp_path):
    words = np.random.default_rng(0).choice(["fine", "day", "sea", "tree"], (150, 6))
    rows = [f"{' '.join(row[: k % 6])} {'good' if k % 2 else 'bad'},{k % 2}" for k, row in enumerate(words)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    options = {"data": f"csv:{tmp_path / 'texts.csv'}", "backbone": "toys.toy_words", "task": "text_classification"}
    once, _, cached = trained(**options)
    assert cached == [True]
    assert head(once)[0].shape == (WIDTH, 2)
    # a task that reads every word's vector, whose number varies
    words, _, cached = trained(**{**options, "task": "toys.toy_mean"})
    assert cached == [True]
    assert words.progress.total_steps == once.progress.total_steps
    assert np.abs(head(words)[0]).max() > 1e-3


def test_a_head_is_solved_exactly_and_the_next_stage_goes_on_from_it(trained):
    options = {"epochs": 1, "unfreeze": "last:1", "ema": 0.9, "learning_rate": 1e-6}
    solved, said, cached = trained(head_solver="exact", **options)
    assert cached == [True, True]
    assert "The head was solved exactly on 16 examples: C = " in said
    rows = solved.progress.history
    assert [(row["stage"], row["split"]) for row in rows][:2] == [("head", "train"), ("head", "validation")]
    # On its own training examples regularised logistic regression beats a few steps from zero by far.
    first = next(row["loss"] for row in rows if row["stage"] == "fine_tune" and row["split"] == "train")
    assert first == pytest.approx(rows[0]["loss"], abs=0.2)
    assert first < 0.5 * losses(trained(**options)[0])[0]


def test_an_exact_head_needs_all_features_at_once(trained):
    for options in ({"feature_cache": "off"}, {"augment": "toys.toy_shade"}):
        with pytest.raises(UserError, match=r"head_solver=exact needs the features of all examples at once"):
            trained(head_solver="exact", **options)


@pytest.mark.parametrize(
    ("shape", "lengths", "most"), [((None, 3), [2, 3], 64), ((25,), None, 1024), ((2**18,), None, 64)]
)
def test_validation_takes_long_texts_a_few_at_a_time_from_kept_features_too(shape, lengths, most):
    layout = Layout(shape, np.dtype("float32"))
    values = np.zeros((5 if lengths else 2, *layout.item), np.float32)
    rows = Rows(layout, values, np.array(lengths) if lengths else None)
    train = Kept(rows=[rows], pack=None, slots=np.arange(2), views=1)
    cached = SimpleNamespace(train=train, evaluation_batches=lambda rows: rows)
    training = SimpleNamespace(prepared=SimpleNamespace(lengths=np.full(2048, 512)), task=None, state=None)
    assert Training._validation_batches(training, np.arange(2048), cached).shape[1] == most
    assert Training._validation_batches(training, np.arange(most + 2), cached).shape == (2, most // 2 + 1)
