"""A task of which a compression changes a method or two, in training; what is published afterwards is the task itself."""

import copy
from collections.abc import Callable
from typing import Any

from tfpt.tasks import Task


def with_methods(task: Task, **methods: Callable[..., Any]) -> Task:
    """Returns a copy of a task that has these methods instead of its own; they get no `self`."""
    changed = copy.copy(task)
    vars(changed).update(methods)
    return changed
