"""What a run leaves on disk, and what it means to start again in the same folder."""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfpt import flagfile, record
from tfpt.atomic import atomic_text
from tfpt.config import Experiment, Output
from tfpt.errors import UserError
from tfpt.training import strategies
from tfpt.training.loop import Progress
from tfpt.training.remote import LOCK_FILE, STATUS_FILE, Remote, exists, url_of
from tfpt.training.tracking import Tracking

_FREE = re.compile(
    r"input\.feature_cache|output\.(if_exists|name|run_dir|model_dir|report_examples|trackers)|export\..*|runtime\..*|train\.(checkpoint_\w+|keep_checkpoints|seeds)"
)
"""Flags that may differ when a run goes on: they do not change what is learned."""
_CHANGEABLE = re.compile(
    r"input\.augment|optim\.(learning_rate|head_learning_rate|weight_decay|schedule|step_at|step_factor|warmup|momentum|clip_norm)|"
    r"train\.(evaluate_every|patience|recoveries|spike)"
)
"""Flags that may differ when `--output.if_exists=resume_changed` says so: the state of training means the same under them."""
_DONE_BEFORE = {"input.intensity": "full"}
"""What was done before there was a flag, where that is not the flag's default."""


class RunFolder:
    """The folder of one run.

    Args:
        path: made when the run starts; of one on an object store, such as gs://, `path` is then the copy that is worked in.
    """

    writes = True
    """Whether this process is the one that writes."""

    def __init__(self, path: Path) -> None:
        url = url_of(path)
        self.remote = Remote(url, worker=strategies.current().worker) if url else None
        self.path = self.remote.copy if self.remote else path
        self.tracking: Tracking | None = None
        self._progress: Progress | None = None
        if self.remote:
            self.remote.pull()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder and keeps other processes out of it while the block runs.

        Raises:
            UserError: it cannot be written, or another process is training in it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / LOCK_FILE).open("a")
        except OSError as error:
            raise UserError(
                f"--output.run_dir={self.path} cannot be written ({error.strerror}); choose a folder that is yours."
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"--output.run_dir={self.path}: another process is training in it; wait for it, or choose another --output.name."
                ) from error
            except OSError:  # a file system without locks: go on without
                pass
            yield

    def status(self) -> dict[str, Any] | None:
        """Returns what status.json says; None when there was no run."""
        return self.read_json(STATUS_FILE)

    def is_finished(self) -> bool:
        """Tells whether the run in this folder came to its end."""
        status = self.status()
        return status is not None and status["state"] == "finished"

    def check_same(self, experiment: Experiment) -> list[str]:
        """Refuses to go on with another experiment than the one that began here.

        Returns:
            The flags that differ and may: `--output.if_exists=resume_changed` says so.

        Raises:
            UserError: the flags that differ, by name; or the runs of several seeds or folds are to be kept on an object store.
        """
        all_folds = experiment.input.folds and experiment.input.fold == "all"
        if self.remote and (experiment.train.seeds or all_folds):
            several = "--input.fold=all" if all_folds else "--train.seeds"
            raise UserError(f"{several}: their runs need a local folder, not --output.run_dir={self.remote.url}.")
        file = self.path / "experiment.flags"
        if not file.is_file():
            return []
        before = {name: given.value for name, given in flagfile.read(file).items()}
        different = [  # a flag that a later tfpt has added had its default then, or see `as_begun`
            flag
            for flag, value, changed in record.changed_rows(experiment)
            if not _FREE.fullmatch(flag)
            and (before[flag] != value if flag in before else changed and value != _DONE_BEFORE.get(flag))
        ]
        wanted = experiment.output.if_exists == "resume_changed" and not self.is_finished()
        refused = [flag for flag in different if not (wanted and _CHANGEABLE.fullmatch(flag))]
        if refused:
            possible = not wanted and not self.is_finished() and all(map(_CHANGEABLE.fullmatch, refused))
            raise UserError(
                f"--output.run_dir={self.path} holds a run with other settings ({', '.join(refused[:8])}"
                f"{' and more' if len(refused) > 8 else ''}); choose another --output.name, or --output.if_exists=new"
                f"{', or resume_changed to go on with them' if possible else ''}."
            )
        return different

    def as_begun(self, experiment: Experiment) -> Experiment:
        """Returns the experiment as it is gone on with: a run that an earlier tfpt has begun without a flag does what was done
        then, where the flag is at its default now."""
        for flag, value in self._done_before().items():
            group, name = flag.split(".")
            settings = getattr(experiment, group)
            if getattr(settings, name) == type(settings).__dataclass_fields__[name].default:
                changed = dataclasses.replace(settings, **{name: value})
                experiment = dataclasses.replace(experiment, **{group: changed})
        return experiment

    def _done_before(self) -> dict[str, str]:
        file = self.path / "experiment.flags"
        known = flagfile.read(file) if file.is_file() else _DONE_BEFORE
        return {flag: value for flag, value in _DONE_BEFORE.items() if flag not in known}

    def write_experiment(self, experiment: Experiment) -> None:
        """Writes experiment.flags; that of an earlier tfpt stays as it is where it matters which flags it knew."""
        if not self._done_before():
            record.write_flagfile(experiment, self.path / "experiment.flags")

    def read_json(self, name: str) -> Any:
        """Returns the values of a JSON file; None when it is not there or damaged."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8", errors="surrogateescape"))
        except (OSError, ValueError):
            return None

    def write_json(self, name: str, values: Any) -> None:
        """Writes a JSON file, whole or not at all."""
        with atomic_text(self.path / name, errors="surrogateescape") as file:
            json.dump(values, file, indent=1, ensure_ascii=False)
            file.write("\n")

    def write_status(self, state: str, progress: Progress | None = None, **more: Any) -> None:
        """Writes status.json: `running`, `interrupted`, `failed` or `finished`, and how far it is."""
        self._progress = progress = progress or self._progress
        far = {"stage": progress.stage, "step": progress.step, "total_steps": progress.total_steps} if progress else {}
        moment = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self.write_json(STATUS_FILE, {"state": state, "time": moment, "process": os.getpid(), **far, **more})
        if self.remote and self.writes:
            self.remote.push(now=state != "running")

    def begin_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes metrics.jsonl anew with the rows that a checkpoint knows, so that nothing stands in it twice."""
        with atomic_text(self.path / "metrics.jsonl") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        if self.tracking:
            self.tracking.start(rows)

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Appends a row to metrics.jsonl and tells the trackers."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if self.tracking:
            self.tracking.add(row)

    def history(self) -> list[dict[str, Any]]:
        """Returns the rows of metrics.jsonl."""
        file = self.path / "metrics.jsonl"
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []

    def close(self) -> None:
        """Tells the trackers how the run ended."""
        if self.tracking:
            state = (self.status() or {}).get("state", "failed")
            results = self.read_json("metrics.json") if state == "finished" else None
            self.tracking.finish(state, results or {}, self.history())
            self.tracking = None
        if self.remote and self.writes:
            self.remote.push()


def free_name(experiment: Experiment) -> Experiment:
    """Returns the experiment with the first of NAME, NAME-2, NAME-3, ... whose run folder does not exist.

    Of several processes all take the one that the first finds: it may have made the folder before the others look.
    """
    output = experiment.output
    number = 1
    while exists(_numbered(output, number).run_dir):
        number += 1
    number = int(strategies.current().of_chief({"number": number})["number"])
    return dataclasses.replace(experiment, output=_numbered(output, number))


def _numbered(output: Output, number: int) -> Output:
    if number == 1:
        return output
    name, run_dir, model_dir = (f"{given}-{number}" for given in (output.name, output.run_dir, output.model_dir))
    return dataclasses.replace(output, name=name, run_dir=run_dir, model_dir=model_dir)
