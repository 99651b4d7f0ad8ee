"""Batches of a plan: all randomness is a function of (seed, epoch, example, view, operation)."""

import io
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfpt import augment, registry
from tfpt.config import Input
from tfpt.console import Console
from tfpt.data.folder import Folder
from tfpt.preprocessors.image import Image
from tfpt.tasks.image_classification import ImageClassification
from tfpt.training.pipeline import Augmentation, Prepared, evaluation_batches, training_batches
from tfpt.training.plan import TrainingPlan
from tfpt.training.prepared import Trusting
from tfpt.training.prepared_store import PreparedStore

SIDE = 8
STATE = {"classes": ["blue", "green", "red"]}
OPS = "random_crop(pad=3)|flip"
ROWS = [(0, [3, 1, 4, 30]), (0, [5, 9, 2, 6]), (1, [3, 1, 4, 30])]


@pytest.fixture
def console():
    return Console(stream=io.StringIO())


class Corner(Image):
    """Takes the corner of a PNG file: little to trace. The shape of its frame is not known before it runs."""

    def host(self, raw):
        pixels = tf.io.decode_png(raw, channels=3)
        return pixels[: self.size, : self.size], {"size": tf.shape(pixels)[tf.strings.length(raw) * 0 :][:2]}

    def frame_spec(self):
        return {"size": ((2,), "int32")}


def prepared_of(folder, threads=2):
    return Prepared(Folder(str(folder)), [Corner(size=SIDE)], threads=threads)


def batches_of(prepared, rows=ROWS, ops=OPS, *, views=1, seed=7):
    made = training_batches(
        prepared,
        lambda: iter([(epoch, np.array(row, np.int64)) for epoch, row in rows]),
        width=len(rows[0][1]) if len({len(row) for _, row in rows}) == 1 else None,
        task=ImageClassification(),
        state=STATE,
        augmentation=Augmentation(ops=augment.parse(ops), views=views, seed=seed),
    )
    return [tf.nest.map_structure(lambda t: t.numpy(), batch) for batch in made]


def pixels_by_example(rows, batches):
    """Returns (epoch, example) -> its pixels."""
    return {
        (epoch, k): batch["inputs"][i]
        for (epoch, row), batch in zip(rows, batches, strict=True)
        for i, k in enumerate(row)
    }


