"""What whoever gets a model should know of it, as Markdown (Mitchell et al., 2019, Model Cards for Model Reporting)."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt import __version__

if TYPE_CHECKING:
    from tfpt.backbones import Spec
    from tfpt.config import Component
    from tfpt.preprocessors import Preprocessor
    from tfpt.training.setting import Setting

FEW = 10
"""Measured examples of a class under which nothing is known of it."""
_OTHER_INPUTS = "other inputs may be answered worse, and it cannot tell them."
_FOR_ITSELF = "What it was not measured on for itself, such as groups of people, is not known."


def model_card(
    setting: "Setting",
    metrics: Mapping[str, Any],
    *,
    bundle: Path,
    timings: Mapping[str, float],
    machine: Mapping[str, str],
) -> str:
    """Returns the card of a trained model.

    Args:
        setting: the experiment.
        metrics: what metrics.json holds.
        bundle: the version folder.
        timings: part of the run -> seconds.
        machine: what `environment` says.
    """
    experiment = setting.experiment
    split = "test" if "test" in metrics else "validation"
    lines = [f"# {experiment.output.name}", "", f"{experiment.task}, trained with tfpt {__version__}.", ""]
    for name, backbone in setting.backbones.items():
        lines.append(_backbone(name, experiment.backbone[name], backbone.spec()))
    info = setting.source.info()
    counts = ", ".join(f"{count} for {name}" for name, count in metrics["examples"].items())
    lines.append(f"- Data: {experiment.data}{f' ({info.origin})' if info.origin else ''}; examples: {counts}")
    lines.append("- Licence of the data: what you have agreed to for it; tfpt does not know it")
    if "classes" in setting.state:
        lines.append(f"- Classes: {', '.join(setting.state['classes'])}")
    lines.append(_inputs(setting.preprocessors.values()))
    if split in metrics:
        lines += ["", f"## Measured on {split}", "", "| metric | value | 95 % interval |", "|---|---|---|"]
        for name, found in metrics[split].items():
            interval = "" if found["low"] is None else f"{found['low']:.4f} to {found['high']:.4f}"
            lines.append(f"| {name} | {found['value']:.4f} | {interval} |")
        if "threshold" in metrics:
            lines += ["", f"The decision threshold {metrics['threshold']:.4f} is part of the model."]
    lines += ["", "## Limits", "", *(f"- {limit}" for limit in _limits(setting, metrics, split))]
    lines += [*_signatures(bundle), *effort(timings, machine)]
    return "\n".join(lines) + "\n"


def checkpoint_card(
    name: str,
    task: "Component",
    *,
    backbone: "Component",
    spec: "Spec",
    preprocessor: "Preprocessor",
    classes: Sequence[str],
    bundle: Path,
    timings: Mapping[str, float],
    machine: Mapping[str, str],
) -> str:
    """Returns the card of a checkpoint that was fine-tuned elsewhere and is exported as it is.

    Args:
        name: of the model.
        task: what it does.
        backbone: the checkpoint.
        spec: of it.
        preprocessor: of its texts.
        classes: what it answers.
        bundle: the version folder.
        timings: part of the export -> seconds.
        machine: what `environment` says.
    """
    lines = [
        *(
            f"# {name}",
            "",
            f"{task}, exported with tfpt {__version__} from {backbone} as it was fine-tuned elsewhere.",
            "",
        ),
        _backbone("trunk", backbone, spec),
        "- Data: what the checkpoint was fine-tuned on, which its origin may tell; tfpt has seen none of it",
        "- Licence of the data: tfpt does not know it",
        f"- Classes: {', '.join(classes)}",
        _inputs([preprocessor]),
        *("", "## Limits", ""),
        "- It was not measured at all: `tfpt evaluate` does so on your own data.",
        f"- It answers best what is like the data it was fine-tuned on; {_OTHER_INPUTS}",
        f"- {_FOR_ITSELF}",
        *_signatures(bundle),
        *effort(timings, machine),
    ]
    return "\n".join(lines) + "\n"


def effort(timings: Mapping[str, float], machine: Mapping[str, str]) -> list[str]:
    """Returns the lines of the section about what it took.

    Args:
        timings: part of the work -> seconds.
        machine: what `environment` says.
    """
    made = [f"{name} {machine[name]}" for name in ("cpu", "cores", "gpu") if name in machine]
    return [
        *("", "## Effort", ""),
        *(f"- {name}: {_duration(seconds)}" for name, seconds in timings.items()),
        f"- Machine: {', '.join(made)}; its energy was not measured",
    ]


def _signatures(bundle: Path) -> list[str]:
    """Returns the lines of the section about what clients send and get, as saved_model.pb has it."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((bundle / "saved_model.pb").read_bytes())
    definitions = saved.meta_graphs[0].signature_def
    lines = [
        "",
        "## Signatures",
        "",
        "`batch` is the number of examples; `any` differs between requests.",
        "",
        "| name | method | input | output |",
        "|---|---|---|---|",
    ]
    for name in sorted(definitions, key=lambda name: (name != "serving_default", name)):
        if not name.startswith("__"):
            one = definitions[name]
            method = one.method_name.rpartition("/")[2]
            lines.append(f"| `{name}` | {method} | {_tensors(one.inputs)} | {_tensors(one.outputs)} |")
    return lines


def _tensors(named: Mapping[str, Any]) -> str:
    """Returns names, types and shapes of a signature's tensors; sizes that vary are `batch`, the first, and `any`."""
    import tensorflow as tf

    told = []
    for name, tensor in sorted(named.items()):
        shape = tensor.tensor_shape
        sizes = [str(one.size) if one.size >= 0 else "any" if k else "batch" for k, one in enumerate(shape.dim)]
        told.append(
            f"`{name}` {tf.as_dtype(tensor.dtype).name} "
            + ("of any shape" if shape.unknown_rank else f"[{', '.join(sizes)}]")
        )
    return ", ".join(told)


def _backbone(name: str, backbone: "Component", spec: "Spec") -> str:
    return f"- Backbone ({name}): {backbone}; {spec.origin}; licence of the weights: {spec.licence}"


def _limits(setting: "Setting", metrics: Mapping[str, Any], split: str) -> list[str]:
    found = [
        f"Measured on data of the kind it was trained on; {_OTHER_INPUTS}",
        _FOR_ITSELF,
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


def _inputs(preprocessors: "Iterable[Preprocessor]") -> str:
    return f"- Input: {', '.join(map(_input, preprocessors))}"


def _input(preprocessor: Any) -> str:
    from tfpt.preprocessors.image import Image

    if isinstance(preprocessor, Image):
        return f"pictures as JPEG, PNG, WebP, GIF or BMP files, resized to {preprocessor.size} pixels ({preprocessor.resize})"
    return f"{' and '.join(preprocessor.raw_features)}, up to {preprocessor.size} tokens at a time"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
