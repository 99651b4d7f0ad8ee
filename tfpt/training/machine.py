"""What the machine has: the device that trains, and free memory."""

import os

import tensorflow as tf


def device_name(*, of_several: bool = False) -> str:
    """Returns the device that trains, in words.

    Args:
        of_several: whether all GPUs train.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "a CPU" if of_several else f"the CPU ({os.cpu_count()} cores)"
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return str(name) if of_several or len(gpus) == 1 else f"one of {len(gpus)} {name}"


def free_memory() -> int:
    """Returns the bytes of memory that are free for the taking; 4 GiB where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 4 * 2**30
