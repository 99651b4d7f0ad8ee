"""How TensorFlow is started: quietly, once, with the threads that were asked for."""

import contextlib
import gc
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

from tfpt.errors import UserError


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Keeps what native libraries print on file descriptor 2 off the screen; shows it if the block fails.

    TensorFlow's C++ half writes notices there, even at log level 3, before its own logging is set up. Python's
    `sys.stderr` may be something else (a notebook's), and is not touched.
    """
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # a process without a standard error has nothing to keep quiet
        yield
        return
    failed = True
    with tempfile.TemporaryFile() as kept:
        try:
            os.dup2(kept.fileno(), 2)
            yield
            failed = False
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            if failed:
                kept.seek(0)
                os.write(2, kept.read())


def start_tensorflow(threads: int = 0) -> None:
    """Imports TensorFlow and Keras without their notices.

    Args:
        threads: CPU threads for one operation and for several side by side; 0: TensorFlow's choice, one a core.

    Raises:
        UserError: Keras is set to another backend, or TensorFlow already runs with another number of threads.
    """
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise UserError(f"KERAS_BACKEND={backend}: tfpt runs on TensorFlow; unset the variable.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    first = "tensorflow" not in sys.modules
    with quiet_import():
        import keras
        import tensorflow as tf

        logger = logging.getLogger("tensorflow")
        logger.setLevel(max(logger.level, logging.WARNING))  # in a notebook TensorFlow sets INFO

        if keras.backend.backend() != "tensorflow":
            raise UserError(
                f"Keras already runs on {keras.backend.backend()} in this process; tfpt needs TensorFlow, so start afresh."
            )
        if threads:
            _set_threads(tf.config.threading, threads)
        tf.config.list_physical_devices()  # looks for GPUs, which prints, too
    if first:  # else models that are done with would be kept, too
        gc.freeze()  # The modules' objects stay anyway; to search them for garbage again and again takes a tenth of a short run.


def _set_threads(threading: object, threads: int) -> None:
    for kind in ("intra_op", "inter_op"):
        current = getattr(threading, f"get_{kind}_parallelism_threads")()
        if current == threads:
            continue
        try:
            getattr(threading, f"set_{kind}_parallelism_threads")(threads)
        except RuntimeError as error:
            raise UserError(
                f"--runtime.threads={threads}: TensorFlow already runs in this process with {current or 'its own number of'} "
                "threads; start afresh."
            ) from error
