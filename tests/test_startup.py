import os
import subprocess
import sys

import pytest

from tfpt.errors import UserError
from tfpt.startup import quiet_import, start_tensorflow


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_native_output_is_kept_back_and_shown_on_failure(capfd):
    with quiet_import():
        os.write(2, b"a notice\n")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"
    with pytest.raises(ImportError), quiet_import():
        os.write(2, b"why it failed\n")
        raise ImportError
    assert capfd.readouterr().err == "why it failed\n"


def test_without_a_standard_error():
    out = run(
        "import os; os.close(2)\nfrom tfpt.startup import quiet_import\nwith quiet_import(): print('inside')\nprint('after')"
    )
    assert out.stdout.split() == ["inside", "after"]


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(UserError, match="KERAS_BACKEND=jax"):
        start_tensorflow()


def test_tensorflow_starts_in_silence_with_the_threads_asked_for():
    out = run(
        "import gc\nfrom tfpt import errors\nfrom tfpt.app import start_tensorflow\nstart_tensorflow(1)\nimport tensorflow as tf\n"
        "print(tf.config.threading.get_intra_op_parallelism_threads(), float(tf.zeros(())))\n"
        "kept = gc.get_freeze_count()\nstart_tensorflow(1)\nprint(kept > 100_000, gc.get_freeze_count() == kept)\n"
        "try:\n    start_tensorflow(2)\nexcept errors.UserError as error:\n    print(error)\n"
    )
    assert out.stdout.splitlines()[0] == "1 0.0"
    assert out.stdout.splitlines()[1] == "True True"
    assert out.stdout.splitlines()[2].startswith("--runtime.threads=2: TensorFlow already runs in this process with 1 ")
    assert out.stderr == ""
