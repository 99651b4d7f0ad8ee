"""The whole way from a raw example to an answer, as one object: host, device, predict, decode."""

import dataclasses
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfpt import __version__, registry
from tfpt.errors import UserError
from tfpt.layers.trunk import Trunk
from tfpt.preprocessors import Preprocessor, distinct
from tfpt.preprocessors.image import Image
from tfpt.serving.padding import concatenated
from tfpt.tasks import State, Task

DESCRIPTION = "tfpt.json"
EXTRA = "assets.extra"
SINGLE = "outputs"
"""The name that a single unnamed tensor has in a signature."""
INPUTS = "inputs"
"""The name that a single unnamed input of a model has in a signature."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Servable:
    """A model that answers raw examples.

    Attributes:
        task: makes batches and decodes outputs.
        state: of the task.
        preprocessors: by trunk name.
        outputs: from the task's inputs to model outputs, a compiled function.
        answer: from raw features by name (`[batch]` strings each) to what a client reads, a compiled function.
        model: the Keras model, when it was built here; None when the servable was loaded.
        trunks: the model's trunks by name, likewise.
        folder: the bundle, when it was loaded.
        input_names: feature -> what clients call it, where that is something else.
    """

    task: Task
    state: State
    preprocessors: Mapping[str, Preprocessor]
    outputs: Callable[[Any], Any]
    answer: Callable[..., dict[str, Any]]
    model: keras.Model | None = None
    trunks: Mapping[str, Trunk] = dataclasses.field(default_factory=dict)
    folder: Path | None = None
    input_names: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        *,
        task: Task,
        state: State,
        model: keras.Model,
        trunks: Mapping[str, Trunk],
        preprocessors: Mapping[str, Preprocessor],
    ) -> "Servable":
        """Makes a servable of a float32 model."""
        outputs = tf.function(lambda inputs: task.predict(model, inputs), autograph=False)
        made, names = Answer(task, state, preprocessors, outputs), raw_features(preprocessors)
        strings = [tf.TensorSpec([None], tf.string, name=name) for name in names]

        @tf.function(autograph=False, input_signature=strings)  # one trace, whatever the size of the batch
        def of_raw(*raw: tf.Tensor) -> dict[str, Any]:
            return made.of_raw(**dict(zip(names, raw, strict=True)))

        def answer(**raw: tf.Tensor) -> dict[str, Any]:
            return of_raw(*(raw[name] for name in names))

        return cls(
            task=task,
            state=state,
            preprocessors=preprocessors,
            outputs=outputs,
            answer=answer,
            model=model,
            trunks=trunks,
        )

    @classmethod
    def load(cls, folder: str | Path, *, trust: Sequence[str] = (), task: Task | None = None) -> "Servable":
        """Loads a bundle; a folder of versions stands for its newest.

        Args:
            folder: `saved_models/NAME` or `saved_models/NAME/VERSION`.
            trust: packages outside tfpt whose components may be imported.
            task: the task itself, for a model whose task was given as an object.

        Raises:
            UserError: it is not a tfpt bundle.
        """
        folder = newest_version(Path(folder))
        values = _describe(folder)
        try:
            if task is None:
                task_class = _trusted("task", values["task"]["name"], trust, folder)
                task = task_class(values["task"]["argument"], task_class.Config(**_tuples(values["task"]["config"])))
            preprocessors = {
                name: _trusted("preprocessor", kind, trust, folder).from_json(settings)
                for name, (kind, settings) in values["preprocessors"].items()
            }
            for library in {library for p in preprocessors.values() for library in p.libraries}:
                importlib.import_module(library)
            loaded = tf.saved_model.load(str(folder))
            signature, serve = loaded.signatures["outputs"], loaded.signatures["serving_default"]
            state, names = values["state"], dict(values.get("inputs", {}))
        except UserError:
            raise
        except ModuleNotFoundError as error:
            raise UserError(f"--model={folder} needs {error.name}: pip install 'tfpt[text]'.") from error
        except (OSError, LookupError, TypeError, ValueError, AttributeError, tf.errors.OpError) as error:
            reason = str(error).strip().partition("\n")[0][:200]
            raise UserError(
                f"--model={folder} is damaged ({type(error).__name__}: {reason}); export it again."
            ) from error

        def outputs(inputs: Any) -> Any:
            named = inputs if isinstance(inputs, dict) else {INPUTS: inputs}
            return unnamed(signature(**named))

        def answer(**raw: Any) -> dict[str, Any]:
            return serve(**{names.get(feature, feature): value for feature, value in raw.items()})

        # The functions hold no reference to the loaded object, which owns the variables.
        outputs.loaded = answer.loaded = loaded  # type: ignore[attr-defined]
        return cls(
            task=task, state=state, preprocessors=preprocessors, outputs=outputs, answer=answer, folder=folder,
            input_names=names,
        )  # fmt: skip

    def with_state(self, state: State) -> "Servable":
        """Returns the model, which was built here, with another state of its task.

        Raises:
            ValueError: it was loaded.
        """
        if state == self.state:
            return self
        if self.model is None:
            raise ValueError("a loaded model's state is in its graph")
        return Servable.of(
            task=self.task, state=state, model=self.model, trunks=self.trunks, preprocessors=self.preprocessors
        )

    def features(self) -> list[str]:
        """Returns the names of the raw features."""
        return raw_features(self.preprocessors)

    def input_name(self, feature: str) -> str:
        """Returns what clients call a raw feature."""
        return self.input_names.get(feature, feature)

    def by_input(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Returns raw values by feature as those by input name."""
        return {self.input_name(feature): value for feature, value in raw.items()}

    def predict(self, raw: Mapping[str, Sequence[bytes]], *, batch_size: int = 32) -> dict[str, np.ndarray]:
        """Answers raw examples.

        Args:
            raw: feature -> encoded values.
            batch_size: examples at a time.

        Returns:
            The decoded answer by name, `[examples, ...]` each; rows of which there are fewer than in another example have
            zeros, or "", behind them.
        """
        length = len(next(iter(raw.values())))
        parts = []
        for start in range(0, length, batch_size):
            part = {name: tf.constant(list(values[start : start + batch_size])) for name, values in raw.items()}
            parts.append({name: value.numpy() for name, value in self.answer(**part).items()})
        return {name: concatenated([part[name] for part in parts]) for name in parts[0]}

    def describe(self) -> dict[str, Any]:
        """Returns the plain values from which `load` makes the servable again."""
        return {
            "tfpt": __version__,
            "task": {
                "name": _component_name("task", self.task),
                "argument": self.task.argument,
                "config": dataclasses.asdict(self.task.config),
            },
            "state": self.state,
            "inputs": dict(self.input_names),
            "preprocessors": {
                name: [_component_name("preprocessor", p), p.to_json()] for name, p in self.preprocessors.items()
            },
        }


