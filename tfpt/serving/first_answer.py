"""Loads a bundle and asks it for the first time, with TensorFlow alone; run as a file, it imports nothing of tfpt.

Arguments: the bundle, and modules whose ops the graph uses (tensorflow_text). Standard input: a JSON object, input name ->
base64 of a raw value. Prints a JSON object of seconds and bytes.
"""

import base64
import importlib
import json
import os
import re
import sys
import time


def main(bundle: str, *libraries: str) -> None:
    """Prints what it took."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    raw = {name: base64.b64decode(value) for name, value in json.load(sys.stdin).items()}
    found, last = {}, time.perf_counter()

    def took(what: str) -> None:
        nonlocal last
        now = time.perf_counter()
        found[f"{what}_seconds"], last = now - last, now

    import tensorflow as tf

    for library in libraries:
        importlib.import_module(library)
    took("import")
    found["import_bytes"] = _memory("VmRSS")
    last = time.perf_counter()
    serve = tf.saved_model.load(bundle).signatures["serving_default"]
    took("load")
    found["loaded_bytes"] = _memory("VmRSS")
    for what in ("first_request", "second_request"):
        last = time.perf_counter()
        {name: value.numpy() for name, value in serve(**{n: tf.constant([v]) for n, v in raw.items()}).items()}
        took(what)
    found["peak_bytes"] = _memory("VmHWM")
    print(json.dumps(found))


def _memory(what: str) -> int:
    """Returns the resident bytes, 0 on a system that does not tell them as Linux does."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            match = re.search(rf"^{what}:\s+(\d+) kB", file.read(), re.MULTILINE)
    except OSError:
        return 0
    return 1024 * int(match[1]) if match else 0


if __name__ == "__main__":
    main(*sys.argv[1:])
