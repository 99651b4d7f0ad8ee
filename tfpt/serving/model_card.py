"""What whoever gets a model should know of it, as Markdown (Mitchell et al., 2019, Model Cards for Model Reporting)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfpt import __version__

if TYPE_CHECKING:
    from tfpt.training.setting import Setting

FEW = 10
"""Measured examples of a class under which nothing is known of it."""


def model_card(
    setting: "Setting", metrics: Mapping[str, Any], *, timings: Mapping[str, float], machine: Mapping[str, str]
) -> str:
    """Returns the card.

    Args:
        setting: the experiment.
        metrics: what metrics.json holds.
        timings: part of the run -> seconds.
        machine: what `environment` says.
    """
    experiment = setting.experiment
    split = "test" if "test" in metrics else "validation"
    lines = [f"# {experiment.output.name}", "", f"{experiment.task}, trained with tfpt {__version__}.", ""]
    for name, backbone in setting.backbones.items():
        spec = backbone.spec()
        lines.append(
            f"- Backbone ({name}): {experiment.backbone[name]}; {spec.origin}; licence of the weights: {spec.licence}"
        )
    info = setting.source.info()
    counts = ", ".join(f"{count} for {name}" for name, count in metrics["examples"].items())
    lines.append(f"- Data: {experiment.data}{f' ({info.origin})' if info.origin else ''}; examples: {counts}")
    lines.append("- Licence of the data: what you have agreed to for it; tfpt does not know it")
    if "classes" in setting.state:
        lines.append(f"- Classes: {', '.join(setting.state['classes'])}")
    lines.append(f"- Input: {', '.join(_input(p) for p in setting.preprocessors.values())}")
    if split in metrics:
        lines += ["", f"## Measured on {split}", "", "| metric | value | 95 % interval |", "|---|---|---|"]
        for name, found in metrics[split].items():
            interval = "" if found["low"] is None else f"{found['low']:.4f} to {found['high']:.4f}"
            lines.append(f"| {name} | {found['value']:.4f} | {interval} |")
        if "threshold" in metrics:
            lines += ["", f"The decision threshold {metrics['threshold']:.4f} is part of the model."]
    lines += ["", "## Limits", "", *(f"- {limit}" for limit in _limits(setting, metrics, split))]
    lines += ["", "## Effort", ""]
    lines += [f"- {name}: {_duration(seconds)}" for name, seconds in timings.items()]
    made = [f"{name} {machine[name]}" for name in ("cpu", "cores", "gpu") if name in machine]
    lines.append(f"- Machine: {', '.join(made)}; its energy was not measured")
    return "\n".join(lines) + "\n"


def _limits(setting: "Setting", metrics: Mapping[str, Any], split: str) -> list[str]:
    found = [
        "Measured on data of the kind it was trained on; other inputs may be answered worse, and it cannot tell them.",
        "What it was not measured on for itself, such as groups of people, is not known.",
    ]
    examples = metrics["examples"].get(split, 0)
    if split not in metrics:
        found.append("It was not measured at all: there was neither a validation nor a test split.")
    elif split == "validation":
        found.append("There was no test split: it was chosen on what it was measured on, so the numbers are too good.")
    labels, part = setting.index.labels, getattr(setting.splits, split)
    if "classes" in setting.state and labels is not None and labels.ndim == 1 and examples:
        counts = {name: int((labels[part] == k).sum()) for k, name in enumerate(setting.state["classes"])}
        few = [f"{name} ({count})" for name, count in counts.items() if count < FEW]
        if few:
            found.append(f"Classes with fewer than {FEW} {split} examples, of which little is known: {', '.join(few)}.")
    if metrics["failed"]:
        found.append(f"{len(metrics['failed'])} examples could not be decoded and were left out.")
    return found


def _input(preprocessor: Any) -> str:
    from tfpt.preprocessors.image import Image

    if isinstance(preprocessor, Image):
        return f"pictures as JPEG, PNG, WebP, GIF or BMP files, resized to {preprocessor.size} pixels ({preprocessor.resize})"
    return f"{' and '.join(preprocessor.raw_features)}, up to {preprocessor.size} tokens at a time"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
