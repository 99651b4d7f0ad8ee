import inspect
import logging
import re

import tensorflow as tf
from tensorflow.python.eager.polymorphic_function import polymorphic_function

from tfpt.retracing import no_retracing_notices

NOTICE = "5 out of the last 5 calls to <function step> triggered tf.function retracing. Tracing is expensive ..."


def test_the_notice_is_held_back_and_nothing_else(caplog):
    logger = logging.getLogger("tensorflow")
    with caplog.at_level(logging.WARNING, logger="tensorflow"):
        with no_retracing_notices():
            logger.warning(NOTICE)
            logger.warning("something else")
            for k in range(6):
                tf.function(lambda x: x + 1, autograph=False)(tf.zeros(k))
        assert caplog.messages == ["something else"]
        logger.warning(NOTICE)
    assert caplog.messages == ["something else", NOTICE]


def test_tensorflow_words_it_so():
    source = re.sub(r'"\s+"', "", inspect.getsource(polymorphic_function))
    assert "triggered tf.function retracing" in source
