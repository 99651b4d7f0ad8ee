"""Fine-tunes MiniLM on sentences with tfpt and with the Transformers Trainer, alternating, and compares.

    python benchmarks/text_vs_transformers.py --data=FOLDER --peer_python=peers/bin/python

FOLDER holds train.tsv, dev.tsv and test.tsv: a sentence, a tab, its label, no header. Both get the same sentences, batch,
epochs, learning rate, schedule and weight decay, a new head on the first token (the Trainer's behind BERT's pooler), and all weights train. Wall time counts from the start
of the program, TensorFlow's and torch's import included.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from section import table, write_section

HERE = Path(__file__).parent
LENGTH = 128


def tfpt_run(given, work, seed):
    """Trains with tfpt; returns what it came to."""
    run = work / "run"
    command = [sys.executable, "-m", "tfpt.train", "--task=text_classification", f"--data=csv:{given.data}"]
    command += [
        "--backbone=hf:minilm_l6",
        f"--input.max_length={LENGTH}",
        "--train.head_epochs=0",
        "--backbone.pooling=cls",
    ]
    command += [f"--train.epochs={given.epochs}", f"--train.batch_size={given.batch}", f"--train.seed={seed}"]
    command += [f"--optim.learning_rate={given.rate}", f"--train.precision={given.precision}"]
    command += [f"--output.run_dir={run}", "--export.publish=false", f"--runtime.threads={given.threads}"]
    found = {"evaluations": []}
    process, started = start(command, stdout=subprocess.DEVNULL)
    seen = 0
    while True:
        done = process.poll() is not None
        rows = read_rows(run / "metrics.jsonl")
        for row in rows[seen:]:
            if row["split"] == "validation":
                found["evaluations"].append((time.monotonic() - started, row["accuracy"]))
        seen = len(rows)
        if done:
            break
        time.sleep(0.05)
    found |= finish(process, started)
    last = [row for row in rows if row["split"] == "validation"][-1]
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    examples = metrics["examples"]
    return found | {
        "train_speed": given.epochs * examples["train"] / rows[-1]["seconds"],
        "eval_speed": examples["validation"] / last["evaluation_seconds"],
        "accuracy": metrics["test"]["accuracy"]["value"],
        "precision": json.loads((run / "precision.json").read_text(encoding="utf-8"))["precision"],
    }


def peer_run(given, work, seed, *, bf16=False):
    """Trains with the Trainer; returns what it came to."""
    command = [
        given.peer_python,
        str(HERE / "transformers_trainer.py"),
        f"--data={given.data}",
        f"--model={given.model}",
    ]
    command += [f"--epochs={given.epochs}", f"--batch={given.batch}", f"--rate={given.rate}", f"--seed={seed}"]
    command += [
        f"--length={LENGTH}",
        f"--threads={given.threads}",
        f"--work={work / 'peer'}",
        *(["--bf16"] if bf16 else []),
    ]
    process, started = start(command, stdout=subprocess.PIPE)
    found = {"evaluations": []}
    for line in process.stdout:
        if line.startswith('{"event"'):
            event = json.loads(line)
            if event["event"] == "evaluated":
                found["evaluations"].append((time.monotonic() - started, event["accuracy"]))
                found["eval_speed"] = event["speed"]
            else:
                found |= {"accuracy": event["accuracy"], "train_speed": event["train_speed"]}
    return found | finish(process, started)


def start(command, *, stdout):
    """Starts a program; returns it and when."""
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "TFPT_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, stdout=stdout, text=True, env=environment), time.monotonic()


def finish(process, started):
    """Waits for a program; returns its seconds and peak memory."""
    seconds = time.monotonic() - started
    if process.wait():
        raise SystemExit(f"{process.args[1]} ended with {process.returncode}")
    return {"seconds": seconds}


def peak_memory(process_run, *arguments, **options):
    """Runs in a child of its own, so that its children's peak memory is that of one run; returns the result with it."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        import resource

        try:
            result = process_run(*arguments, **options)
        except BaseException as error:  # in the child: the parent's clean-up is not its own
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        result["memory"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
        with os.fdopen(write_end, "w") as file:
            json.dump(result, file)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as file:
        text = file.read()
    os.waitpid(child, 0)
    if not text:
        raise SystemExit("A side has failed; see above.")
    return json.loads(text)


def read_rows(file):
    """Returns the whole rows that a growing file has by now."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def time_to(evaluations, accuracy):
    """Returns the seconds to the first evaluation at least that good, or None."""
    return next((seconds for seconds, found in evaluations if found >= accuracy), None)


def main():
    """Runs the rounds and writes the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train.tsv, dev.tsv and test.tsv")
    parser.add_argument("--peer_python", required=True, help="a Python with benchmarks/requirements.txt")
    parser.add_argument(
        "--model",
        default=str(Path(os.environ.get("TFPT_HOME", "~/.cache/tfpt")).expanduser() / "weights/hf/all-MiniLM-L6-v2"),
        help="MiniLM's folder; default: where `tfpt fetch hf:minilm_l6` puts it",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--precision", default="auto", help="of tfpt's training")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--peer_bf16", action="store_true", help="also the Trainer with bf16=True")
    given = parser.parse_args()
    given.data = str(Path(given.data).absolute())
    sides = {"tfpt": tfpt_run, "Trainer": peer_run}
    found = {name: [] for name in sides}
    if given.peer_bf16:
        found["Trainer, bf16"] = []
    for seed in range(given.rounds):
        for name in found:
            options = {"bf16": True} if name.endswith("bf16") else {}
            work = Path(tempfile.mkdtemp())
            found[name].append(peak_memory(sides[name.split(",")[0]], given, work, seed, **options))
            shutil.rmtree(work)
            print(
                name, seed, {key: value for key, value in found[name][-1].items() if key != "evaluations"}, flush=True
            )
    write(given, found)


def write(given, found):
    """Writes the section."""
    lines = [
        f"MiniLM-L6 on {Path(given.data).name}, batch {given.batch}, {given.epochs} epochs, learning rate {given.rate:g}, all "
        f"weights, {LENGTH} tokens at most, {given.threads} threads; tfpt's precision: {given.precision}, here {found['tfpt'][0]['precision']}. The Trainer is as run_glue.py "
        "calls it: float32, random batches, each padded to its longest text; tfpt puts texts of like lengths together, as it does by "
        "itself. Training is without evaluation, "
        "which is that of the dev split between epochs, the last one.",
        "",
    ]
    for title, key, unit, digits in (
        ("Training", "train_speed", "examples/s", 1),
        ("Evaluation", "eval_speed", "examples/s", 1),
        ("Test accuracy", "accuracy", "", 4),
        ("Whole program", "seconds", "s", 1),
        ("Peak memory", "memory", "MiB", 0),
    ):
        values = {name: [run[key] for run in runs] for name, runs in found.items()}
        ratio = median(values["tfpt"]) / median(values["Trainer"])
        lines += [
            f"### {title}: tfpt / Trainer = {ratio:.3f}"
            if key == "accuracy"
            else f"### {title}: tfpt / Trainer = {ratio:.2f}",
            "",
        ]
        lines += [*table(values, unit=unit, digits=digits), ""]
    reached = [
        (
            time_to(ours["evaluations"], max(a for _, a in theirs["evaluations"])),
            max(theirs["evaluations"], key=lambda e: e[1]),
        )
        for ours, theirs in zip(found["tfpt"], found["Trainer"], strict=True)
    ]
    lines += ["### Seconds from the start to the Trainer's best accuracy on dev, by seed", ""]
    lines += [
        f"- {accuracy:.4f}: Trainer {theirs:.0f} s, tfpt " + (f"{ours:.0f} s" if ours else "not reached")
        for ours, (theirs, accuracy) in reached
    ]
    lines += ["", f"Peer: {peer_versions(given)}."]
    write_section("Text: MiniLM against the Transformers Trainer", lines, packages=["tensorflow", "keras"])


def peer_versions(given):
    """Returns the versions of the peer's packages."""
    code = "import torch, transformers; print('torch', torch.__version__ + ', transformers', transformers.__version__)"
    return subprocess.run([given.peer_python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
