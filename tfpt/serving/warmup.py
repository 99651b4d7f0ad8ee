"""Warm-up requests: TensorFlow Serving runs them when it loads a version, so that the first client does not wait."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

FILE = "tf_serving_warmup_requests"
BATCH_SIZES = (1, 8)


def write_warmup(extra: Path, examples: Sequence[Mapping[str, bytes]], *, model: str) -> None:
    """Writes requests for `serving_default` in the format that TensorFlow Serving reads.

    Args:
        extra: the bundle's `assets.extra`.
        examples: raw values by input name, each repeated as often as a request needs.
        model: name that clients use.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    with tf.io.TFRecordWriter(str(extra / FILE)) as writer:
        for batch_size in BATCH_SIZES:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model
            request.model_spec.signature_name = "serving_default"
            rows = [examples[k % len(examples)] for k in range(batch_size)]
            for name in rows[0]:
                request.inputs[name].CopyFrom(tf.make_tensor_proto([row[name] for row in rows]))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