def assert_equal_batches(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def usual(pictures):
    return pixels_by_example(ROWS, batches_of(prepared_of(pictures)))


@pytest.mark.parametrize(
    "rows",
    [
        [(0, [4, 30, 9]), (0, [1, 3, 6]), (1, [30, 4, 1])],  # other neighbours, another batch size
        ROWS[1:],  # from a later step on
        [(0, [9])],
    ],
)
@pytest.mark.parametrize("threads", [1, 5])
def test_pixels_depend_on_seed_epoch_and_example_alone(pictures, usual, rows, threads):
    again = pixels_by_example(rows, batches_of(prepared_of(pictures, threads), rows))
    assert again
    for key, pixels in again.items():
        np.testing.assert_array_equal(pixels, usual[key])


def test_another_epoch_or_seed_gives_other_pixels(pictures, usual):
    assert any(not np.array_equal(usual[0, k], usual[1, k]) for k in (3, 1, 4, 30))
    other = pixels_by_example(ROWS, batches_of(prepared_of(pictures), seed=8))
    assert sum(not np.array_equal(usual[key], other[key]) for key in usual) > len(usual) // 2


def test_without_augmentation_pixels_are_those_of_evaluation(pictures):
    prepared = prepared_of(pictures)
    (made,) = batches_of(prepared, [(0, [3, 1, 4, ~30])], "none")
    (wanted,) = evaluation_batches(prepared, np.array([[3, 1, 4, ~30]]), task=ImageClassification(), state=STATE)
    np.testing.assert_array_equal(made["inputs"], wanted["inputs"])
    np.testing.assert_array_equal(made["weight"], [1, 1, 1, 0])
    np.testing.assert_array_equal(wanted["weight"], [1, 1, 1, 0])
    np.testing.assert_array_equal(made["example"], [3, 1, 4, 30])
    np.testing.assert_array_equal(made["targets"], np.eye(3)[[0, 0, 0, 2]])
    assert made["ok"].all()
    assert wanted["frame"]["image"]["size"].numpy().tolist() == [[24, 24]] * 4


def test_kept_examples_are_those_read_on_demand(pictures, console):
    on_demand, kept = prepared_of(pictures), prepared_of(pictures)
    kept.keep(np.array([30, 1, 3, 4, 5, 9, 2, 6]), console=console, what="Preparing")
    assert_equal_batches(batches_of(on_demand), batches_of(kept))
    rows = np.array([[3, 1, 30, ~3]])
    for ours, theirs in zip(
        evaluation_batches(on_demand, rows, task=ImageClassification(), state=STATE),
        evaluation_batches(kept, rows, task=ImageClassification(), state=STATE),
        strict=True,
    ):
        tf.nest.map_structure(np.testing.assert_array_equal, ours, theirs)
    assert kept.failed == set()


def test_the_host_half_is_traced_once_for_all_pipelines(pictures):
    class Counting(Image):
        traced = 0

        def host(self, *raw):
            type(self).traced += 1
            return super().host(*raw)

    prepared = Prepared(Folder(str(pictures)), [Counting(size=16)], threads=2)
    for batches in (batches_of(prepared), batches_of(Trusting(prepared)), batches_of(prepared, ops="none")):
        assert all(batch["ok"].all() for batch in batches)
    assert Counting.traced == 1


@pytest.mark.parametrize("keep", [Prepared.keep, Prepared.keep_as_read])
def test_a_list_in_an_example_is_a_tensor(pictures, console, keep):
    source = Folder(str(pictures))
    read = source.example
    source.example = lambda k: {**read(k), "label": [1.0, 2.0]}
    prepared = Prepared(source, [Corner(size=SIDE)], threads=2)
    keep(prepared, np.arange(3), **({"console": console, "what": "Preparing"} if keep is Prepared.keep else {}))
    assert prepared.specs[0]["label"].shape == (2,)
    np.testing.assert_array_equal(prepared.read(tf.constant(2, tf.int64))[0]["label"], [1, 2])


def test_the_memory_of_an_example_is_told(pictures):
    # pixels, label, and the frame's size
    assert prepared_of(pictures).bytes_per_example() == SIDE * SIDE * 3 + 8 + 2 * 4


@pytest.fixture
def damaged(tmp_path, pictures):
    """A copy of the folder in which picture 4 is cut off and picture 9 has vanished since the folder was listed."""
    for file in sorted(pictures.rglob("*.png")):
        copy = tmp_path / file.relative_to(pictures)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(file.read_bytes())
    prepared = prepared_of(tmp_path)
    names = prepared.source.index().names
    (tmp_path / names[4]).write_bytes((tmp_path / names[4]).read_bytes()[:60])
    (tmp_path / names[9]).unlink()
    return prepared


def test_what_cannot_be_read_weighs_nothing_and_is_reported(damaged, console):
    rows = [(0, [3, 4, 9, ~1])]
    (batch,) = batches_of(damaged, rows)
    assert batch["weight"].tolist() == [1, 0, 0, 0]
    assert batch["ok"].tolist() == [True, False, False, True]
    assert batch["example"].tolist() == [3, 4, 9, 1]
    assert not batch["inputs"][1:3].any()
    assert batch["inputs"][0].any()
    damaged.keep(np.array([1, 3, 4, 9]), console=console, what="Preparing")
    assert damaged.failed == {4, 9}
    assert_equal_batches(batches_of(damaged, rows), [batch])


def test_what_is_kept_as_it_is_read_is_made_once(tmp_path, pictures, console):
    wanted = batches_of(prepared_of(pictures))
    shutil.copytree(pictures, tmp_path / "p")
    prepared = prepared_of(tmp_path / "p")
    assert prepared.can_keep_as_read
    prepared.keep_as_read(np.array([30, 1, 3, 4, 5, 9, 2, 6, 7]))
    assert_equal_batches(batches_of(prepared), wanted)
    shutil.rmtree(tmp_path / "p")
    assert_equal_batches(batches_of(prepared), wanted)
    prepared.complete(console=console, what="Preparing")
    assert "1/1" in console.stream.getvalue()
    assert prepared.failed == {7}  # the only one that was not read in time
    with pytest.raises(tf.errors.OpError):
        batches_of(prepared, [(0, [0])])


def test_what_cannot_be_read_is_found_when_the_rest_is(damaged, console):
    rows = [(0, [3, 4, 9, ~1])]
    wanted = batches_of(damaged, rows)
    damaged.keep_as_read(np.array([1, 3, 4, 9]))
    damaged.complete(console=console, what="Preparing")
    assert damaged.failed == {4, 9}
    assert_equal_batches(batches_of(damaged, rows), wanted)


def test_what_was_met_before_and_could_not_be_read_is_found_too(damaged, console):
    damaged.keep_as_read(np.array([1, 3, 4, 9]))
    batches_of(damaged, [(0, [3, 4, 9, 1])])  # as what only measures reads them: nobody looks at `ok`
    assert damaged.failed == set()
    damaged.complete(console=console, what="Preparing")
    assert damaged.failed == {4, 9}


def test_what_varies_in_length_cannot_be_kept_as_it_is_read(texts):
    assert not texts.can_keep_as_read


def test_views_are_stacked_and_the_first_is_the_only_one_of_a_single_view(pictures):
    prepared = prepared_of(pictures)
    one, three = batches_of(prepared), batches_of(prepared, views=3)
    assert three[0]["inputs"].shape == (4, 3, SIDE, SIDE, 3)
    assert three[0]["targets"].shape == (4, 3)
    np.testing.assert_array_equal(three[0]["inputs"][:, 0], one[0]["inputs"])
    differ = [not np.array_equal(batch["inputs"][:, 0], batch["inputs"][:, 1]) for batch in three]
    assert all(differ)


@pytest.mark.parametrize("ops", ["none", "toys.toy_shade"])
def test_views_are_stacked_whatever_the_operations_move(pictures, ops):
    batch = batches_of(prepared_of(pictures), ops=ops, views=2)[0]
    assert batch["inputs"].shape == (4, 2, SIDE, SIDE, 3)
    same = np.array_equal(batch["inputs"][:, 0], batch["inputs"][:, 1])
    assert same == (ops == "none")


def test_a_batch_operation_gets_a_seed_for_each_example(pictures):
    rows = [(0, [3, 1, 4, 30]), (0, [1, 4, 30, 3]), (1, [3, 1, 4, 30])]
    plain = batches_of(prepared_of(pictures), rows, "none")
    mixed = batches_of(prepared_of(pictures), rows, "toys.toy_mix(most=0.4)")
    shares = []
    for before, after in zip(plain, mixed, strict=True):
        labels = before["targets"]
        rolled = np.roll(labels, 1, axis=0)
        # where the neighbour has another class, its share shows in the target
        share = ((after["targets"] - labels) * (rolled - labels)).sum(1) / np.maximum((rolled - labels) ** 2, 1e-9).sum(
            1
        )
        shares.append(dict(zip(before["example"].tolist(), share, strict=True)))
        x, y = before["inputs"].astype(float), np.roll(before["inputs"].astype(float), 1, axis=0)
        for i, k in enumerate(before["example"].tolist()):
            if np.any(before["targets"][i] != before["targets"][i - 1]):
                np.testing.assert_allclose(after["inputs"][i], x[i] + (y[i] - x[i]) * shares[-1][k], atol=1e-3)
    first, moved, later = shares
    assert first[30] == pytest.approx(moved[30])  # another place in the batch
    assert first[30] != pytest.approx(later[30])  # another epoch
    assert first[30] != pytest.approx(first[3])
    assert 0 < first[30] < 0.4


@pytest.fixture
def texts(tmp_path):
    lines = [f"{'word ' * (k % 11)}number {k}\t{k % 2}" for k in range(150)]
    file = tmp_path / "texts.tsv"
    file.write_text("text\tlabel\n" + "\n".join(lines) + "\n", encoding="utf-8")
    source = registry.find("data", "csv")(str(file))
    return Prepared(source, [tiny_text().with_offsets()], threads=2)


def tiny_text():
    return registry.find("backbone", "tiny")("transformer").preprocessor(Input(max_length=8))


def read_all(prepared, ks):
    """Returns every example as `read` gives it."""
    examples = tf.data.Dataset.from_tensor_slices(np.array(ks, np.int64)).map(prepared.read)
    return [tf.nest.map_structure(np.asarray, one) for one in examples.as_numpy_iterator()]


def test_texts_prepared_in_blocks_are_those_prepared_one_by_one(texts):
    ks = [0, 3, *range(10, 149)]
    alone = read_all(texts, ks)
    texts.keep(np.array(ks), console=Console(stream=io.StringIO()), what="Preparing")
    tf.nest.map_structure(np.testing.assert_array_equal, read_all(texts, ks), alone)
    assert texts.lengths[ks].tolist() == [len(features["text"]) for features, _, _ in alone]


def test_a_text_that_cannot_be_read_does_not_spoil_its_block(texts):
    read = texts.source.example

    def example(k):
        with tf.control_dependencies([tf.debugging.assert_none_equal(k, tf.constant(20, tf.int64))]):
            return tf.nest.map_structure(tf.identity, read(k))

    texts.source.example = example
    texts = Prepared(texts.source, texts.preprocessors, threads=2)
    texts.keep(np.arange(150), console=Console(stream=io.StringIO()), what="Preparing")
    assert texts.failed == {20}
    assert texts.lengths[20] == 0
    assert all(texts.lengths[k] for k in range(150) if k != 20)


def test_the_share_of_texts_that_are_cut_is_known_kept_or_not(texts):
    examples = np.arange(150)
    wanted = np.mean([k % 11 + 2 > 8 - 2 for k in examples])  # two special tokens
    assert texts.truncated(examples)["text"] == pytest.approx(wanted)
    texts.keep(examples, console=Console(stream=io.StringIO()), what="Preparing")
    assert texts.truncated(examples)["text"] == pytest.approx(wanted)


def test_rows_of_a_token_budget_become_batches_of_their_own_length(texts):
    texts.keep(np.arange(150), console=Console(stream=io.StringIO()), what="Preparing")
    plan = TrainingPlan(examples=np.arange(150), batch_size=1, seed=0, lengths=texts.lengths, tokens=64)
    rows = [(epoch, row) for epoch in range(2) for row in plan.rows(epoch)]
    made = training_batches(
        texts,
        lambda: iter(rows),
        width=plan.width,
        task=registry.find("task", "text_classification")(),
        state={"classes": ["0", "1"]},
        augmentation=Augmentation(),
    )
    batches = [tf.nest.map_structure(lambda t: t.numpy(), batch) for batch in made]
    assert len(batches) == len(rows)
    for (_, row), batch in zip(rows, batches, strict=True):
        assert batch["example"].tolist() == row.tolist()
        assert batch["inputs"].shape[:2] == (len(row), texts.lengths[row].max())
        assert np.argmax(batch["targets"], axis=1).tolist() == (row % 2).tolist()


def test_texts_are_tokenised_once_and_found_on_disk_the_next_time(texts, tmp_path, monkeypatch):
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tfpt.training.prepared._WORTH_STORING", 0.0)
    ks, console = np.arange(3, 140), Console(stream=io.StringIO())
    options = {"console": console, "what": "Preparing", "digests": texts.source.digests()}
    texts.keep(ks, **options)
    assert len(list((tmp_path / "home" / "prepared").iterdir())) == 1
    again = Prepared(texts.source, texts.preprocessors, threads=2)
    monkeypatch.setattr(Prepared, "_block", None)  # nothing is tokenised again
    again.keep(ks, **options)
    tf.nest.map_structure(np.testing.assert_array_equal, read_all(again, ks), read_all(texts, ks))
    assert np.array_equal(again.lengths, texts.lengths)


def test_what_is_on_disk_but_damaged_or_of_other_texts_is_not_used(texts, tmp_path, monkeypatch):
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tfpt.training.prepared._WORTH_STORING", 0.0)
    console = Console(stream=io.StringIO())
    digests = texts.source.digests()
    texts.keep(np.arange(20), console=console, what="Preparing", digests=digests)
    (file,) = (tmp_path / "home" / "prepared").iterdir()
    for damage in (b"", b"PK\x03\x04 no zip"):
        file.write_bytes(damage)
        assert PreparedStore(file).read() is None
    again = Prepared(texts.source, texts.preprocessors, threads=2)
    again.keep(np.arange(20), console=console, what="Preparing", digests=digests)
    assert np.array_equal(again.lengths, texts.lengths)
    other = Prepared(texts.source, texts.preprocessors, threads=2)
    other.keep(np.arange(20), console=console, what="Preparing", digests=[b"other", *digests[1:]])
    assert len(list((tmp_path / "home" / "prepared").iterdir())) == 2
