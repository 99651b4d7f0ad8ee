"""Figures as files of their own: each as SVG, and its numbers as CSV."""

import csv
import re
from collections.abc import Iterable
from pathlib import Path

from tfpt.atomic import atomic_text
from tfpt.errors import UserError
from tfpt.evaluation.figures import Figure


def write(figures: Iterable[Figure], folder: Path) -> None:
    """Writes NAME.svg and NAME.csv of each figure, whole or not at all; the folder is made where it is not there.

    Raises:
        UserError: it cannot be written.
    """
    for figure in figures:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}); choose a folder that is yours.") from error
        name = re.sub(r"[^\w.-]", "_", figure.name)  # a task from outside tfpt may call a metric a/b
        with atomic_text(folder / f"{name}.svg") as file:
            # Readers of pictures may show them on black.
            file.write(figure.svg.replace("<svg ", '<svg style="background:#fff" ', 1) + "\n")
        with atomic_text(folder / f"{name}.csv", errors="surrogateescape") as file:
            writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
            writer.writerow(figure.header)
            writer.writerows(figure.rows)
