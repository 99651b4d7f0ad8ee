"""Which arithmetic the trunks train in."""

import tensorflow as tf


def choose_precision(wanted: str) -> tuple[str, str]:
    """Returns the precision and, in words, why.

    Args:
        wanted: `auto`, `float32`, `bfloat16` or `float16`.
    """
    if wanted != "auto":
        return wanted, "as asked"
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "float32", "there is no GPU"
    major = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))[0]
    if major >= 8:
        return "bfloat16", "the GPU has it"
    return "float32", f"the GPU has compute capability {major}, bfloat16 needs 8"
