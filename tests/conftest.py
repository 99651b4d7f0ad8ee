"""Data and runs that several test files share."""

import gc
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS))  # components of the tests' own are found as toys.NAME

CLASSES = ("blue", "green", "red")

LONGEST = (
    "test_run.py", "compression/test_compression.py", "tasks/test_task_contract.py",
    "backbones/test_tfhub_runs.py", "training/test_toy_tasks.py", "formats/test_formats.py", "test_configs.py",
    "tasks/test_learned_labels.py", "test_bad_input.py", "test_folds.py", "test_programs.py",
    "test_export_checkpoint.py", "training/test_recipes.py", "training/test_stages.py", "serving/test_bundle.py",
    "survival/test_kills.py", "test_export_bundle.py", "tasks/test_text_tasks_end_to_end.py", "test_outside_components.py", "test_quickstart.py",
    "training/test_remote.py",
)  # fmt: skip


def pytest_configure():
    """Gives this process, and so those it starts, the usual answers to signals: nohup and CI systems hand down others."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def pytest_collection_modifyitems(items):
    """Puts the files first that take longest: one that begins late keeps a single worker busy while the others are done."""
    place = {TESTS / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))


def pytest_collection_finish():
    """Keeps the garbage collector from searching TensorFlow's and Keras' modules again and again; they stay anyway."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


def write_pictures(folder, *, per_class=12, side=24, seed=0):
    """Writes noisy pictures of three colours, a folder a class."""
    random = np.random.default_rng(seed)
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for k in range(per_class):
            pixels = random.normal(90, 25, (side, side, 3))
            pixels[..., 2 - number] += 80
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{k}.png")
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of 36 pictures of 24x24 pixels in three classes."""
    return write_pictures(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="session")
def fit(tmp_path_factory):
    """Trains with small defaults: `fit(folder, epochs=2)`; run folder and models are written below `folder`."""
    import tfpt

    small = {"task": "image_classification", "backbone": "tiny:conv", "image_size": 16, "batch_size": 8, "quiet": True}
    small |= {"head_epochs": 1, "epochs": 1, "augment": "none", "split": (50, 25, 25), "keep_checkpoints": 100}

    def fit(folder, **options):
        output = {"run_dir": str(folder / "run"), "model_dir": str(folder / "models"), **options.pop("output", {})}
        return tfpt.fit(**{**small, **options, "output": output})

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFPT_HOME", str(tmp_path_factory.mktemp("home")))
        yield fit


@pytest.fixture(scope="session")
def trained(fit, pictures, tmp_path_factory):
    """A classifier whose trunk's last two groups were trained, in bfloat16."""
    folder = tmp_path_factory.mktemp("trained")
    options = {"epochs": 2, "unfreeze": "last:2", "augment": "auto", "require": "accuracy>=0", "batch_norm": "train"}
    return fit(folder, data=f"folder:{pictures}", precision="bfloat16", **options)
