"""Writes a TF Serving version folder: signatures, labels, the reusable trunk, and how it was made."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfpt.errors import UserError
from tfpt.layers.trunk import Trunk
from tfpt.serving.servable import DESCRIPTION, EXTRA, Answer, Servable, is_version, named
from tfpt.serving.warmup import write_warmup
from tfpt.startup import quiet_import


def save(servable: Servable, folder: Path, *, model_name: str) -> None:
    """Writes the SavedModel, labels and the reusable trunk into a folder.

    Signatures: `serving_default` (raw values -> answer), `pixels` (decoded pictures -> answer), `embedding` (raw values
    -> the trunk's pooled output) and `outputs` (the task's inputs -> model outputs).
    """
    model = servable.model
    assert model is not None, "only a servable that was built here can be saved"
    task = servable.task
    answer = Answer(task, servable.state, servable.preprocessors, lambda inputs: task.predict(model, inputs))
    raw = [tf.TensorSpec([None], tf.string, name=feature) for feature in answer.features()]
    archive = keras.export.ExportArchive()
    archive.track(model)
    for resource in (r for p in servable.preprocessors.values() for r in p.resources):
        archive.track(resource)
    archive.add_endpoint("serving_default", _positional(answer.of_raw, answer.features()), raw)
    if answer.takes_pixels():
        archive.add_endpoint(
            "pixels", answer.of_pixels, [tf.TensorSpec([None, None, None, 3], tf.float32, name="image")]
        )
    archive.add_endpoint("embedding", _positional(_embedding(servable, answer), answer.features()), raw)
    names, specs = _input_specs(model)
    archive.add_endpoint(
        "outputs",
        _positional(lambda **i: named(task.predict(model, i["inputs"] if names == ["inputs"] else i)), names),
        specs,
    )
    with quiet_import():
        archive.write_out(str(folder), verbose=False)
    extra = folder / EXTRA
    extra.mkdir()
    (extra / DESCRIPTION).write_text(json.dumps(servable.describe(), indent=1, ensure_ascii=False), encoding="utf-8")
    if "classes" in servable.state:
        (extra / "labels.txt").write_text("".join(f"{name}\n" for name in servable.state["classes"]), encoding="utf-8")
    samples = {name: p.sample() for p in servable.preprocessors.values() for name in p.raw_features}
    write_warmup(extra, samples, model=model_name)
    several = len(servable.trunks) > 1
    for name, trunk in servable.trunks.items():
        save_trunk(trunk, extra / (f"trunk-{name}" if several else "trunk"))


def save_trunk(trunk: Trunk, folder: Path) -> None:
    """Writes a trunk as TF2 reusable SavedModel: host outputs -> endpoints; every variable can be trained again.

    The interface asks for lists of variables as attributes; properties of a tf.Module would not be saved.
    """
    before = {id(layer): layer.trainable for layer in trunk._flatten_layers()}
    for layer in trunk._flatten_layers():  # so that the traced graph has the training branch of batch normalisation
        layer.trainable = True
    try:
        module = tf.__internal__.tracking.AutoTrackable()
        spec = tf.TensorSpec([None, *trunk.shape_in], trunk.dtype_in, name="inputs")

        @tf.function
        def call(inputs: Any, training: bool = False) -> dict[str, Any]:
            return trunk(inputs, training=training)

        call.get_concrete_function(spec, training=False)
        call.get_concrete_function(spec, training=True)
        module.__call__ = call
        module.variables = [v.value for v in trunk.variables]
        module.trainable_variables = [v.value for v in trunk.trainable_variables]
        module.variables_by_name = {v.path: v.value for v in trunk.variables}
        module.regularization_losses = []
        with quiet_import():
            tf.saved_model.save(module, str(folder))
    finally:
        for layer in trunk._flatten_layers():
            layer.trainable = before[id(layer)]


def _embedding(servable: Servable, answer: Answer) -> Callable[..., dict[str, Any]]:
    trunks = servable.trunks

    def embedding(**raw: Any) -> dict[str, Any]:
        inputs = answer.inputs_of_raw(**raw)
        of_trunks = servable.task.trunk_inputs(inputs, list(trunks))
        made = {name: servable.task.embedding(trunk(of_trunks[name])) for name, trunk in trunks.items()}
        return made if len(made) > 1 else {"embedding": made.popitem()[1]}

    return embedding


def _positional(function: Callable[..., Any], names: list[str]) -> Callable[..., Any]:
    """Returns the function with its keyword arguments made positional, as an input signature wants them."""
    return lambda *values: function(**dict(zip(names, values, strict=True)))


def _input_specs(model: keras.Model) -> tuple[list[str], list[tf.TensorSpec]]:
    inputs = model.input
    by_name = inputs if isinstance(inputs, dict) else {"inputs": inputs}
    return list(by_name), [tf.TensorSpec([None, *t.shape[1:]], t.dtype, name=name) for name, t in by_name.items()]


@contextlib.contextmanager
def publishing(model_dir: Path, version: str) -> Iterator[tuple[Path, Path]]:
    """Yields a temporary folder and the version folder that it becomes, by a rename, when the block ends well.

    Args:
        model_dir: `saved_models/NAME`.
        version: `next` or a number.

    Raises:
        UserError: the folder cannot be written, or the version exists.
    """
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
        final = _version_folder(model_dir, version)
        for stale in model_dir.glob(".partial-*"):
            if not _is_alive(int(stale.name.rpartition("-")[2])):
                shutil.rmtree(stale, ignore_errors=True)
        partial = model_dir / f".partial-{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    except OSError as error:
        raise UserError(
            f"--output.model_dir={model_dir} cannot be written ({error.strerror}); choose a folder that is yours."
        ) from error
    try:
        yield partial, final
        try:
            partial.rename(final)
        except OSError as error:
            raise UserError(
                f"--export.version={version}: another process has just published {final}; export again."
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _version_folder(model_dir: Path, version: str) -> Path:
    taken = [int(f.name) for f in model_dir.iterdir() if is_version(f.name)]
    final = model_dir / (str(max(taken, default=0) + 1) if version == "next" else version)
    if final.exists():
        raise UserError(f"--export.version={version}: {final} exists; write next or another number.")
    return final


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
