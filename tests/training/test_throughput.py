"""Where the time of training goes, as the line of progress tells it."""

import io
import time

import numpy as np
import pytest
import tensorflow as tf
import test_loop
from test_loop import Bench

from tfpt.console import Console
from tfpt.training import flops, loop
from tfpt.training.steps import compiled_steps
from tfpt.training.throughput import WINDOW, Throughput


def filled(throughput, *, calls, seconds, waited, host=0.0, examples=10, start=100.0):
    now = start
    for _ in range(calls):
        throughput.add(started=now, ended=now + seconds, waited=waited, examples=examples, elements=examples)
        now += seconds + host
    return now


def test_shares_of_input_device_and_host():
    throughput = Throughput(replicas=2, flops=4.0, peak=1000.0)
    assert throughput.rate() is None
    filled(throughput, calls=6, seconds=0.8, waited=0.2, host=0.2)
    rate = throughput.rate()
    assert rate.seconds == pytest.approx(5.0)  # the first call, in which everything is compiled, is left out
    assert rate.examples_per_second == pytest.approx(10.0)
    assert (rate.input, rate.device, rate.host) == (pytest.approx(0.2), pytest.approx(0.6), pytest.approx(0.2))
    assert rate.utilisation == pytest.approx(10 * 4.0 / 1000)
    assert str(rate) == "5.0 a replica  20% input 60% device 20% host  MFU 4.0%"


def test_what_is_not_known_is_not_shown():
    for options in ({}, {"flops": 3.0}, {"peak": 3.0}):
        throughput = Throughput(replicas=1, **options)
        filled(throughput, calls=2, seconds=1.0, waited=0.0)
        assert str(throughput.rate()) == "0% input 100% device 0% host"


def test_only_the_last_seconds_count_and_evaluations_do_not():
    throughput = Throughput(replicas=1)
    now = filled(throughput, calls=31, seconds=1.0, waited=1.0)
    throughput.pause()
    filled(throughput, calls=int(WINDOW) + 1, seconds=1.0, waited=0.0, start=now + 500)
    rate = throughput.rate()
    assert rate.seconds == pytest.approx(WINDOW, abs=1.0)
    assert (rate.input, rate.host) == (0, 0)


@pytest.mark.parametrize(("calls", "waited", "bound"), [(12, 0.5, True), (12, 0.2, False), (5, 0.9, False)])
def test_a_device_that_waits_for_long_is_input_bound(calls, waited, bound):
    throughput = Throughput(replicas=1)
    filled(throughput, calls=calls, seconds=1.0, waited=waited)
    assert throughput.rate().is_input_bound == bound


@pytest.mark.parametrize(("pause", "work"), [(0.02, 0.0), (0.0, 0.02)])
def test_what_is_waited_for_is_told_from_what_is_computed(pause, work):
    """Slow input is waited for; a slow step is not, however far the next batch is ahead."""

    class Slow(test_loop.Line):
        def losses(self, outputs, targets):
            def sleep(values):
                time.sleep(work)
                return values

            return super().losses(outputs, tf.ensure_shape(tf.numpy_function(sleep, [targets], tf.float32), [2]))

    def rows():
        for k in range(20):
            time.sleep(pause)
            yield 0, np.array([k % 5, 5], np.int64)

    model = test_loop.line()
    call = compiled_steps(Slow(), model, test_loop.updates_of(model), None, accumulate=1)
    iterator = iter(test_loop.batches(rows, batch_size=2).prefetch(2))
    call(iterator, tf.constant(2))
    *_, waited, elements = call(iterator, tf.constant(10))
    assert elements.numpy().tolist() == [2 * 3] * 10
    if pause:
        assert waited.numpy().sum() > 7 * pause
    else:
        assert waited.numpy().sum() < 3 * work


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Trains a line whose batches take as long as is said, with a short window; returns what is told."""
    monkeypatch.setattr("tfpt.training.throughput.WINDOW", 0.1)
    monkeypatch.setattr(loop, "SECONDS_A_CALL", 0.02)

    def told(pause):
        plain = test_loop.batches

        def slow(rows, **options):
            def slowly():
                for row in rows():
                    time.sleep(pause)
                    yield row

            return plain(slowly, **options)

        monkeypatch.setattr(test_loop, "batches", slow)
        bench = Bench(tmp_path)
        bench.run(epochs=10, evaluate=False)
        return bench.console.stream.getvalue()

    return told


def test_a_run_that_waits_for_its_examples_says_once_what_to_change(told):
    lines = told(0.03).splitlines()
    (said,) = [line for line in lines if "waits for its examples" in line]
    assert said.endswith("of the time: give it more CPU cores.")
    assert "% input" in lines[-1] and "examples/s" in lines[-1] and "MFU" not in lines[-1]


def test_a_device_that_is_known_shows_how_much_of_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "device_name", lambda: "NVIDIA A100-SXM4-40GB")
    counted = []
    real = flops.of_an_element
    monkeypatch.setattr(flops, "of_an_element", lambda *a, **k: counted.append(real(*a, **k)) or counted[-1])
    bench = Bench(tmp_path)
    bench.run(epochs=3, evaluate=False)
    # Forwards 3 products an example, and as many for the kernel's gradient; an example has 3 elements.
    assert counted == [2 * (3 + 3) / 3]
    assert "MFU 0.0%" in bench.console.stream.getvalue()


def test_the_console_shows_it_after_the_examples_a_second():
    stream = io.StringIO()
    with Console(stream=stream).training("head", epochs=1, steps=1) as training:
        training.update(epoch=1, step=1, loss=0.5, examples_per_second=50.0, time="1% input")
    assert stream.getvalue() == "head  epoch 1.0/1  step 1/1  loss 0.5000  50 examples/s  1% input\n"
