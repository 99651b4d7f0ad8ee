import numpy as np
import pytest
import tensorflow as tf
from peak_memory import peak_memory

from tfpt.training import feature_rows
from tfpt.training.feature_rows import Layout, Recorder, Rows, map_file

RANDOM = np.random.default_rng(0)


def test_layouts():
    of = Layout.of
    assert of(tf.TensorSpec((None, 3, 4), tf.float32)) == Layout((3, 4), np.dtype("float32"))
    assert of(tf.TensorSpec((None, None, 4), tf.bfloat16)).item == (4,)
    assert of(tf.TensorSpec((None, 1, None), tf.int32)).varies
    assert of(tf.TensorSpec((None, 2, None), tf.int32)) is None
    assert of(tf.TensorSpec((None, None, None), tf.int32)) is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8", "bool"])
def test_fixed_rows_come_back_from_memory_and_from_a_file(tmp_path, dtype):
    layout = Layout.of(tf.TensorSpec((None, 2, 3), dtype))
    values = (RANDOM.normal(size=(7, 2, 3)) * 9).astype(layout.dtype)
    kept = Recorder(layout)
    with (tmp_path / "values").open("wb") as file:
        written = Recorder(layout, file)
        for part in (values[:4], values[4:]):
            kept.add(part)
            written.add(part)
    wanted = values[[6, 0, 0]]
    np.testing.assert_array_equal(kept.rows().gather(tf.constant([6, 0, 0])), wanted)
    for in_memory in (False, True):
        rows = map_file(tmp_path / "values", layout, None, count=7, in_memory=in_memory)
        assert (rows.in_memory, len(rows)) == (in_memory, 7)
        np.testing.assert_array_equal(rows.read(np.array([6, 0, 0])), wanted)


def test_there_is_one_copy_of_what_is_read_from_a_file(tmp_path):
    layout, size = Layout((1024,), np.dtype("float32")), 2**27
    with (tmp_path / "values").open("wb") as file:
        file.truncate(size)
    with peak_memory() as peak:
        rows = map_file(tmp_path / "values", layout, None, count=size // 4096, in_memory=True)
    assert len(rows) == size // 4096
    assert peak.grown < 1.3 * size


@pytest.mark.parametrize(("shape", "lengths"), [((None, 2), [3, 1, 0]), ((1, None), [2, 5, 1])])
def test_rows_of_different_length_are_padded_with_zeros(tmp_path, shape, lengths):
    layout = Layout(shape, np.dtype("float32"))
    kept = Recorder(layout)
    batches = [RANDOM.normal(size=(2, *(n if s is None else s for s in shape))).astype("f4") for n in lengths]
    with (tmp_path / "values").open("wb") as file:
        written = Recorder(layout, file)
        for batch in batches:
            kept.add(batch)
            written.add(batch)
    rows = kept.rows()
    found = rows.gather(tf.constant([0, 3, 4])).numpy()
    longest = max(lengths)
    wanted = np.zeros((3, *(longest if s is None else s for s in shape)), np.float32)
    axis = shape.index(None)
    for k, batch in enumerate([batches[0][0], batches[1][1], batches[2][0]]):
        wanted[k][tuple(slice(0, n) for n in batch.shape)] = batch
    assert found.shape[1 + axis] == longest
    np.testing.assert_array_equal(found, wanted)
    mapped = map_file(tmp_path / "values", layout, written.lengths, count=6, in_memory=False)
    np.testing.assert_array_equal(mapped.read(np.array([0, 3, 4])), wanted)


def test_a_file_of_another_size_is_refused(tmp_path):
    (tmp_path / "values").write_bytes(bytes(23))
    with pytest.raises(ValueError, match="does not have the size"):
        map_file(tmp_path / "values", Layout((2, 3), np.dtype("uint8")), None, count=4, in_memory=True)


@pytest.mark.parametrize("sizes", [[1], [3, 3, 3, 3, 1], [1, 40, 2], [5] * 30])
def test_batches_fill_chunks_of_any_size(sizes, monkeypatch):
    monkeypatch.setattr(feature_rows, "_CHUNK_BYTES", 10 * 8)
    recorder = Recorder(Layout((2,), np.dtype("float32")))
    values = RANDOM.normal(size=(sum(sizes), 2)).astype("f4")
    for part in np.split(values, np.cumsum(sizes)[:-1]):
        recorder.add(part)
    np.testing.assert_array_equal(recorder.rows().values, values)


def test_there_is_one_copy_of_what_is_kept():
    recorder = Recorder(Layout((1024,), np.dtype("float32")))
    batch = np.ones((256, 1024), np.float32)
    size = 2**29
    with peak_memory() as peak:
        for _ in range(size // batch.nbytes):
            recorder.add(batch)
        rows = recorder.rows()
    assert len(rows) == size // 4096
    assert size < peak.grown < 1.3 * size


def test_rows_are_taken_whole():
    layout = Layout((None,), np.dtype("int32"))
    rows = Rows(layout, np.arange(5, dtype=np.int32), np.array([2, 3]))
    recorder = Recorder(layout)
    recorder.take(rows)
    np.testing.assert_array_equal(recorder.rows().read(np.array([0, 1])), [[0, 1, 0], [2, 3, 4]])


def test_rows_that_were_padded_to_one_length_have_a_static_shape():
    layout = Layout((1, None, 2), np.dtype("float32"))
    same, different = Recorder(layout), Recorder(layout)
    for batch in (np.ones((2, 1, 3, 2)), np.ones((1, 1, 3, 2))):
        same.add(batch)
        different.add(batch[:, :, : len(batch)])
    gathered = tf.function(lambda rows, slots: rows.gather(slots)).get_concrete_function
    slots = tf.TensorSpec([4], tf.int64)
    assert gathered(same.rows(), slots).structured_outputs.shape == (4, 1, 3, 2)
    assert gathered(different.rows(), slots).structured_outputs.shape.as_list() == [4, 1, None, 2]
