"""Looks at a machine the way a training would: versions, devices, arithmetic, decoding, disk, caches, extras."""

import ctypes
import dataclasses
import importlib.metadata
import io
import os
import platform
import shutil
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfpt.cores import cores
from tfpt.training.machine import free_memory
from tfpt.weights.home import home

OK, LOOK, BROKEN = "ok", "look", "broken"
_GIB = 2**30
_LITTLE_DISK = 5 * _GIB
_LITTLE_MEMORY = 2 * _GIB
_CUDA_LIBRARIES = ("cuda", "cudart", "cublas", "cublasLt", "cufft", "cusolver", "cusparse", "cudnn", "nccl")
_SECONDS = 1.0
"""How long pictures are decoded."""
_PICTURE = (375, 500)
"""Height and width of a picture as they are in ImageNet, on average about."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        state: `ok`, `look` (it works, and could be better) or `broken`.
        told: what was found.
        to_do: what to do about it; empty where nothing is.
    """

    name: str
    state: str
    told: str
    to_do: str = ""


def check_up() -> list[Finding]:
    """Looks at everything; takes a few seconds."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        versions,
        extras,
        devices,
        arithmetic,
        decoding,
        memory_and_disk,
        caches,
    )
    found: list[Finding] = []
    for check in checks:
        try:
            found += check()
        except Exception as error:  # one check that fails must not hide the others
            first = str(error).partition("\n")[0]
            found.append(
                Finding(check.__name__, BROKEN, f"{type(error).__name__}: {first}", "report it with this line")
            )
    return found


def versions() -> Iterator[Finding]:
    """Compares what is installed with what tfpt needs."""
    from packaging.requirements import Requirement

    wrong = []
    for text in importlib.metadata.requires("tfpt") or ():
        need = Requirement(text)
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            problem = _problem(need.name, str(need.specifier))
            if problem:
                wrong.append(problem)
                yield Finding("versions", BROKEN, problem, f'pip install "{need.name}{need.specifier}"')
    if not wrong:
        names = ("tfpt", "tensorflow", "keras", "numpy")
        told = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
        yield Finding("versions", OK, f"python {platform.python_version()}, {told}")


def _problem(package: str, wanted: str) -> str:
    from packaging.specifiers import SpecifierSet

    try:
        there = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return f"{package} is not installed"
    return "" if SpecifierSet(wanted).contains(there, prereleases=True) else f"{package} {there} is not {wanted}"


def extras() -> Iterator[Finding]:
    """Tells which extras are installed."""
    from packaging.requirements import Requirement

    needs = [Requirement(text) for text in importlib.metadata.requires("tfpt") or ()]
    for extra in sorted(importlib.metadata.metadata("tfpt").get_all("Provides-Extra") or ()):
        own = [need for need in needs if need.marker and need.marker.evaluate({"extra": extra})]
        missing = [problem for need in own if need.marker and not need.marker.evaluate({"extra": ""})
                   and (problem := _problem(need.name, str(need.specifier)))]  # fmt: skip
        if missing:
            yield Finding(f"extra {extra}", LOOK, missing[0], f'if you need it: pip install "tfpt[{extra}]"')
        else:
            yield Finding(f"extra {extra}", OK, "installed")


def devices() -> Iterator[Finding]:
    """Tells what can train, and which CUDA library is in the way of a GPU."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        details = tf.config.experimental.get_device_details(gpu)
        capability = ".".join(map(str, details.get("compute_capability", ())))
        yield Finding(
            "device", OK, f"{details.get('device_name', gpu.name)}, compute capability {capability or 'unknown'}"
        )
    for tpu in tf.config.list_physical_devices("TPU"):
        yield Finding("device", OK, f"{tpu.name}; --runtime.strategy=tpu, see docs/tpu.md")
    if gpus:
        return
    count = cores()
    if not _has_nvidia():
        yield Finding("device", OK, f"CPU with {count} cores, no GPU")
        return
    if not tf.test.is_built_with_cuda():
        yield Finding(
            "device",
            BROKEN,
            "there is a GPU, and this TensorFlow was built without CUDA",
            "pip install 'tensorflow[and-cuda]'",
        )
        return
    missing = [name for name in _CUDA_LIBRARIES if not loads(name)]
    told = f"there is a GPU, and TensorFlow does not see it; {', '.join(f'lib{n}' for n in missing) or 'no library'} did not load"
    driver = "install NVIDIA's driver" if "cuda" in missing else "pip install 'tensorflow[and-cuda]'"
    yield Finding("device", BROKEN, told, driver)


