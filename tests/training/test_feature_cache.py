"""What is frozen is computed once, and training on what was kept is training on the whole."""

import dataclasses
import functools
import io
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfpt.augment import parse
from tfpt.config import Input, Optim
from tfpt.console import Console
from tfpt.data.csv import Csv
from tfpt.data.folder import Folder
from tfpt.errors import UserError
from tfpt.evaluation.scoring import score
from tfpt.registry import find
from tfpt.serving.servable import Servable
from tfpt.training import feature_cache, freezing
from tfpt.training.assembly import assemble, copy_variables, seeded
from tfpt.training.evaluate import progress_evaluation
from tfpt.training.feature_cache import FeatureCache, Wish
from tfpt.training.feature_store import FeatureStore
from tfpt.training.loop import compiled_steps
from tfpt.training.pipeline import Augmentation, Prepared, evaluation_batches, training_batches
from tfpt.training.plan import evaluation_plan, training_plan
from tfpt.training.prefix import cut, cut_trunks
from tfpt.training.updates import Updates

STATE = {"classes": ["blue", "green", "red"], "counts": [1, 1, 1]}
TASK = find("task", "image_classification")()
TRAIN = np.arange(1, 36, 3)
VALIDATION = np.array([0, 2, 5, 6, 33])
BATCH = 5


@dataclasses.dataclass(frozen=True)
class Parts:
    assembly: object
    prepared: Prepared
    digests: list
    task: object = TASK
    state: dict = dataclasses.field(default_factory=lambda: STATE)

    def cuts(self, unfreeze="none"):
        freezing.set_trainable(self.assembly, unfreeze=unfreeze, train_batch_norm=False)
        return {name: cut(trunk) for name, trunk in self.assembly.trunks.items()}

    def cache(self, folder, cuts, console=None, **wish):
        return FeatureCache(
            cuts=cuts,
            prepared=self.prepared,
            digests=self.digests,
            task=self.task,
            state=self.state,
            wish=Wish(**{"epochs": 3, "engine": "tensorflow", **wish}),
            store=FeatureStore(folder / "features"),
            memory=folder / "engines.json",
            console=console or Console(stream=io.StringIO()),
        )

    def train(self, data, unfreeze, recompute_or_cached_cuts=None, steps=9):
        """Trains a few steps from the assembly's weights and puts these back; returns losses and what was trained."""
        before = [v.numpy() for v in self.assembly.model.variables]
        around = self.assembly
        if recompute_or_cached_cuts:
            cuts, recompute = recompute_or_cached_cuts
            with seeded(0):
                model = self.task.build(cut_trunks(cuts, recompute=recompute), self.state)
            around = dataclasses.replace(around, model=model)
            copy_variables(self.assembly.head_variables(), around.head_variables())
        groups = freezing.rate_groups(around, Optim(), unfreeze=unfreeze, head_multiplier=1.0)
        updates = Updates(groups, Optim(), learning_rate=0.02, steps=steps)
        losses, *_ = compiled_steps(self.task, around.model, updates, None, accumulate=1)(
            iter(data), tf.constant(steps)
        )
        after = {v.path.removeprefix("after/"): v.numpy() for v in around.model.trainable_variables}
        for variable, value in zip(self.assembly.model.variables, before, strict=True):
            variable.assign(value)
        return losses.numpy(), after


def parts_of(source, backbone, task, state, **options):
    preprocessor = backbone.preprocessor(Input(**options))
    pre = {"trunk": preprocessor}
    assembly = assemble(task, state, {"trunk": backbone}, pre, precision="float32", seed=0)
    prepared = Prepared(source, [preprocessor], threads=2)
    return Parts(assembly, prepared, list(source.digests()), task, state)


