"""What tfpt's loop costs over the bare compiled step: rows, history, progress, calls of half a second.

    python benchmarks/loop_cost.py

Both run the same compiled function over the same batches of the same model: the bare side in one call, tfpt's through
`train_stage`, with its rows of history, its look at Ctrl-C, its checks for losses that blow up and its progress. Tracing and
checkpoints are left out: the one is done once, the other every ten minutes.
"""

import argparse
import io
import time
from pathlib import Path
from statistics import median
from unittest import mock

from section import table, write_section
from sides import answer, child

SIDES = ("bare step", "tfpt's loop")


def measure(given):
    """Measures both ways in turn, in one process; answers with the seconds of each round."""
    from tfpt import startup

    startup.start_tensorflow()
    import numpy as np
    import tensorflow as tf

    from tfpt import registry
    from tfpt.config import Input, Optim, Train
    from tfpt.console import Console
    from tfpt.training import freezing
    from tfpt.training.assembly import assemble
    from tfpt.training.checkpoints import Checkpoints
    from tfpt.training.loop import Hooks, Stage, train_stage
    from tfpt.training.plan import TrainingPlan
    from tfpt.training.progress import Progress
    from tfpt.training.steps import compiled_steps
    from tfpt.training.updates import Updates
    from tfpt.untuned import untuned

    kind = registry.find("backbone", "efficientnet_lite")
    trunk, task = kind("lite0", kind.Config(weights="none")), registry.find("task", "image_classification")()
    state = {"classes": ["a", "b"], "counts": [1, 1]}
    preprocessors = {"trunk": trunk.preprocessor(Input(image_size=given.size))}
    assembly = assemble(task, state, {"trunk": trunk}, preprocessors, precision="float32", seed=0)
    freezing.set_trainable(assembly, unfreeze="all", train_batch_norm=False)
    groups = freezing.rate_groups(assembly, Optim(), unfreeze="all", head_multiplier=1.0)
    batch = {
        "inputs": np.random.default_rng(0).integers(0, 256, (given.batch, given.size, given.size, 3), np.uint8),
        "targets": np.eye(2, dtype=np.float32)[np.arange(given.batch) % 2],
        "weight": np.ones(given.batch, np.float32),
        "example": np.arange(given.batch),
        "ok": np.ones(given.batch, bool),
    }
    updates = Updates(groups, Optim(), learning_rate=1e-6, steps=10**6)
    call = compiled_steps(task, assembly.model, updates, None, accumulate=1)
    # As tfpt's own pipelines are: the end of an iterator, one a round, waits for no tuner.
    same = untuned(tf.data.Dataset.from_tensors(batch).repeat())
    bare = iter(same)
    ignore = {name: lambda *_: None for name in ("row", "begin", "status", "failed")}

    def loop():
        stage = Stage(
            name="fine_tune",
            model=assembly.model,
            task=task,
            primary=task.primary_of(state),
            updates=updates,
            averages=None,
            batches=lambda rows: same,
            plan=TrainingPlan(examples=np.arange(given.batch * given.steps), batch_size=given.batch, seed=0),
            epochs=1,
            steps=given.steps,
            evaluate=None,
        )
        saver = Checkpoints(Path(given.work), keep=1, writes=False)
        with mock.patch("tfpt.training.loop.compiled_steps", lambda *_, **__: call):
            train_stage(stage, Progress(), Train(), saver, Console(stream=io.StringIO()), Hooks(**ignore))

    seconds = {side: [] for side in SIDES}
    call(bare, tf.constant(3))
    for number in range(given.rounds + 1):
        started = time.perf_counter()
        call(bare, tf.constant(given.steps))[0].numpy()
        between = time.perf_counter()
        loop()
        ended = time.perf_counter()
        if number:
            seconds["bare step"].append(between - started)
            seconds["tfpt's loop"].append(ended - between)
            print(number, between - started, ended - between, flush=True)
    answer(seconds)


def main():
    """Runs the rounds and writes the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        measure(given)
        return
    own = [f"--{option}={getattr(given, option)}" for option in ("size", "batch", "steps", "rounds")]
    got = child(__file__, own)
    found = {side: got[side] for side in SIDES}
    share = 100 * (median(found["tfpt's loop"]) / median(found["bare step"]) - 1)
    lines = [
        f"{given.steps} updates of all of EfficientNet-Lite0 at {given.size} pixels, batch {given.batch}; {given.rounds} rounds in turn, in one "
        "process. What the bare step is made of is tfpt's: the loop's rows, checks and progress are what is measured.",
        "",
        f"**The loop costs {share:+.1f} % over the bare compiled step.**",
        "",
        *table(found, unit="s", digits=2),
    ]
    write_section("Cost of the training loop", lines, packages=("tensorflow", "keras"))


if __name__ == "__main__":
    main()
