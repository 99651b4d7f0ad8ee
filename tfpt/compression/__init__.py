"""Ways to make a trained model smaller or faster, one file each. This file holds the signature."""

import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tfpt import formats
from tfpt.config import Experiment, check, setting
from tfpt.errors import UserError

if TYPE_CHECKING:
    from tfpt.compression._subject import Subject
    from tfpt.console import Console
    from tfpt.serving.servable import Servable
    from tfpt.training.setting import Setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the group `compress`."""

    max_drop: float = setting(
        0.01, "Publish only if the primary metric is at most this much worse than before, else exit with code 3."
    )
    output: str = setting("", "Folder for the result, with a folder for each version; default: compressed/MODEL-WAY.")
    calibration_examples: int = setting(
        200, "quantize:int8: so many examples of the training split show which range each tensor has."
    )
    latency_seconds: float = setting(2.0, "How long each batch size is timed, with each number of threads.")
    epochs: int = setting(0, "prune and distill: epochs after the head's; 0: 5 for prune, the model's own for distill.")
    learning_rate: float = setting(
        0.0, "prune and distill: highest learning rate; 0: a fifth of the model's own for prune, its own for distill."
    )
    prune_until: float = setting(0.7, "prune: the share of training after which no more weights are removed.")
    student: str = setting(
        "tiny:conv", "distill: the backbone that learns from the model, such as efficientnet_lite:lite0."
    )
    image_size: int = setting(
        0,
        "distill: side in pixels of what the student sees; 0: what the model's --input.image_size says (auto: the student's own size).",
    )
    temperature: float = setting(2.0, "distill: what logits are divided by before they become soft targets.")
    standardize: bool = setting(
        True,
        "distill: with three classes or more, compare logits in standard deviations from their mean: the student need not make them as large as the model does.",
    )
    soft_weight: float = setting(0.7, "distill: share of the soft targets in the loss; the rest are the labels.")
    feature_weight: float = setting(
        0.0,
        "distill: weight of the cosine distance between the model's pooled features and a linear map of the student's, beside the loss; 0: none.",
    )

    def __post_init__(self) -> None:
        check(self.max_drop >= 0, f"max_drop: {self.max_drop} is negative")
        check(self.calibration_examples >= 1, f"calibration_examples: {self.calibration_examples} is not at least 1")
        check(self.latency_seconds > 0, f"latency_seconds: {self.latency_seconds} is not positive")
        check(self.epochs >= 0, f"epochs: {self.epochs} is negative")
        check(self.learning_rate >= 0, f"learning_rate: {self.learning_rate} is negative")
        check(0 < self.prune_until <= 1, f"prune_until: {self.prune_until} is not above 0 and at most 1")
        check(self.image_size >= 0, f"image_size: {self.image_size} is negative")
        check(self.temperature > 0, f"temperature: {self.temperature} is not positive")
        check(0 <= self.soft_weight <= 1, f"soft_weight: {self.soft_weight} is not between 0 and 1")
        check(self.feature_weight >= 0, f"feature_weight: {self.feature_weight} is negative")


class Compression:
    """Makes a model smaller or faster.

    It either writes a file (`write`) or trains another model (`experiment` and `adapt`), which becomes a bundle.

    Args:
        argument: what stood behind the colon.
        options: of the program.
    """

    trains: ClassVar[bool] = False
    """Whether another model is trained."""
    format: ClassVar[str] = ""
    """The format of the file that `write` makes."""
    tolerance: float | None = None
    """The largest difference of an output of that file from the SavedModel's, beyond 1 as a share of it; None: only the metric
    is asked."""
    packages: ClassVar[Sequence[str]] = ()
    """Modules that it takes beside those of its format."""

    def __init__(self, argument: str = "", options: Options | None = None) -> None:
        self.argument = argument
        self.options = options or Options()

    def write(self, subject: "Subject", file: Path, *, console: "Console") -> None:
        """Writes the smaller model.

        Args:
            subject: the model, with its data.
            file: where to.
            console: talks to the user.
        """
        raise NotImplementedError

    def experiment(self, subject: "Subject") -> Experiment:
        """Returns the settings of the run that makes the other model; its name and folders are filled in later."""
        raise NotImplementedError

    def adapt(self, setting: "Setting", subject: "Subject", *, console: "Console") -> "Setting":
        """Returns what is trained: with a task around the task, for one, whose name stays out of the result."""
        raise NotImplementedError

    def details(self, smaller: "Servable") -> dict[str, Any]:
        """Returns what the results hold of the smaller model besides."""
        return {}

    def check_installed(self) -> None:
        """Raises UserError where a package is missing."""
        if self.format:
            formats.check_installed((self.format,))
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise self.refuse(f"it needs {package}: pip install 'tfpt[edge]'.")

    def refuse(self, sentence: str) -> UserError:
        """Returns the error about the argument."""
        name = type(self).__module__.rpartition(".")[2]
        return UserError(f"--compress={name}{f':{self.argument}' if self.argument else ''}: {sentence}")
