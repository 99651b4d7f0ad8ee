"""What a result was made with: versions, machine, memory."""

import os
import platform
import re
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from tfpt.cores import cores

PACKAGES = ("tfpt", "tensorflow", "keras", "numpy")


def environment() -> dict[str, str]:
    """Returns versions, machine and working tree by name, for environment.json and the report.

    Keys: `python`, each of `PACKAGES` that is installed, `os`, `cpu`, `cores` (that this process may use), `memory`
    (of the machine, or of the container where that is less), `gpu` (only where TensorFlow is already loaded, as asking
    would load it; `none` where there is none) and `git` (commit of the working folder, with `-dirty` after it where
    files differ from it). What the machine does not tell is left out. No host or user name.
    """
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    found |= {
        "os": platform.platform(),
        "cpu": _cpu(),
        "cores": str(cores()),
        "memory": f"{_memory() / 2**30:.1f} GiB",
        "gpu": _gpus(),
        "git": _commit(),
    }
    return {name: value for name, value in found.items() if value}


def peak_memory() -> int:
    """Returns the most memory in bytes that this process has held at once (resident set).

    On Linux it is the kernel's `VmHWM`: `ru_maxrss`, which other systems give, would start at the parent's figure
    when a large process started this one.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB", _text("/proc/self/status"), re.MULTILINE)
    if found:
        return int(found[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _cpu() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _memory() -> int:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    bounds = [_text("/sys/fs/cgroup/memory.max"), _text("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    return min([machine, *(int(bound) for bound in bounds if bound.strip().isdigit())])


def _gpus() -> str:
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return ""
    devices = tensorflow.config.list_physical_devices("GPU")
    details = [tensorflow.config.experimental.get_device_details(device) for device in devices]
    names = [one.get("device_name", device.name) for one, device in zip(details, devices, strict=True)]
    return ", ".join(names) or "none"


def _commit() -> str:
    # Without optional locks git only reads: the folder may be somebody else's.
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
