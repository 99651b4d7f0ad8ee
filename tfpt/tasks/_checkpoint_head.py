"""The setting of tasks that can go on with the head of a fine-tuned checkpoint."""

from typing import Any

from tfpt.config import setting


def head_setting() -> Any:
    """Returns the field `head` of a task's Config."""
    return setting(
        "new",
        "new: a head of its own, which starts at zero. checkpoint: the head and the classes that the backbone's checkpoint was "
        "fine-tuned with (hf:).",
        choices=("new", "checkpoint"),
    )
