"""Ctrl-C and SIGTERM wait for a whole state, once."""

import os
import signal
import threading

import pytest

from tfpt.errors import Preempted
from tfpt.training.interrupts import deferred_interrupts


def press():
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_press_is_told_and_the_second_stops_at_once(capfd):
    before = signal.getsignal(signal.SIGINT)
    reached = []
    with pytest.raises(KeyboardInterrupt), deferred_interrupts() as pressed:
        assert not pressed()
        press()
        reached.append(type(pressed()))
        press()
        reached.append("after the second")
    assert reached == [KeyboardInterrupt]
    assert "press again to stop at once" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_sigterm_lets_the_first_be_obeyed():
    reached = []
    with pytest.raises(Preempted), deferred_interrupts() as pressed:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append(type(pressed()))
    assert reached == [Preempted, Preempted]


def test_a_press_that_nobody_asked_about_is_not_lost():
    reached = []
    with pytest.raises(KeyboardInterrupt), deferred_interrupts():
        press()
        reached.append("the end of the block")
    assert reached


def test_an_error_in_the_block_puts_the_handler_back():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="mine"), deferred_interrupts():
        raise ValueError("mine")
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_nothing_is_deferred():
    told = []

    def work():
        with deferred_interrupts() as pressed:
            told.append((pressed(), threading.current_thread().name))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work, name="other")
    thread.start()
    thread.join()
    assert told == [(None, "other")]
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_is_told_from_ctrl_c(capfd):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted), deferred_interrupts() as pressed:
        os.kill(os.getpid(), signal.SIGTERM)
        assert isinstance(pressed(), Preempted)
        raise pressed()
    assert "SIGTERM: stopping as soon as the state is saved" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_of_several_processes_one_tells_that_the_signal_was_seen(capfd):
    with pytest.raises(Preempted), deferred_interrupts(quiet=True):
        os.kill(os.getpid(), signal.SIGTERM)
    assert capfd.readouterr().err == ""
