"""Warm-up requests: TensorFlow Serving runs them when it loads a version, so that the first client does not wait."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

FILE = "tf_serving_warmup_requests"
BATCH_SIZES = (1, 8)


def write_warmup(extra: Path, raw: Mapping[str, bytes], *, model: str) -> None:
    """Writes requests for `serving_default` in the format that TensorFlow Serving reads.

    Args:
        extra: the bundle's `assets.extra`.
        raw: feature -> a synthetic raw value; no example of the user's enters a bundle.
        model: name that clients use.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    with tf.io.TFRecordWriter(str(extra / FILE)) as writer:
        for batch_size in BATCH_SIZES:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model
            request.model_spec.signature_name = "serving_default"
            for feature, value in raw.items():
                request.inputs[feature].CopyFrom(tf.make_tensor_proto([value] * batch_size))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
