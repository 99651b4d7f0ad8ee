"""A Keras model of one's own as a trunk: from a .keras file, or the object itself."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.backbones import Backbone, Spec
from tfpt.config import check, setting
from tfpt.errors import UserError

if TYPE_CHECKING:
    import keras

    from tfpt.config import Input
    from tfpt.preprocessors import Preprocessor

_SIZE = 224


class Keras(Backbone):
    """`keras:FILE.keras`, or in Python `Keras.from_model(model)`.

    The model takes pictures `[batch, height, width, 3]`. Its output is a feature map (`[batch, height, width, channels]`,
    then averaged), an embedding (`[batch, width]`), or a dictionary in which one of the two is called `pooled`.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        """Flags of the group `backbone`."""

        value_range: tuple[float, ...] = setting(
            (0.0, 255.0), "What black and white pixels are fed to the model as: 0,255 or 0,1 or -1,1."
        )

        def __post_init__(self) -> None:
            check(
                len(self.value_range) == 2 and self.value_range[0] < self.value_range[1],
                f"value_range: {','.join(map(str, self.value_range))} is not two numbers, the smaller one first",
            )

    def __init__(self, argument: str = "", config: Any = None) -> None:
        super().__init__(argument, config)
        self._model: keras.Model | None = None
        if not argument.endswith(".keras"):
            raise UserError(f"--backbone=keras:{argument}: name a file that ends in .keras, as model.save writes it.")
        if not Path(argument).expanduser().is_file():
            raise UserError(f"--backbone=keras:{argument}: there is no such file.")

    @classmethod
    def from_model(cls, model: "keras.Model", *, value_range: tuple[float, float] = (0.0, 255.0)) -> "Keras":
        """Makes a trunk of a model. The model itself stays as it is: each `build` copies it.

        Args:
            model: a built model, as the class describes it.
            value_range: what black and white pixels are fed to it as.

        Raises:
            UserError: the model cannot be a trunk.
        """
        backbone = cls.__new__(cls)
        Backbone.__init__(backbone, model.name, cls.Config(value_range=value_range))
        backbone._model = model
        backbone.spec()
        return backbone

    def identity(self) -> bytes:
        """Returns a digest of the layers' settings and the weights; their names are others whenever a model is made again."""
        model, whole = self._source(), hashlib.sha256()
        for layer in _layers(model):
            own: Any = {}
            with contextlib.suppress(NotImplementedError):  # a layer of one's own need not say its settings
                own = _nameless(layer.get_config())
            said = [type(layer).__name__, layer.dtype_policy.name, own]
            whole.update(json.dumps(said, sort_keys=True, default=lambda value: type(value).__name__).encode())
        for variable in model.weights:
            whole.update(f"{tuple(variable.shape)} {variable.dtype};".encode())
            whole.update(variable.numpy().tobytes())
        return whole.digest()

    def spec(self) -> Spec:
        """Answers from the model; a file is read for it."""
        model = self._source()
        outputs = _endpoints(_output(model), self.argument)
        return Spec(
            modality="image",
            size=model.input_shape[1] or _SIZE,
            value_range=(self.config.value_range[0], self.config.value_range[1]),
            endpoints={name: tuple(tensor.shape[1:]) for name, tensor in outputs.items()},
            parameters=model.count_params(),
            origin=f"Keras model {self.argument}",
        )

    def preprocessor(self, options: "Input") -> "Preprocessor":
        """Returns the preprocessor: pixels to `value_range`."""
        from tfpt.preprocessors.image import Image

        size = self.spec().size if options.image_size == "auto" else options.image_size
        low, high = self.config.value_range
        return Image(size=size, resize=options.resize, scale=((high - low) / 255,) * 3, offset=(low,) * 3)

    def build(self, size: int) -> "keras.Model":
        """Returns a copy of the model for `size` x `size` pixels that answers with a dictionary of endpoints."""
        import keras

        source = self._source()
        if any(side not in (None, size) for side in source.input_shape[1:3]):
            height, width = source.input_shape[1:3]
            raise UserError(f"--input.image_size={size}: keras:{self.argument} takes {height} x {width} pixels only.")
        inputs = keras.Input((size, size, 3), name="image", dtype="float32")
        whole = keras.Model(source.inputs[0], _output(source))  # a sequential model cannot be cloned onto another input
        copy = keras.models.clone_model(whole, input_tensors=inputs)
        copy.set_weights(whole.get_weights())
        return keras.Model(copy.inputs[0], _endpoints(_output(copy), self.argument), name=source.name)

    def groups(self, model: "keras.Model") -> list[list["keras.layers.Layer"]]:
        """Returns the model's blocks; a subclassed model is one."""
        from tfpt.backbones import _functional

        return _functional.groups(model, model.output["pooled"])

    def cuts(self, model: "keras.Model") -> list[str]:
        """Returns the layers where one tensor is all that goes on to `pooled`."""
        from tfpt.backbones import _functional

        return [layer.name for layer in _functional.cuts(model, model.output["pooled"])]

    def _source(self) -> "keras.Model":
        if self._model is None:
            self._model = self._read()
        model = self._model
        if not getattr(model, "inputs", None):
            raise UserError(
                f"--backbone=keras:{self.argument}: a trunk is a functional or built sequential model; wrap this one: "
                "keras.Model(x, model(x)) with x = keras.Input((height, width, 3))."
            )
        shape = model.input_shape
        if not (isinstance(shape, tuple) and len(shape) == 4 and shape[-1] == 3):
            raise UserError(f"--backbone=keras:{self.argument}: a trunk takes [batch, height, width, 3], not {shape}.")
        return model

    def _read(self) -> "keras.Model":
        import keras

        try:
            return keras.saving.load_model(Path(self.argument).expanduser(), compile=False, safe_mode=True)
        except Exception as error:  # a foreign file may fail in any way
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise UserError(
                f"--backbone=keras:{self.argument}: the file cannot be loaded safely ({reason})."
            ) from error


def _layers(model: "keras.Model") -> Iterator["keras.layers.Layer"]:
    """Yields the layers, and those of models inside it in place of these."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def _nameless(config: Any) -> Any:
    if isinstance(config, dict):
        return {key: _nameless(value) for key, value in config.items() if key != "name"}
    return [_nameless(value) for value in config] if isinstance(config, list | tuple) else config


def _output(model: "keras.Model") -> Any:
    structure = getattr(model, "output", None)
    return structure if isinstance(structure, dict) else model.outputs[0]


def _endpoints(output: Any, name: str) -> dict[str, Any]:
    """Returns the named endpoints that a model's output stands for."""
    import keras

    named = dict(output) if isinstance(output, dict) else {"pooled": output}
    pooled = named.get("pooled")
    rank = 0 if pooled is None else len(pooled.shape)
    if rank not in (2, 4):
        raise UserError(
            f"--backbone=keras:{name}: a trunk gives [batch, width], [batch, height, width, channels], or a dictionary in "
            "which one of them is called pooled."
        )
    if rank == 4:
        named["pooled"] = keras.layers.GlobalAveragePooling2D(name="pooled")(pooled)
    return named
