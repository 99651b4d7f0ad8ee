"""What the machine has: the device that trains, and free memory."""

from pathlib import Path

import tensorflow as tf

from tfpt.cores import cores

_CONTAINER = Path("/sys/fs/cgroup")


def device_name(*, of_several: bool = False) -> str:
    """Returns the device that trains, in words.

    Args:
        of_several: whether all GPUs train.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "a CPU" if of_several else f"the CPU ({cores()} cores)"
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return str(name) if of_several or len(gpus) == 1 else f"one of {len(gpus)} {name}"


def free_memory() -> int:
    """Returns the bytes of memory that are free for the taking, in this container too; 4 GiB where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            free = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        free = 4 * 2**30
    return max(0, int(min(free, _left_in_container(_CONTAINER))))


def _left_in_container(folder: Path) -> float:
    """Returns what a control group's limit (version 2) leaves; files that are only kept in memory in case make room."""
    try:
        limit, used = (int((folder / name).read_text("ascii")) for name in ("memory.max", "memory.current"))
        counts = dict(line.split() for line in (folder / "memory.stat").read_text("ascii").splitlines())
        return limit - used + int(counts.get("inactive_file", 0))
    except (OSError, ValueError):  # no such files, or `max`: no limit
        return float("inf")
