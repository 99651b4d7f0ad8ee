"""Batches of a plan: all randomness is a function of (seed, epoch, example, view, operation)."""

import io

import numpy as np
import pytest
import tensorflow as tf

from tfpt import augment
from tfpt.console import Console
from tfpt.data.folder import Folder
from tfpt.preprocessors.image import Image
from tfpt.tasks.image_classification import ImageClassification
from tfpt.training.pipeline import Augmentation, Prepared, evaluation_batches, training_batches

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
        batch_size=len(rows[0][1]),
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
    np.testing.assert_array_equal(made["targets"], [0, 0, 0, 2])
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


def test_views_are_stacked_and_the_first_is_the_only_one_of_a_single_view(pictures):
    prepared = prepared_of(pictures)
    one, three = batches_of(prepared), batches_of(prepared, views=3)
    assert three[0]["inputs"].shape == (4, 3, SIDE, SIDE, 3)
    assert three[0]["targets"].shape == (4,)
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
        labels = np.eye(3)[before["targets"]]
        rolled = np.roll(labels, 1, axis=0)
        # where the neighbour has another class, its share shows in the target
        share = ((after["targets"] - labels) * (rolled - labels)).sum(1) / np.maximum((rolled - labels) ** 2, 1e-9).sum(
            1
        )
        shares.append(dict(zip(before["example"].tolist(), share, strict=True)))
        x, y = before["inputs"].astype(float), np.roll(before["inputs"].astype(float), 1, axis=0)
        for i, k in enumerate(before["example"].tolist()):
            if before["targets"][i] != np.roll(before["targets"], 1)[i]:
                np.testing.assert_allclose(after["inputs"][i], x[i] + (y[i] - x[i]) * shares[-1][k], atol=1e-3)
    first, moved, later = shares
    assert first[30] == pytest.approx(moved[30])  # another place in the batch
    assert first[30] != pytest.approx(later[30])  # another epoch
    assert first[30] != pytest.approx(first[3])
    assert 0 < first[30] < 0.4
