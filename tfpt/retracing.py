"""TensorFlow's notice about functions that are traced often, held back while tfpt runs."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def no_retracing_notices() -> Iterator[None]:
    """Holds back the notice that a tf.function is traced often.

    Each run compiles its functions anew, for its own model. TensorFlow counts them by the place where they are written, so
    from the fifth run of a process on it would tell the user of a notebook to mend what is not broken.
    """
    logger = logging.getLogger("tensorflow")
    logger.addFilter(_is_no_notice)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_notice)


def _is_no_notice(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in record.getMessage()