def _has_nvidia() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def loads(library: str) -> bool:
    """Tells whether a CUDA library can be loaded, from the system or from NVIDIA's Python packages."""
    places = sorted(Path(sysconfig.get_path("purelib")).glob(f"nvidia/*/lib/lib{library}.so*"))
    for name in (*map(str, places), f"lib{library}.so", f"lib{library}.so.1", f"lib{library}.so.12"):
        try:
            ctypes.CDLL(name)
            return True
        except OSError:
            continue
    return False


def arithmetic() -> Iterator[Finding]:
    """Tries bfloat16 and XLA."""

    def seconds(dtype: tf.DType) -> float:
        values = tf.cast(tf.random.stateless_normal((1024, 1024), seed=(0, 0)), dtype)
        product = tf.function(lambda x: tf.reduce_sum(tf.cast(x @ x, tf.float32)))
        product(values).numpy()
        taken = []
        for _ in range(5):
            started = time.perf_counter()
            product(values).numpy()
            taken.append(time.perf_counter() - started)
        return min(taken)

    ratio = seconds(tf.float32) / seconds(tf.bfloat16)
    slower = "" if ratio >= 1 else "--train.precision=auto leaves it alone here"
    yield Finding(
        "bfloat16",
        OK if ratio >= 1 else LOOK,
        f"a product of matrices is {ratio:.1f} times as fast as in float32",
        slower,
    )
    try:
        found = tf.function(lambda x: tf.reduce_sum(tf.nn.relu(x) * 2.0), jit_compile=True)(tf.constant([-1.0, 2.0]))
        right = float(found) == 4.0
        told = "compiles and runs" if right else f"computes {float(found)} where 4.0 is right"
    except (tf.errors.OpError, ValueError) as error:
        right, told = False, str(error).partition("\n")[0]
    yield Finding("XLA", OK if right else BROKEN, told, "" if right else "reinstall tensorflow")


def decoding() -> Iterator[Finding]:
    """Measures how many pictures can be decoded and resized, which bounds training where they are not kept in memory."""
    from PIL import Image

    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(noise).resize(_PICTURE[::-1], Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    content = tf.constant(file.getvalue())

    def decoded(_: tf.Tensor) -> tf.Tensor:
        return tf.image.resize(tf.io.decode_jpeg(content, channels=3), (224, 224))

    pictures = tf.data.Dataset.range(2**40).map(decoded, num_parallel_calls=tf.data.AUTOTUNE).batch(16).prefetch(2)
    batches = iter(pictures)
    next(batches)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < _SECONDS:
        next(batches)
        count += 16
    speed = count / (time.perf_counter() - started)
    count = cores()
    few = bool(tf.config.list_physical_devices("GPU")) and speed < 2000
    yield Finding(
        "decoding",
        LOOK if few else OK,
        f"{speed:,.0f} JPEG pictures of {_PICTURE[1]}x{_PICTURE[0]} a second on {count} cores",
        "a GPU may wait for pictures: --input.cache=memory keeps them, or take more cores" if few else "",
    )


def memory_and_disk() -> Iterator[Finding]:
    """Looks at what is free."""
    free = free_memory()
    to_do = (
        "close other programs, or lower --train.batch_size and set --input.cache=off" if free < _LITTLE_MEMORY else ""
    )
    yield Finding("memory", LOOK if to_do else OK, f"{free / _GIB:.1f} GiB free", to_do)
    for name, folder in (("working folder", Path.cwd()), ("caches", home())):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        room = shutil.disk_usage(there).free
        to_do = f"make room in {there}" if room < _LITTLE_DISK else ""
        if not os.access(there, os.W_OK):
            to_do = f"make {there} writable" if name == "working folder" else "set TFPT_HOME to a folder that is yours"
            yield Finding(f"disk of the {name}", BROKEN, f"{there} cannot be written", to_do)
        else:
            yield Finding(
                f"disk of the {name}", LOOK if to_do else OK, f"{room / _GIB:.0f} GiB free in {folder}", to_do
            )


def caches() -> Iterator[Finding]:
    """Tells what is kept, and whether the network may be used."""
    size = sum(file.stat().st_size for file in home().rglob("*") if file.is_file() and not file.is_symlink())
    yield Finding("caches", OK, f"{size / _GIB:.2f} GiB in {home()}")
    offline = os.environ.get("TFPT_OFFLINE", "") not in ("", "0")
    told = "on (TFPT_OFFLINE): nothing is fetched" if offline else "off: weights are fetched when they are first needed"
    yield Finding("offline", LOOK if offline else OK, told, "unset TFPT_OFFLINE to fetch weights" if offline else "")
