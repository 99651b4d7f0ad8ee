"""Where tfpt keeps what it may make again: weights, digests, caches."""

import os
from pathlib import Path


def home() -> Path:
    """Returns the folder of every cache: the environment variable TFPT_HOME, or ~/.cache/tfpt. It may not exist yet."""
    return Path(os.environ.get("TFPT_HOME") or "~/.cache/tfpt").expanduser().absolute()
