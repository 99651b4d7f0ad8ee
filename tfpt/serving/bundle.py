"""Writes a TF Serving version folder: signatures, labels, the reusable trunk, and how it was made."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfpt.errors import UserError
from tfpt.layers.trunk import Trunk
from tfpt.preprocessors import distinct
from tfpt.serving import methods, synthetic
from tfpt.serving.servable import (
    DESCRIPTION,
    EXTRA,
    INPUTS,
    Answer,
    Servable,
    host_half,
    host_signature,
    is_version,
    named,
    unnamed,
)
from tfpt.serving.warmup import write_warmup
from tfpt.startup import quiet_import
from tfpt.tasks import Task


def save(
    servable: Servable, folder: Path, *, model_name: str, warmup: Sequence[Mapping[str, bytes]] | None = None
) -> None:
    """Writes the SavedModel, labels, warm-up requests and the reusable trunk into a folder.

    Signatures: `serving_default` (raw values -> answer), `examples` (serialised `tf.Example`s of them -> answer), `pixels`
    (decoded pictures -> answer), `embedding` (raw values -> the trunk's pooled output), `outputs` (the task's inputs ->
    model outputs), for whoever batches what is prepared, `host_image` or `host_text` (raw values -> prepared ones) and, for
    TensorFlow Serving's methods Classify and Regress, `classification` (where classes are answered) or `regression` (one number).

    Args:
        servable: was built here.
        folder: the version folder.
        model_name: that clients use.
        warmup: raw examples by feature for the warm-up requests; none: no requests; None: synthetic ones.
    """
    model = servable.model
    assert model is not None, "only a servable that was built here can be saved"
    names, specs = _input_specs(model)
    # What all signatures call, so that it is traced and stored once.
    hosts = {p.feature: host_half(p) for p in distinct(servable.preprocessors)}
    whole = tf.function(_outputs(servable.task, model, names), input_signature=specs, autograph=False)
    answer = Answer(
        servable.task,
        servable.state,
        servable.preprocessors,
        lambda inputs: unnamed(whole(*([inputs] if names == [INPUTS] else (inputs[name] for name in names)))),
        hosts,
    )
    features = answer.features()
    raw = [tf.TensorSpec([None], tf.string, name=servable.input_name(feature)) for feature in features]
    archive = keras.export.ExportArchive()
    archive.track(model)
    for collection in ("variables", "trainable_variables", "non_trainable_variables"):
        # Of Keras' own wrappers a second copy would be written, beside that of the variables that functions use.
        archive.add_variable_collection(collection, [v.value for v in getattr(model, collection)])
    for resource in (r for p in servable.preprocessors.values() for r in p.resources):
        archive.track(resource)
    archive.add_endpoint("serving_default", _positional(answer.of_raw, features), raw)
    strings = tf.TensorSpec([None], tf.string, name="examples")
    examples = tf.function(_of_examples(servable, answer), input_signature=[strings], autograph=False)
    archive.add_endpoint("examples", _calling(examples), [strings])
    for name, outputs in methods.outputs_for_methods(examples.get_concrete_function().structured_outputs).items():
        strings = tf.TensorSpec([None], tf.string, name=methods.EXAMPLES)
        archive.add_endpoint(name, _renamed(examples, outputs), [strings])
    if answer.takes_pixels():
        archive.add_endpoint(
            "pixels", answer.of_pixels, [tf.TensorSpec([None, None, None, 3], tf.float32, name="image")]
        )
    archive.add_endpoint("embedding", _positional(_embedding(servable, answer), features), raw)
    archive.add_endpoint("outputs", _calling(whole), specs)
    by_name = dict(zip(features, raw, strict=True))
    for preprocessor in distinct(servable.preprocessors):
        specs = [by_name[name] for name in preprocessor.raw_features]
        archive.add_endpoint(host_signature(preprocessor), _calling(hosts[preprocessor.feature]), specs)
    with quiet_import():
        archive.write_out(str(folder), verbose=False)
        methods.name_methods(folder)
    extra = folder / EXTRA
    extra.mkdir()
    (extra / DESCRIPTION).write_text(json.dumps(servable.describe(), indent=1, ensure_ascii=False), encoding="utf-8")
    if "classes" in servable.state:
        (extra / "labels.txt").write_text("".join(f"{name}\n" for name in servable.state["classes"]), encoding="utf-8")
    if warmup is None:
        warmup = [synthetic.samples(servable.preprocessors.values())]
    if warmup:
        write_warmup(extra, [servable.by_input(example) for example in warmup], model=model_name)
    several = len(servable.trunks) > 1
    for name, trunk in servable.trunks.items():
        save_trunk(trunk, extra / (f"trunk-{name}" if several else "trunk"))


def input_names(wanted: Sequence[str], features: Collection[str]) -> dict[str, str]:
    """Returns raw feature -> what clients call it, from `--export.input_name`.

    Raises:
        UserError: it does not fit the model's inputs.
    """
    features = list(features)
    pairs = [(f, n) if n else (features[0], f) for f, _, n in (one.partition("=") for one in wanted)]
    shown, names = ",".join(wanted), dict(pairs)
    alone = len(features) == 1 and len(wanted) == 1
    if set(names) - set(features) or len(names) < len(pairs) or not (alone or all("=" in one for one in wanted)):
        example = "NAME" if len(features) == 1 else ",".join(f"{feature}=NAME" for feature in features)
        raise UserError(
            f"--export.input_name={shown}: the model takes {' and '.join(features)}; write --export.input_name={example}."
        )
    if len({names.get(feature, feature) for feature in features}) < len(features):
        raise UserError(f"--export.input_name={shown}: two inputs would have the same name.")
    return {feature: name for feature, name in names.items() if name != feature}


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


def _of_examples(servable: Servable, answer: Answer) -> Callable[[tf.Tensor], dict[str, Any]]:
    """Returns the answer to serialised `tf.Example`s, in which each input is a feature of its name with one string."""

    def of_examples(examples: tf.Tensor) -> dict[str, Any]:
        string = tf.io.FixedLenFeature([], tf.string)
        parsed = tf.io.parse_example(examples, {servable.input_name(feature): string for feature in answer.features()})
        return answer.of_raw(**{feature: parsed[servable.input_name(feature)] for feature in answer.features()})

    return of_examples


def _outputs(task: Task, model: keras.Model, names: list[str]) -> Callable[..., dict[str, Any]]:
    def outputs(*values: Any) -> dict[str, Any]:
        return named(task.predict(model, values[0] if names == [INPUTS] else dict(zip(names, values, strict=True))))

    return outputs


def _calling(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that calls a compiled one, which an endpoint would otherwise be and have its signature."""
    return lambda *values: function(*values)


