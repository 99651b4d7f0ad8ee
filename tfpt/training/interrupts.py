"""Ctrl-C and SIGTERM at a moment when the state of training is whole."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from tfpt.errors import Preempted

Pressed = Callable[[], KeyboardInterrupt | None]
"""Tells what is to be raised when the state is saved; None while nobody asked to stop."""


@contextlib.contextmanager
def deferred_interrupts(*, quiet: bool = False) -> Iterator[Pressed]:
    """Yields a function that tells whether Ctrl-C was pressed, or SIGTERM came; a second Ctrl-C raises at once.

    One that nobody asked about before the block ends raises it there.

    Without it the exception could come between an update and the count of updates, and the saved state would be torn.
    Outside the main thread, where Python allows no signal handlers, nothing is deferred.

    Args:
        quiet: do not tell on standard error that the signal was seen.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    pressed: KeyboardInterrupt | None = None

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed and number == signal.SIGTERM:
            return  # machines send it twice; who cannot wait sends SIGKILL
        if pressed:
            raise pressed
        if number == signal.SIGTERM:
            pressed, told = Preempted(), "SIGTERM: stopping as soon as the state is saved."
        else:
            pressed = KeyboardInterrupt()
            told = "Stopping as soon as the state is saved; press again to stop at once."
        if not quiet:
            print(f"\n{told}", file=sys.stderr, flush=True)

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: pressed
    finally:
        for number, old in before.items():
            signal.signal(number, old)
    if pressed:
        raise pressed
