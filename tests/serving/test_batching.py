"""The batching that follows from what batches of each size take."""

import pytest
from google.protobuf import text_format

from tfpt.serving import batching


def test_the_smallest_size_that_nearly_reaches_the_best_throughput_is_taken():
    found = batching.choose({1: 0.010, 2: 0.011, 4: 0.014, 8: 0.0205, 16: 0.040})
    assert (found.max_batch_size, found.timeout) == (8, 0.005)
    assert found.enqueued == round(8 / 0.0205 / 8)
    assert found.speed[4] == pytest.approx(4 / 0.014)


@pytest.mark.parametrize(
    ("seconds", "size", "timeout"),
    [
        ({1: 0.1, 2: 0.2, 4: 0.4}, 1, 0.0),  # batches gain nothing: nobody waits
        ({1: 0.1, 2: 0.101}, 2, batching._LONGEST_WAIT),
        ({1: 1e-4, 2: 1e-4}, 2, batching._SHORTEST_WAIT),
        ({1: 5.0}, 1, 0.0),
    ],
)
def test_its_bounds(seconds, size, timeout):
    found = batching.choose(seconds)
    assert (found.max_batch_size, found.timeout) == (size, timeout)
    assert found.enqueued >= 1


def test_the_file_reads_as_the_parameters_of_tensorflow_serving():
    """The message is not in the package; its fields, as in session_bundle_config.proto, are declared here."""
    from google.protobuf import (
        descriptor_pb2,
        descriptor_pool,
        message_factory,
        wrappers_pb2,  # noqa: F401 (in the pool)
    )

    file = descriptor_pb2.FileDescriptorProto(
        name="batching.proto", package="t", syntax="proto3", dependency=["google/protobuf/wrappers.proto"]
    )
    message = file.message_type.add(name="BatchingParameters")
    for number, name in (
        (1, "max_batch_size"),
        (2, "batch_timeout_micros"),
        (3, "max_enqueued_batches"),
        (4, "num_batch_threads"),
    ):
        message.field.add(name=name, number=number, type=11, label=1, type_name=".google.protobuf.Int64Value")
    message.field.add(name="allowed_batch_sizes", number=6, type=3, label=3)
    pool = descriptor_pool.Default()
    pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.BatchingParameters"))
    read = text_format.Parse(batching.choose({1: 0.01, 2: 0.012, 4: 0.02, 8: 0.03}).text, kind())
    assert read.max_batch_size.value == 8 and list(read.allowed_batch_sizes) == [1, 2, 4, 8]
    assert (read.batch_timeout_micros.value, read.max_enqueued_batches.value) == (5000, 33)
    assert read.num_batch_threads.value >= 1


def test_a_glance_ends_with_the_first_size_that_takes_a_second(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(batching.time, "perf_counter", lambda: now[0])

    def answer(size):
        now[0] += 0.3 * size

    assert batching.glance(answer, sizes=(1, 2, 4, 8)) == pytest.approx({1: 0.3, 2: 0.6, 4: 1.2})
