"""Texts to what a SavedModel makes of them: token ids of a text encoder's own preprocessor, or whole embeddings."""

import dataclasses
import functools
import hashlib
import importlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.errors import UserError
from tfpt.preprocessors import Preprocessor

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_SAMPLE = b"A synthetic sentence, for warm-up."


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubText(Preprocessor):
    """Runs a SavedModel on strings, in the host half: it has string ops and tables, which no accelerator takes.

    Attributes:
        size: tokens; of an embedding, its width.
        folder: the SavedModel.
        digest: of its files, so that what was trained with is what answers.
        outputs: names of its outputs, in the order in which they are stacked; one name, with `embeds`.
        embeds: whether it makes `[size]` float32 instead of `[size, outputs]` int32.
        packs: whether it is run in two steps, `tokenize` and `bert_pack_inputs`, which know another length and pairs.
        trims: whether padding is cut off, as the network takes any length.
        modules: modules beside TensorFlow whose ops it uses.
        features: what it reads from a raw example: one text, or two.
        feature: what it writes to the prepared one.
    """

    size: int
    folder: str
    digest: str
    outputs: tuple[str, ...]
    embeds: bool = False
    packs: bool = False
    trims: bool = False
    modules: tuple[str, ...] = ()
    features: tuple[str, ...] = ("text",)
    feature: str = "text"

    @property
    def raw_features(self) -> tuple[str, ...]:
        """The one text, or the two."""
        return self.features

    @property
    def libraries(self) -> tuple[str, ...]:
        """Modules whose ops the SavedModel uses."""
        return self.modules

    @property
    def resources(self) -> tuple[Any, ...]:
        """The loaded SavedModel."""
        return (self._loaded(),)

    def for_features(self, features: Collection[str]) -> "HubText":
        """Returns the preprocessor for data with these raw features: a pair where `text_pair` is among them.

        Raises:
            UserError: there are pairs, and the SavedModel takes single texts.
        """
        pair = f"{self.feature}_pair"
        if pair not in features:
            return dataclasses.replace(self, features=(self.feature,))
        if self.embeds or not {"tokenize", "bert_pack_inputs"} <= set(dir(self._loaded())):
            raise UserError(
                f"{self.folder}: this SavedModel takes single texts, and the data has pairs; leave --data.text_pair empty, or "
                "take a preprocessor with tokenize and bert_pack_inputs."
            )
        return dataclasses.replace(self, features=(self.feature, pair), packs=True)

    def host(self, *raw: "tf.Tensor") -> tuple["tf.Tensor", dict[str, "tf.Tensor"]]:
        """Prepares one example, scalar strings.

        Returns:
            `[size, outputs]` int32, less where padding is cut off, or, of one that embeds, `[size]` float32; and an empty
            frame.
        """
        values, frame = self.host_batch(*(value[None] for value in raw))
        return values[0], frame

    def host_batch(self, *raw: "tf.Tensor") -> tuple["tf.Tensor", dict[str, "tf.Tensor"]]:
        """Prepares a batch, `[batch]` strings each; all are as long as the longest."""
        import tensorflow as tf

        module = self._loaded()
        if self.packs:
            made = module.bert_pack_inputs([module.tokenize(text) for text in raw], seq_length=tf.constant(self.size))
        else:
            made = module(raw[0])
        flat = made if isinstance(made, Mapping) else {"output": made}
        shape, dtype = self.host_spec()
        if self.embeds:
            values = tf.cast(flat[self.outputs[0]], dtype)
        else:
            values = tf.stack([tf.cast(flat[name], dtype) for name in self.outputs], axis=-1)
        if self.trims:
            there = tf.reduce_any(values != 0, axis=[0, 2])
            values = values[:, : tf.reduce_max(tf.where(there, tf.range(1, tf.size(there) + 1), 0))]
        return tf.ensure_shape(values, [None, *shape]), {}

    def device(self) -> "keras.layers.Layer":
        """Returns the layer that gives the stacked tensors their names; an embedding stays as it is."""
        import keras

        from tfpt.layers.stacked_inputs import StackedInputs

        return keras.layers.Identity(dtype="float32") if self.embeds else StackedInputs(self.outputs)

    def host_spec(self) -> tuple[tuple[int | None, ...], str]:
        """Returns shape and dtype of the ids, whose number varies where padding is cut off, or of the embedding."""
        if self.embeds:
            return (self.size,), "float32"
        return (None if self.trims else self.size, len(self.outputs)), "int32"

    def frame_spec(self) -> dict[str, tuple[tuple[int | None, ...], str]]:
        """Returns nothing: the SavedModel does not say what became of characters."""
        return {}

    def reading(self, feature: str) -> "HubText":
        """Returns an equal preprocessor for another feature."""
        features = (feature,) if len(self.features) == 1 else (feature, f"{feature}_pair")
        return dataclasses.replace(self, feature=feature, features=features)

    def sample(self) -> bytes:
        """Returns a sentence."""
        return _SAMPLE

    def to_json(self) -> dict[str, Any]:
        """Returns plain values. The SavedModel itself is not among them: the bundle's own graph has a copy, and only
        preparing examples with tfpt again needs the folder."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "HubText":
        """Makes an equal preprocessor from what `to_json` returned."""
        plain: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in values.items()}
        return cls(**plain)

    def _loaded(self) -> Any:
        for module in self.modules:
            importlib.import_module(module)
        return _load(self.folder, self.digest)


def digest(folder: Path) -> str:
    """Returns the SHA-256 over the names and contents of all files in a folder, in the order of their names."""
    whole = hashlib.sha256()
    for name, file in sorted((file.relative_to(folder).as_posix(), file) for file in folder.rglob("*")):
        if file.is_file():
            with file.open("rb") as stream:
                whole.update(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {name}\n".encode())
    return whole.hexdigest()


@functools.cache
def _load(folder: str, wanted: str) -> Any:
    """Loads a SavedModel once a process: datasets and graphs may call it at any later time.

    Raises:
        UserError: it is not there, or not the one that was trained with.
    """
    import tensorflow as tf

    if not Path(folder).is_dir() or digest(Path(folder)) != wanted:
        what = "is not the SavedModel it was" if Path(folder).is_dir() else "is not there"
        raise UserError(
            f"{folder} {what}, with which texts were prepared in training; put it back to prepare texts in the same way."
        )
    with tf.init_scope():
        return tf.saved_model.load(folder)
