"""Starts `tfpt train` again and again without importing TensorFlow each time, and kills it at moments that it is told.

It imports once and forks a child a job, before TensorFlow has started anything. A job is one line of JSON on standard
input, its outcome one line on standard output:

    {"argv": [...], "log": FILE, "kill": {"event": 7, "after": 0.01, "signal": 9}, "largest_file": BYTES}
    {"code": 0, "signal": 0, "others": [], "events": ["stage", "save", "sync", ...], "seconds": 1.9}

`others` in a job holds the arguments of further workers, which run at the same time; in its outcome, their exit codes.

`event` counts what the child passes (see EVENTS). With `after` 0 the child is stopped just there; else the parent sends the
signal so many seconds later, wherever the child is by then. `event` -1 counts from the start of the child.
"""

import json
import os
import resource
import signal
import sys
import time

EVENTS = {
    "t": "stage",
    "r": "row",
    "e": "evaluation",
    "b": "batch",
    "w": "write",
    "s": "save",
    "y": "sync",
    "f": "forget",
}
"""A stage begins; a row of history was written; an evaluation begins; a call of updates was made; variables are about to be
written; a checkpoint begins; one of its files is forced to the disk; old checkpoints are forgotten."""


def wrap(owner, name, letter, pipe, stop_at, stop_with):
    """Tells of each call before it is made, and stops the process at the one that is wanted."""
    plain = getattr(owner, name)

    def told(*arguments, **named):
        told_of[0] += 1
        os.write(pipe, letter.encode())
        if told_of[0] == stop_at:
            os.kill(os.getpid(), stop_with)
        return plain(*arguments, **named)

    setattr(owner, name, told)


told_of = [0]


def watch(pipe, stop_at, stop_with):
    import tensorflow as tf

    from tfpt.training import checkpoints, loop, run_folder, stages

    places = [
        (stages, "train_stage", "t"),
        (run_folder.RunFolder, "add_row", "r"),
        (loop, "_evaluate", "e"),
        (loop, "_advance", "b"),
        (tf.train.Checkpoint, "write", "w"),
        (checkpoints.Checkpoints, "save", "s"),
        (checkpoints, "_sync", "y"),
        (checkpoints.Checkpoints, "forget_after", "f"),
    ]
    for owner, name, letter in places:
        wrap(owner, name, letter, pipe, stop_at, stop_with)


def child(job, pipe):
    with open(job["log"], "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    kill = job.get("kill") or {}
    watch(pipe, kill["event"] + 1 if kill and not kill["after"] else 0, kill.get("signal", signal.SIGKILL))
    if job.get("largest_file"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"],) * 2)
    from tfpt import train

    try:
        train.main(job["argv"])
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code or 0)


def fork(job, pipe):
    process = os.fork()
    if not process:
        try:
            child(job, pipe)
        finally:
            os._exit(99)
    return process


def run(job):
    """Runs one job and returns its outcome."""
    source, sink = os.pipe()
    started = time.monotonic()
    others = []
    for k, argv in enumerate(job.get("others", ())):
        others.append(fork({"argv": argv, "log": f"{job['log']}.{k + 1}"}, os.open(os.devnull, os.O_WRONLY)))
    process = fork(job, sink)
    os.close(sink)
    kill, events = job.get("kill"), ""
    waiting = bool(kill and kill["after"])
    while True:
        if waiting and len(events) > kill["event"]:
            time.sleep(kill["after"])
            os.kill(process, kill.get("signal", signal.SIGKILL))
            waiting = False
        new = os.read(source, 1)
        if not new:
            break
        events += new.decode()
    os.close(source)
    _, status, used = os.wait4(process, 0)
    ended = os.WIFEXITED(status)
    return {
        "code": os.WEXITSTATUS(status) if ended else None,
        "others": [os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) for other in others],
        "signal": 0 if ended else os.WTERMSIG(status),
        "events": [EVENTS[letter] for letter in events],
        "seconds": time.monotonic() - started,
        "cpu": used.ru_utime + used.ru_stime,
    }


def main():
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    import tfpt.evaluation.report
    import tfpt.publish
    import tfpt.run
    import tfpt.serving.bundle
    import tfpt.training.fit  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