@dataclasses.dataclass(frozen=True)
class Answer:
    """The served graph, put together from its parts."""

    task: Task
    state: State
    preprocessors: Mapping[str, Preprocessor]
    outputs: Callable[[Any], Any]
    hosts: Mapping[str, Callable[..., dict[str, Any]]] = dataclasses.field(default_factory=dict)
    """The host halves by feature, as `host_half` makes them, where they are compiled already."""

    def of_raw(self, **raw: Any) -> dict[str, Any]:
        """Answers a batch of raw features, `[batch]` strings each."""
        return self._answer(self._prepared(raw))

    def of_pixels(self, image: tf.Tensor) -> dict[str, Any]:
        """Answers a batch of decoded pictures, `[batch, height, width, 3]` float32, 0 to 255."""
        (preprocessor,) = self._distinct()
        assert isinstance(preprocessor, Image)
        return self._answer({preprocessor.feature: preprocessor.host_pixels_batch(image)})

    def inputs_of_raw(self, **raw: Any) -> Any:
        """Returns the task's inputs for a batch of raw features."""
        return self._inputs(self._prepared(raw))[0]

    def features(self) -> list[str]:
        """Returns the names of the raw features."""
        return raw_features(self.preprocessors)

    def takes_pixels(self) -> bool:
        """Tells whether decoded pictures can be answered."""
        return len(self._distinct()) == 1 and isinstance(self._distinct()[0], Image)

    def _distinct(self) -> list[Preprocessor]:
        return distinct(self.preprocessors)

    def _prepared(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tuple[Any, dict[str, Any]]]:
        prepared = {}
        for p in self._distinct():
            values = [raw[name] for name in p.raw_features]
            if p.feature in self.hosts:
                made = self.hosts[p.feature](*values)
                prepared[p.feature] = made[p.feature], {n: made[f"{p.feature}/{n}"] for n in p.frame_spec()}
            else:
                prepared[p.feature] = p.host_batch(*values)
        return prepared

    def _inputs(self, prepared: Mapping[str, tuple[Any, dict[str, Any]]]) -> tuple[Any, dict[str, Any]]:
        features = {name: value for name, (value, _) in prepared.items()}
        frame = {name: value for name, (_, value) in prepared.items()}
        length = tf.shape(next(iter(features.values())))[0]
        batch = self.task.batch({**features, "weight": tf.ones([length])}, frame, self.state, False)
        return batch["inputs"], frame

    def _answer(self, prepared: Mapping[str, tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
        inputs, frame = self._inputs(prepared)
        return self.task.decode(self.outputs(inputs), frame, self.state)


def host_half(preprocessor: Preprocessor) -> Callable[..., dict[str, Any]]:
    """Returns the compiled host half: `[batch]` strings -> feature and frame by name (`image`, `image/scale`)."""

    def host(*raw: Any) -> dict[str, Any]:
        value, frame = preprocessor.host_batch(*raw)
        return {preprocessor.feature: value} | {f"{preprocessor.feature}/{name}": v for name, v in frame.items()}

    strings = [tf.TensorSpec([None], tf.string, name=name) for name in preprocessor.raw_features]
    return tf.function(host, input_signature=strings, autograph=False)


def host_signature(preprocessor: Preprocessor) -> str:
    """Returns the name of the bundle's signature that is a preprocessor's host half."""
    return f"host_{preprocessor.feature}"


def named(outputs: Any) -> dict[str, Any]:
    """Returns model outputs as a signature can carry them."""
    return dict(outputs) if isinstance(outputs, dict) else {SINGLE: outputs}


def unnamed(outputs: dict[str, Any]) -> Any:
    """Returns model outputs as they were before `named`."""
    return outputs[SINGLE] if set(outputs) == {SINGLE} else outputs


def raw_features(preprocessors: Mapping[str, Preprocessor]) -> list[str]:
    """Returns the names of the raw features that preprocessors by trunk read."""
    return list(dict.fromkeys(name for p in distinct(preprocessors) for name in p.raw_features))


def is_version(name: str) -> bool:
    """Tells whether a folder's name is a version number, as TensorFlow Serving reads it."""
    return name.isascii() and name.isdecimal()


def newest_version(folder: Path) -> Path:
    """Returns the folder itself when it is a bundle, else its version folder with the highest number.

    Raises:
        UserError: it is neither.
    """
    if (folder / "saved_model.pb").is_file():
        return folder
    versions = [f for f in folder.iterdir() if is_version(f.name)] if folder.is_dir() else []
    if not versions:
        what = "holds no version folder" if folder.is_dir() else "is not there"
        raise UserError(
            f"--model={folder} {what}; give a folder that `tfpt train` exported, such as saved_models/NAME."
        )
    return max(versions, key=lambda f: int(f.name))


def _describe(folder: Path) -> dict[str, Any]:
    file = folder / EXTRA / DESCRIPTION
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"--model={folder} is a SavedModel, but not one that tfpt exported: it has no {EXTRA}/{DESCRIPTION}."
        ) from error
    except ValueError as error:
        raise UserError(f"--model={folder}: {file.name} is damaged; export the model again.") from error


def _component_name(kind: str, component: Any) -> str:
    module, name = type(component).__module__, type(component).__name__
    last = module.rpartition(".")[2]
    if registry.camel_case(last) != name:
        return f"{module}.{name}"  # an object given in Python: it cannot be found again by name, which `find` will say
    return last if module == f"tfpt.{registry.ROOMS[kind]}.{last}" else module


def _trusted(kind: str, name: str, trust: Sequence[str], folder: Path) -> Any:
    """Returns the class of a component that a bundle names; one from outside tfpt only if its package is trusted."""
    if name not in registry.names(kind):
        package = name.split(".")[0]
        if package not in trust:
            raise UserError(
                f"--model={folder} uses the {kind} {name} from outside tfpt; add --trust={package} if you trust it."
            )
    return registry.find(kind, name)


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
