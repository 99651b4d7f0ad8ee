"""The settings of tasks that answer classes."""

import dataclasses
from typing import Literal

from tfpt.config import check, setting
from tfpt.tasks._labelled import HeadConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassesConfig(HeadConfig):
    """Flags of the group `task` about classes."""

    labels: str = setting(
        "auto",
        "What labels are. single: one class an example; multi: any number of classes; auto: what the data has.",
        choices=("auto", "single", "multi"),
    )
    loss: str = setting(
        "auto",
        "What training makes small. cross_entropy (auto), or focal: examples that are already answered well count less.",
        choices=("auto", "cross_entropy", "focal"),
    )
    focal_gamma: float = setting(2.0, "How much less they count with --task.loss=focal; 0 is cross-entropy.")
    label_smoothing: float = setting(
        0.0, "Share of the target that is spread over all classes, or over yes and no where there may be several."
    )
    class_weights: str = setting(
        "none",
        "balanced: all classes weigh alike in the loss, however few examples they have.",
        choices=("none", "balanced"),
    )
    threshold: float | Literal["auto", "f1"] = setting(
        "auto",
        "Score from which on a class is answered: a number, or f1: chosen on validation for the best F1. auto: f1 for each of several "
        "classes an example; with one class an example the highest score. With two classes it is about the second one.",
    )
    temperature: str = setting(
        "off",
        "auto: divide logits by the one number that fits validation best, chosen after training, so that scores are as high as answers are "
        "often right; for one class an example.",
        choices=("off", "auto"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.label_smoothing < 1, f"label_smoothing: {self.label_smoothing} is not at least 0 and below 1")
        check(self.focal_gamma >= 0, f"focal_gamma: {self.focal_gamma} is negative")
        if not isinstance(self.threshold, str):
            check(0 < self.threshold < 1, f"threshold: {self.threshold} is not between 0 and 1")