def _renamed(function: Callable[..., Any], outputs: Mapping[str, str]) -> Callable[..., Any]:
    """Returns a function that calls a compiled one and keeps these of its outputs: name here -> name there."""

    def renamed(*values: Any) -> dict[str, Any]:
        found = function(*values)
        return {name: found[there] for name, there in outputs.items()}

    return renamed


def _positional(function: Callable[..., Any], names: list[str]) -> Callable[..., Any]:
    """Returns the function with its keyword arguments made positional, as an input signature wants them."""
    return lambda *values: function(**dict(zip(names, values, strict=True)))


def _input_specs(model: keras.Model) -> tuple[list[str], list[tf.TensorSpec]]:
    inputs = model.input
    by_name = inputs if isinstance(inputs, dict) else {INPUTS: inputs}
    return list(by_name), [tf.TensorSpec([None, *t.shape[1:]], t.dtype, name=name) for name, t in by_name.items()]


@contextlib.contextmanager
def publishing(model_dir: Path, version: str) -> Iterator[tuple[Path, Path]]:
    """Yields a temporary folder and the version folder that it becomes, by a rename, when the block ends well.

    Args:
        model_dir: `saved_models/NAME`.
        version: `next`, a number, or `time`: the seconds since 1970.

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
    taken = max((int(f.name) for f in model_dir.iterdir() if is_version(f.name)), default=0)
    final = model_dir / {"next": str(taken + 1), "time": str(int(time.time()))}.get(version, version)
    if final.exists():
        raise UserError(f"--export.version={version}: {final} exists; write next or another number.")
    if version == "time" and int(final.name) < taken:
        raise UserError(
            f"--export.version=time: {final.name} is less than version {taken}, which would stay the newest; write next."
        )
    return final


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
