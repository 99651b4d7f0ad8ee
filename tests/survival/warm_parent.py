"""Starts `tfpt train` again and again without importing TensorFlow each time, and kills it at moments that it is told.

It imports once and forks a child a job, before TensorFlow has started anything. A job is one line of JSON on standard
input, its outcome one line on standard output:

    {"argv": [...], "log": FILE, "kill": {"event": 7, "after": 0.01, "signal": 9}, "disk": BYTES}
    {"code": 0, "signal": 0, "others": [], "events": ["stage", "save", "sync", ...], "seconds": 1.9, "cpu": 2.2}

`others` in a job holds the arguments of further workers, which run at the same time; in its outcome, their exit codes.
`call` names another function than `tfpt.train:main`, as `module:function`.

`event` counts what the child passes (see EVENTS); with `of`, only events of that name. With `after` 0 the child is stopped
just there; else the parent sends the signal so many seconds later, wherever the child is by then. `event` -1 counts from the
start of the child.

The folder that is its argument becomes a small disk, of as many bytes as the last job said, where the system lets it mount
one; others see it below /proc/PID/root. Where it does not, `disk` bounds the size of each file that the job writes.
"""

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback

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


def wrap(owner, name, letter, pipe, kill):
    """Tells of each call before it is made, and stops the process at the one that is wanted."""
    plain = getattr(owner, name)

    def told(*arguments, **named):
        os.write(pipe, letter.encode())
        if kill and not kill["after"] and kill.get("of", EVENTS[letter]) == EVENTS[letter]:
            if passed[0] == kill["event"]:
                os.kill(os.getpid(), kill.get("signal", signal.SIGKILL))
            passed[0] += 1
        return plain(*arguments, **named)

    setattr(owner, name, told)


passed = [0]
"""Events so far, of those that count."""


def watch(pipe, kill):
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
        wrap(owner, name, letter, pipe, kill)


def child(job, pipe):
    with open(job["log"], "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    watch(pipe, job.get("kill"))
    if job.get("disk") and not has_disk[0]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["disk"],) * 2)
    module, _, function = job.get("call", "tfpt.train:main").partition(":")
    try:
        getattr(importlib.import_module(module), function)(job["argv"])
        raise SystemExit(0)
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(99)
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
    if job.get("disk") and has_disk[0]:
        mount(sys.argv[1], job["disk"], flags=MS_REMOUNT)
    others = []
    for k, argv in enumerate(job.get("others", ())):
        other = {"call": job.get("call", "tfpt.train:main"), "argv": argv, "log": f"{job['log']}.{k + 1}"}
        others.append(fork(other, os.open(os.devnull, os.O_WRONLY)))
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


has_disk = [False]
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUSER, MS_REMOUNT, MS_REC, MS_PRIVATE = 0x20000, 0x10000000, 32, 16384, 1 << 18


def mount(folder, size, *, flags=0):
    """Makes a folder a file system in memory of so many bytes; tells whether the system let us."""
    return LIBC.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, f"size={size}".encode()) == 0


def own_disk(folder):
    """Gives this process and its children a small disk; before there are threads, which could not come along."""
    user, group = os.getuid(), os.getgid()
    if LIBC.unshare(CLONE_NEWNS):
        if LIBC.unshare(CLONE_NEWNS | CLONE_NEWUSER):
            return False
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    return LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) == 0 and mount(folder, 2**26)


def main():
    has_disk[0] = own_disk(sys.argv[1])
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    import tfpt.evaluation.report
    import tfpt.publish
    import tfpt.run
    import tfpt.serving.bundle
    import tfpt.training.fit  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    print(json.dumps({"disk": has_disk[0]}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