@pytest.fixture(scope="module")
def parts(pictures):
    return parts_of(Folder(str(pictures)), find("backbone", "toys.toy_pixels")(), TASK, STATE, image_size=16)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    words = np.random.default_rng(0).choice(["fine", "day", "sea", "tree"], (40, 9))
    rows = [f"{' '.join(row[: 1 + k % 8])},{'ab'[k % 2]}" for k, row in enumerate(words)]
    (folder / "texts.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    task, state = find("task", "text_classification")(), {"classes": ["a", "b"], "counts": [1, 1]}
    found = parts_of(Csv(str(folder / "texts.csv")), find("backbone", "tiny")("transformer"), task, state)
    found.prepared.keep(np.arange(40), console=Console(stream=io.StringIO()), what="")
    return found


def rows_of(epochs=3, lengths=None, examples=TRAIN):
    def rows():
        for epoch in range(epochs):
            plan = training_plan(examples, batch_size=BATCH, seed=0, epoch=epoch, lengths=lengths)
            yield from ((epoch, row) for row in plan)

    return rows


def whole_batches(parts, ops=(), **plan):
    augmentation = Augmentation(ops=ops)
    return training_batches(
        parts.prepared, rows_of(**plan), width=BATCH, task=parts.task, state=parts.state, augmentation=augmentation
    )


def assert_same_training(one, other, tolerance=1e-5):
    np.testing.assert_allclose(one[0], other[0], atol=tolerance)
    assert one[1].keys() == other[1].keys()
    for path, value in one[1].items():
        np.testing.assert_allclose(value, other[1][path], atol=10 * tolerance, err_msg=path)


@pytest.mark.parametrize("unfreeze", ["none", "last:2"])
def test_training_on_what_was_kept_is_training_on_the_whole(parts, tmp_path, unfreeze):
    cuts = parts.cuts(unfreeze)
    cached = parts.cache(tmp_path, cuts).features(TRAIN, VALIDATION)
    wanted = parts.train(whole_batches(parts), unfreeze)
    assert max(np.abs(value).max() for value in wanted[1].values()) > 1e-2
    again = parts.train(whole_batches(parts), unfreeze, (cuts, True))
    kept = parts.train(cached.training_batches(rows_of(), width=BATCH), unfreeze, (cuts, False))
    assert_same_training(again, wanted)
    assert_same_training(kept, wanted)


def draw_head(parts, request):
    """Draws a head for one test; what the module shares is as it was afterwards."""
    random = np.random.default_rng(0)
    for variable in parts.assembly.head_variables():
        request.addfinalizer(functools.partial(variable.assign, variable.numpy()))
        variable.assign(random.normal(size=variable.shape))


def test_evaluation_on_what_was_kept_is_evaluation_on_the_whole(parts, tmp_path, request):
    cuts = parts.cuts()
    cached = parts.cache(tmp_path, cuts).features(TRAIN, VALIDATION)
    model = TASK.build(cut_trunks(cuts, recompute=False), STATE)
    around = dataclasses.replace(parts.assembly, model=model)
    draw_head(parts, request)
    copy_variables(parts.assembly.head_variables(), around.head_variables())
    rows = evaluation_plan(VALIDATION, batch_size=3)
    whole = evaluation_batches(parts.prepared, rows, task=TASK, state=STATE)
    wanted = progress_evaluation(TASK, STATE, parts.assembly.model, whole)(lambda: None, Console(quiet=True))
    found = progress_evaluation(TASK, STATE, model, cached.evaluation_batches(rows))(lambda: None, Console(quiet=True))
    assert found == {name: pytest.approx(value, abs=1e-5) for name, value in wanted.items()}


@pytest.mark.parametrize("unfreeze", ["none", "last:2"])
def test_texts_of_varying_length_are_kept_at_their_length(texts, tmp_path, monkeypatch, unfreeze):
    monkeypatch.setattr(feature_cache, "PASS_BATCH", 4)
    examples, validation, lengths = np.arange(25), np.arange(25, 40), texts.prepared.lengths
    cuts = texts.cuts(unfreeze)
    cached = texts.cache(tmp_path, cuts).features(examples, validation)
    plan = {"lengths": lengths, "examples": examples}
    wanted = texts.train(whole_batches(texts, **plan), unfreeze)
    kept = texts.train(cached.training_batches(rows_of(**plan), width=BATCH), unfreeze, (cuts, False))
    assert_same_training(kept, wanted, tolerance=2e-5)
    if unfreeze != "none":
        (batch,) = cached.training_batches(lambda: iter([(0, np.arange(2))]), width=2)
        assert batch["inputs"]["still0"].shape[1] < lengths.max()


def test_views_are_augmented_as_their_epoch_would_be(parts, tmp_path):
    ops, cuts = parse("flip|random_crop(pad=2)"), parts.cuts("last:2")
    wanted = parts.train(whole_batches(parts, ops=ops), "last:2")
    three = parts.cache(tmp_path, cuts, ops=ops, views=3).features(TRAIN, VALIDATION)
    kept = parts.train(three.training_batches(rows_of(), width=BATCH), "last:2", (cuts, False))
    assert_same_training(kept, wanted)
    two = parts.cache(tmp_path, cuts, ops=ops, views=2).features(TRAIN, VALIDATION)
    first, second, third = (
        {int(k): v for b in two.training_batches(lambda e=e: iter([(e, TRAIN)]), width=len(TRAIN))
         for k, v in zip(b["example"], b["inputs"]["still0"], strict=True)}
        for e in range(3)
    )  # fmt: skip
    assert all(np.array_equal(first[k], third[k]) for k in first)
    assert any(not np.array_equal(first[k], second[k]) for k in first)
    plain = parts.cache(tmp_path, cuts).features(TRAIN, VALIDATION)
    np.testing.assert_allclose(
        plain.validation.rows[0].read(np.arange(5)), two.validation.rows[0].read(np.arange(5)), atol=1e-6
    )


def test_rows_and_fillers_find_their_example(parts, tmp_path):
    cached = parts.cache(tmp_path, parts.cuts()).features(TRAIN, VALIDATION)
    (batch,) = cached.evaluation_batches(np.array([[33, 6, 0, ~6]]))
    assert batch["example"].numpy().tolist() == [33, 6, 0, 6]
    assert batch["weight"].numpy().tolist() == [1, 1, 1, 0]
    assert batch["targets"].numpy().tolist() == [2, 0, 0, 0]
    np.testing.assert_array_equal(batch["inputs"]["still0"][1], batch["inputs"]["still0"][3])


def test_a_second_run_finds_what_the_first_one_computed(parts, tmp_path, monkeypatch):
    cuts = parts.cuts("last:2")
    first = parts.cache(tmp_path, cuts).features(TRAIN, VALIDATION)
    said = Console(stream=io.StringIO())
    monkeypatch.setattr(feature_cache._choice, "choose", lambda *a, **k: pytest.fail("it was computed again"))
    second = parts.cache(tmp_path, cuts, said, seed=7, epochs=9).features(TRAIN, VALIDATION)
    assert "was computed before, on tensorflow" in said.stream.getvalue()
    for one, other in zip(first.train.rows, second.train.rows, strict=True):
        np.testing.assert_array_equal(one.read(np.arange(12)), other.read(np.arange(12)))
    monkeypatch.undo()
    for variable in parts.assembly.trunks["trunk"].network.get_layer("block0_conv").variables:
        variable.assign(variable * 1.01)
    said = Console(stream=io.StringIO())
    third = parts.cache(tmp_path, cuts, said).features(TRAIN, VALIDATION)
    assert "computed before" not in said.stream.getvalue()
    assert np.abs(third.train.rows[0].read(np.arange(12)) - first.train.rows[0].read(np.arange(12))).max() > 1e-4


def test_what_one_engine_has_left_takes_no_room_from_what_another_has(parts, tmp_path, monkeypatch):
    cuts = parts.cuts("last:2")
    parts.cache(tmp_path, cuts).features(TRAIN, VALIDATION)
    find_entry, label, rooms = FeatureStore.find, feature_cache._choice.label, []

    def found(store, *arguments, most_in_memory, **named):
        rooms.append(most_in_memory)
        there = len(rooms) != 2  # the first engine has left nothing of validation
        return find_entry(store, *arguments, most_in_memory=most_in_memory, **named) if there else None

    monkeypatch.setattr(FeatureStore, "find", found)
    monkeypatch.setattr(feature_cache._choice, "candidates", lambda wanted, precision: ["one", "other"])
    monkeypatch.setattr(feature_cache._choice, "label", lambda name, precision: label("tensorflow", precision))
    assert parts.cache(tmp_path, cuts).features(TRAIN, VALIDATION)
    assert rooms[0] == rooms[2] > rooms[1] == rooms[3]


def test_what_was_computed_before_needs_no_picture_decoded(tmp_path, pictures):
    shutil.copytree(pictures, tmp_path / "p")
    parts = parts_of(Folder(str(tmp_path / "p")), find("backbone", "toys.toy_pixels")(), TASK, STATE, image_size=16)
    cuts = parts.cuts()
    first = parts.cache(tmp_path, cuts).features(TRAIN, VALIDATION)
    for file in (tmp_path / "p").rglob("*.png"):
        file.write_bytes(b"no picture")  # the digests are those of the pictures
    second = parts.cache(tmp_path, cuts).features(TRAIN, VALIDATION)
    for one, other in zip(first.train.rows, second.train.rows, strict=True):
        np.testing.assert_array_equal(one.read(np.arange(12)), other.read(np.arange(12)))


def test_targets_that_follow_coordinates_are_made_with_the_pictures(pictures, tmp_path):
    parts = parts_of(Folder(str(pictures)), find("backbone", "tiny")("conv"), TASK, STATE, image_size=16)

    class Framed(type(TASK)):
        def batch(self, features, frame, state, training):
            made = super().batch(features, frame, state, training)
            return {**made, "targets": made["targets"] * frame["image"]["scale"][:, :1]} if training else made

    framed, cuts = dataclasses.replace(parts, task=Framed()), parts.cuts()
    first = framed.cache(tmp_path, cuts).features(TRAIN, VALIDATION)
    second = framed.cache(tmp_path, cuts).features(TRAIN, VALIDATION)
    assert first.train.rows[1].values.max() == pytest.approx(16 / 24)
    np.testing.assert_array_equal(first.train.rows[1].values, second.train.rows[1].values)


def test_labels_are_read_anew(parts, tmp_path):
    cuts = parts.cuts()
    parts.cache(tmp_path, cuts).features(TRAIN, VALIDATION)

    class Relabelled(type(TASK)):
        def batch(self, features, frame, state, training):
            return super().batch({**features, "label": 2 - features["label"]}, frame, state, training)

    said = Console(stream=io.StringIO())
    found = dataclasses.replace(parts, task=Relabelled()).cache(tmp_path, cuts, said).features(TRAIN, VALIDATION)
    assert "computed before" in said.stream.getvalue()
    (batch,) = found.evaluation_batches(np.array([[33, 6]]))
    assert batch["targets"].numpy().tolist() == [0, 2]


def test_inputs_that_depend_on_labels_are_not_kept_for_later_runs(parts, tmp_path):
    class Leaking(type(TASK)):
        def batch(self, features, frame, state, training):
            made = super().batch(features, frame, state, training)
            shift = tf.cast(features["label"], tf.uint8)[:, None, None, None]
            return {**made, "inputs": made["inputs"] + shift}

    cuts = parts.cuts()
    assert dataclasses.replace(parts, task=Leaking()).cache(tmp_path, cuts).features(TRAIN, VALIDATION)
    assert not (tmp_path / "features").exists()


def test_what_does_not_fit_into_memory_is_mapped_from_disk(parts, tmp_path, monkeypatch):
    cuts = parts.cuts("last:2")
    wanted = parts.train(whole_batches(parts), "last:2")
    monkeypatch.setattr(feature_cache, "SHARE_OF_MEMORY", 0.0)
    for _ in range(2):  # made, and found
        cached = parts.cache(tmp_path, cuts).features(TRAIN, VALIDATION)
        assert not cached.train.rows[0].in_memory
        assert_same_training(
            parts.train(cached.training_batches(rows_of(), width=BATCH), "last:2", (cuts, False)), wanted
        )


def test_what_is_too_large_for_a_graph_is_computed_anew(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "MOST_WEIGHTS", 10)
    cache = parts.cache(tmp_path, parts.cuts())
    assert cache.features(TRAIN, VALIDATION) is None
    assert "more than the 2 GiB that a frozen graph may have" in cache.console.stream.getvalue()


def test_what_fits_nowhere_is_computed_anew(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "SHARE_OF_MEMORY", 0.0)
    monkeypatch.setattr(FeatureStore, "free", lambda self: 0)
    said = Console(stream=io.StringIO())
    assert parts.cache(tmp_path, parts.cuts(), said).features(TRAIN, VALIDATION) is None
    assert "computed anew in each epoch: that takes 0.0 MiB" in said.stream.getvalue()
    with pytest.raises(UserError, match=r"feature_cache=on: .*write auto"):
        parts.cache(tmp_path, parts.cuts(), policy="on").features(TRAIN, VALIDATION)


def test_off_and_augmentation_keep_nothing(parts, tmp_path):
    said = Console(stream=io.StringIO())
    cuts = parts.cuts()
    assert parts.cache(tmp_path, cuts, policy="off").features(TRAIN, VALIDATION) is None
    assert parts.cache(tmp_path, cuts, said, ops=parse("flip")).features(TRAIN, VALIDATION) is None
    assert "it runs 3 times; --input.cached_views=4" in said.stream.getvalue()
    mixing = parse("toys.toy_mix")
    assert parts.cache(tmp_path, cuts, said, ops=mixing, views=2).features(TRAIN, VALIDATION) is None
    assert "mixes the examples of a batch" in said.stream.getvalue()
    assert not (tmp_path / "features").exists()


@pytest.mark.parametrize(("epochs", "pays"), [(1, False), (4, True)])
def test_auto_predicts_from_a_few_batches_whether_keeping_pays(parts, tmp_path, monkeypatch, epochs, pays):
    monkeypatch.setattr(feature_cache, "SHARE_OF_MEMORY", 0.0)
    monkeypatch.setattr(feature_cache, "_WORTH_MEASURING", 1)
    monkeypatch.setattr(feature_cache, "SMALL_PASS_BATCH", 3)
    monkeypatch.setattr(feature_cache, "DISK_BYTES_A_SECOND", 1e12 if pays else 1.0)
    said = Console(stream=io.StringIO())
    found = parts.cache(tmp_path, parts.cuts("last:2"), said, epochs=epochs).features(TRAIN, VALIDATION)
    assert (found is not None) == pays
    assert "ms an example" in said.stream.getvalue()
    assert f"in {epochs} epochs without" in said.stream.getvalue()


def with_a_damaged_picture(pictures, tmp_path):
    """Returns parts on a copy of the pictures, and which of these is damaged."""
    shutil.copytree(pictures, tmp_path / "p")
    (tmp_path / "p" / "blue" / "10.png").write_bytes(b"no picture")
    source = Folder(str(tmp_path / "p"))
    bad = [name.endswith("10.png") and "blue" in name for name in source.index().names].index(True)
    parts = parts_of(source, find("backbone", "toys.toy_pixels")(), TASK, STATE, image_size=16)
    return parts, bad


def test_an_example_that_cannot_be_decoded_is_told_and_weighs_nothing(tmp_path, pictures):
    parts, bad = with_a_damaged_picture(pictures, tmp_path)
    train = np.array([bad, *(k for k in range(8) if k != bad)])
    for _ in range(2):  # computed, and found
        parts.prepared.failed.clear()
        cached = parts.cache(tmp_path, parts.cuts()).features(train, VALIDATION)
        assert parts.prepared.failed == {bad}
        (batch,) = cached.training_batches(lambda: iter([(0, np.array([bad, train[1]]))]), width=2)
        assert batch["weight"].numpy().tolist() == [0, 1]


def servable_of(parts):
    return Servable.of(
        task=parts.task,
        state=parts.state,
        model=parts.assembly.model,
        trunks=parts.assembly.trunks,
        preprocessors={"trunk": parts.prepared.preprocessors[0]},
    )


def scored(parts, examples, features=None):
    console = Console(stream=io.StringIO())
    return score(
        servable_of(parts),
        parts.prepared,
        examples,
        console=console,
        what="Measuring",
        whole=[5, 33],
        features=features,
    )


@pytest.mark.parametrize("which", ["parts", "texts"])
def test_measuring_on_kept_features_is_measuring_the_model(request, tmp_path, monkeypatch, which):
    parts = request.getfixturevalue(which)
    cache = parts.cache(tmp_path, parts.cuts())
    draw_head(parts, request)
    wanted = scored(parts, VALIDATION)
    found = scored(parts, VALIDATION, cache)
    assert sorted(found.examples) == sorted(wanted.examples) == VALIDATION.tolist()
    one, other = np.argsort(found.examples), np.argsort(wanted.examples)
    for ours, theirs in ((found.statistics, wanted.statistics), (found.kept, wanted.kept)):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            np.testing.assert_allclose(ours[name][one], value[other], rtol=1e-6, atol=1e-6, err_msg=name)
    assert found.answers["label"].tolist() == wanted.answers["label"].tolist()
    monkeypatch.setattr(FeatureCache, "_computed", lambda *a, **k: pytest.fail("it was computed again"))
    again = scored(parts, VALIDATION, parts.cache(tmp_path, parts.cuts()))
    np.testing.assert_array_equal(again.kept["scores"], found.kept["scores"])


def test_validation_that_measures_in_the_end_is_the_models_own(parts, tmp_path):
    cuts = parts.cuts()
    cached = parts.cache(tmp_path, cuts, measured=True).features(TRAIN, VALIDATION)
    exact = parts.cache(tmp_path, cuts).exact(VALIDATION)
    inputs = next(iter(evaluation_batches(parts.prepared, np.array([VALIDATION]), task=TASK, state=STATE)))["inputs"]
    still = cuts["trunk"].still(inputs)
    for number, wanted in enumerate(still.values()):
        for one in (cached.validation, exact):
            np.testing.assert_allclose(one.rows[number].read(np.arange(5)), wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(cached.validation.rows[0].read(np.arange(5)), exact.rows[0].read(np.arange(5)))


def test_measuring_on_kept_features_leaves_out_what_cannot_be_decoded(tmp_path, pictures):
    parts, bad = with_a_damaged_picture(pictures, tmp_path)
    for asked, left in (([bad, 5, 33], [5, 33]), ([bad], [])):
        for _ in range(2):  # computed, and found
            parts.prepared.failed.clear()
            found = scored(parts, np.array(asked), parts.cache(tmp_path, parts.cuts()))
            assert found.examples.tolist() == left
            assert parts.prepared.failed == {bad}
