"""EfficientNet-Lite0 on the CPU: forward pass and training step, by tfpt and by torch at its best; alternating.

    python benchmarks/lite0_vs_torch.py --peer_python=peers/bin/python

Both sides get the same batch of random bytes, which a processor does as fast as photos, and the same number of threads. The
forward pass begins with the bytes and ends with the features; the training step is a whole one: all weights, batch
normalisation on the batch's statistics, cross-entropy, AdamW (fused on both sides). Weights are random. torch runs as it is and with
channels last; forward with batch normalisation folded into the convolutions, in inference mode, and with weights in bfloat16; training with
autocast to bfloat16; and each of these compiled (torch.compile, with weights frozen for the forward pass), where it has a C++ compiler.
"""

import argparse
import os
import subprocess
import time
from pathlib import Path
from statistics import median

from section import table, write_section
from sides import answer, child

OURS = {"forward": ("tensorflow", "openvino", "openvino bfloat16"), "train": ("float32", "bfloat16")}
THEIRS = {
    "forward": (
        "default",
        "channels_last",
        "channels_last folded",
        "channels_last folded bfloat16",
        "channels_last folded compiled",
        "channels_last folded compiled bfloat16",
    ),
    "train": (
        "default",
        "channels_last",
        "channels_last bfloat16",
        "channels_last compiled",
        "channels_last compiled bfloat16",
    ),
}
PEER = str(Path(__file__).with_name("torch_lite0.py"))


def backbone():
    """Returns the network's backbone."""
    from tfpt import registry

    kind = registry.find("backbone", "efficientnet_lite")
    return kind("lite0", kind.Config(weights="none"))


def forward(given, engine):
    """Returns a function that makes so many forward passes."""
    import numpy as np
    import tensorflow as tf

    from tfpt import registry
    from tfpt.config import Input
    from tfpt.engines import _choice

    trunk = backbone()
    preprocessor = trunk.preprocessor(Input(image_size=given.size))
    network, device = trunk.build(given.size), preprocessor.device()
    spec = tf.TensorSpec((given.batch, given.size, given.size, 3), tf.uint8)
    graph = _choice.freeze(lambda x: network(device(x), training=False)["pooled"], spec)
    name, _, precision = engine.partition(" ")
    run = registry.find("engine", name)().compile(graph, precision=precision or "float32", threads=given.threads)
    pixels = np.random.default_rng(0).integers(0, 256, spec.shape, np.uint8)

    def steps(count):
        for _ in range(count):
            run([pixels])

    return steps


def train(given, precision):
    """Returns a function that makes so many updates, in one call of tfpt's loop."""
    import numpy as np
    import tensorflow as tf

    from tfpt import registry
    from tfpt.config import Input, Optim
    from tfpt.training import freezing
    from tfpt.training.assembly import assemble
    from tfpt.training.steps import compiled_steps
    from tfpt.training.updates import Updates

    trunk, task = backbone(), registry.find("task", "image_classification")()
    state = {"classes": ["a", "b"], "counts": [1, 1]}
    preprocessors = {"trunk": trunk.preprocessor(Input(image_size=given.size))}
    assembly = assemble(task, state, {"trunk": trunk}, preprocessors, precision=precision, seed=0)
    freezing.set_trainable(assembly, unfreeze="all", train_batch_norm=True)
    groups = freezing.rate_groups(assembly, Optim(), unfreeze="all", head_multiplier=1.0)
    updates = Updates(groups, Optim(), learning_rate=1e-4, steps=1000)
    call = compiled_steps(task, assembly.model, updates, None, accumulate=1)
    random = np.random.default_rng(0)
    batch = {
        "inputs": random.integers(0, 256, (given.batch, given.size, given.size, 3), np.uint8),
        "targets": np.eye(2, dtype=np.float32)[np.arange(given.batch) % 2],
        "weight": np.ones(given.batch, np.float32),
        "example": np.arange(given.batch),
        "ok": np.ones(given.batch, bool),
    }
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())

    def steps(count):
        call(batches, tf.constant(count))[0].numpy()

    return steps


def ours(given):
    """Measures one way of running it; answers with examples a second, one number a round."""
    from tfpt import startup

    startup.start_tensorflow(given.threads)
    steps = (forward if given.what == "forward" else train)(given, given.how)
    steps(2)
    rates = []
    for _ in range(given.rounds):
        started = time.perf_counter()
        steps(given.steps)
        rates.append(given.batch * given.steps / (time.perf_counter() - started))
    answer({"rates": rates})


def compare(given, what):
    """Runs both sides in turn and writes the section."""
    found, missing, version = {}, [], ""
    for _ in range(given.repeats):
        for how in OURS[what]:
            found.setdefault(f"tfpt, {how}", []).append(median(child(__file__, options(given, what, how))["rates"]))
        for how in [how for how in THEIRS[what] if how not in missing]:
            try:
                got = child(PEER, options(given, what, how), python=given.peer_python)
            except subprocess.CalledProcessError:
                missing.append(how)
                continue
            version = got["version"]
            found.setdefault(f"torch, {how}", []).append(median(got["rates"]))
        print(what, found, flush=True)
    middle = {name: median(rates) for name, rates in found.items()}

    def best(side, rounded):
        return max(rate for n, rate in middle.items() if n.startswith(side) and ("bfloat16" in n) == rounded)

    whole, rounded = best("tfpt", False) / best("torch", False), best("tfpt", True) / best("torch", True)
    anyhow = max(best("tfpt", False), best("tfpt", True)) / max(best("torch", False), best("torch", True))
    title = {"forward": "Forward pass", "train": "Full fine-tune"}[what]
    lines = [
        f"EfficientNet-Lite0 at {given.size} pixels, batch {given.batch}, {given.threads} threads, examples a second. Each way runs in a "
        f"process of its own, {given.repeats} times in turn; a value is the median of {given.rounds} rounds of {given.steps} batches. torch {version}"
        f"{', which could not run: ' + ', '.join(missing) if missing else ''}.",
        "",
        f"**Best of tfpt / best of torch: float32 {whole:.2f}, bfloat16 {rounded:.2f}, whichever is faster {anyhow:.2f}.**",
        "",
        *table(found, unit="examples/s"),
    ]
    packages = ("tensorflow", "keras", *(["openvino"] if what == "forward" else []))
    write_section(f"{title}, EfficientNet-Lite0, against torch", lines, packages=packages)


def options(given, what, how):
    """Returns the command line of a side."""
    numbers = [f"--{name}={getattr(given, name)}" for name in ("size", "batch", "steps", "rounds", "threads")]
    return [f"--what={what}", f"--how={how}", *numbers]


def main():
    """Runs the rounds, or one side of one round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer_python", help="a Python that has torch")
    parser.add_argument("--what", default="forward,train")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4, help="batches a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of a process")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each way")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--how", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.how:
        ours(given)
        return
    for what in given.what.split(","):
        compare(given, what)


if __name__ == "__main__":
    main()
