"""`--dry_run`: one example through every station, with what it looks like there; nothing is trained or written."""

from collections.abc import Mapping
from typing import Any

from tfpt import startup
from tfpt.config import Experiment
from tfpt.console import Console
from tfpt.weights.fetch import fetch


def walk(experiment: Experiment, console: Console, *, offline: bool = False) -> None:
    """Says shapes, dtypes and value ranges of one training example at every station of training and serving."""
    startup.start_tensorflow(experiment.runtime.threads)
    import tensorflow as tf

    from tfpt.evaluation.gate import parse_requirements
    from tfpt.preprocessors import distinct
    from tfpt.serving.servable import Servable
    from tfpt.training.assembly import assemble
    from tfpt.training.pipeline import Augmentation, training_batches
    from tfpt.training.setting import set_up

    setting = set_up(experiment, console=console, offline=offline)
    parse_requirements(experiment.export.require, setting.task.metric_names_of(setting.state))
    for backbone in setting.backbones.values():
        for name in backbone.weight_files():
            fetch(name, offline=offline, console=console)
    first = int(setting.splits.train[0])
    task, state, seed = setting.task, setting.state, experiment.train.seed
    raw = setting.source.example(tf.constant(first, tf.int64))
    rows = [("raw example", *row) for row in _rows(raw)]
    for preprocessor in distinct(setting.preprocessors):
        value, frame = preprocessor.host(*(raw[name] for name in preprocessor.raw_features))
        rows += [("host", *row) for row in _rows({preprocessor.feature: value, "frame": frame})]
    plan = [(0, setting.splits.train[:1])]
    augmentation = Augmentation(ops=setting.ops, views=experiment.input.views, seed=seed)
    batches = training_batches(
        setting.prepared, lambda: iter(plan), width=1, task=task, state=state, augmentation=augmentation
    )
    batch = next(iter(batches))
    rows += [
        ("training batch", *row) for row in _rows({k: batch[k] for k in ("inputs", "targets", "weight") if k in batch})
    ]
    assembly = assemble(task, state, setting.backbones, setting.preprocessors, precision="float32", seed=seed)
    if setting.head:
        setting.head.load(assembly.model)
    for name, trunk in assembly.trunks.items():
        shape, _ = setting.preprocessors[name].host_spec()
        inputs = task.trunk_inputs(batch["inputs"], list(assembly.trunks))[name]
        if inputs.shape[1:] == tuple(shape):
            low, high = setting.backbones[name].spec().value_range
            rows += [(f"device (wants {low:g} to {high:g})", *row) for row in _rows({name: trunk.device(inputs)})]
            rows += [("backbone", *row) for row in _rows(trunk(inputs))]
    loss_sum, weight_sum, outputs = task.loss(assembly.model, batch, False)
    rows += [("model", *row) for row in _rows({"outputs": outputs, "loss": loss_sum / tf.maximum(weight_sum, 1e-12)})]
    servable = Servable.of(
        task=task, state=state, model=assembly.model, trunks=assembly.trunks, preprocessors=setting.preprocessors
    )
    served = {name: raw[name][tf.newaxis] for p in setting.preprocessors.values() for name in p.raw_features}
    rows += [("served answer", *row) for row in _rows(servable.answer(**served))]
    console.say(f"{setting.index.names[first]}:")
    console.table(["station", "value", "shape", "dtype", "smallest", "largest"], rows)
    trained = sum(int(v.value.shape.num_elements() or 0) for v in assembly.model.variables)
    console.say(f"{trained:,} numbers in the model. Nothing was trained or written.")


def _rows(values: Any, name: str = "") -> list[tuple[str, str, str, str, str]]:
    if isinstance(values, Mapping):
        return [row for key, value in values.items() for row in _rows(value, f"{name}.{key}" if name else str(key))]
    if isinstance(values, list | tuple):
        return [row for i, value in enumerate(values) for row in _rows(value, f"{name}[{i}]")]
    array = values.numpy()
    shape = "x".join(map(str, values.shape)) or "one"
    if not values.shape.num_elements():
        return [(name, shape, values.dtype.name, "", "")]
    if values.dtype.name == "string":
        lengths = [len(v) for v in (array.reshape(-1) if values.shape.rank else [array])]
        return [(name, shape, "bytes", f"{min(lengths)} long", f"{max(lengths)} long")]
    return [(name, shape, values.dtype.name, f"{array.min():.4g}", f"{array.max():.4g}")]
