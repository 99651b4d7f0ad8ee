"""From a raw example to model inputs, in two halves; the same object trains, evaluates and serves.

`host` runs in the input pipeline and in the served graph, on one example: decode, orient, resize, round, tokenise.
`device` runs inside the model, on a batch: cast and scale, always in float32 whatever the precision policy is.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from tfpt.errors import UserError

if TYPE_CHECKING:
    import keras


class Preprocessor:
    """Both halves of the way from a raw example to model inputs."""

    feature: str
    """The feature of a prepared example that it makes (`image`, `text`)."""

    @property
    def raw_features(self) -> tuple[str, ...]:
        """The features of a raw example that it is made from (`image`; `text` and `text_pair`), the served inputs."""
        return (self.feature,)

    size: int
    """The side in pixels or the length in tokens of what it makes."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """Modules beside TensorFlow whose ops the host half uses: whoever loads a bundle imports them first."""
        return ()

    @property
    def resources(self) -> tuple[Any, ...]:
        """Loaded TensorFlow objects whose variables and tables the host half uses: a bundle keeps a copy of them."""
        return ()

    def for_features(self, features: Collection[str]) -> "Preprocessor":
        """Returns the preprocessor for data with these raw features: one that reads text pairs, for one."""
        return self

    def host(self, *raw: Any) -> tuple[Any, dict[str, Any]]:
        """Prepares one example with TensorFlow ops.

        Args:
            *raw: the raw values in the order of `raw_features`, as they come over the wire (encoded image bytes, a
                string): scalar string tensors.

        Returns:
            The compact tensor that travels to the device (uint8 pixels, or int32 ids in which 0 is padding), and the
            frame: what happened to coordinates (scale, padding, original size, token offsets), from which targets are
            made and undone. A first dimension that varies is padded with zeros where examples are batched.
        """
        raise NotImplementedError

    def host_batch(self, *raw: Any) -> tuple[Any, dict[str, Any]]:
        """Prepares a batch, `[batch]` strings each, as the served graph does; equal to `host` on each example."""
        import tensorflow as tf

        shape, dtype = self.host_spec()
        frame = {name: tf.TensorSpec(s, d) for name, (s, d) in self.frame_spec().items()}
        return tf.map_fn(lambda one: self.host(*one), raw, fn_output_signature=(tf.TensorSpec(shape, dtype), frame))

    def device(self) -> "keras.layers.Layer":
        """Returns the layer that turns a batch of host outputs into the network's inputs, in float32."""
        raise NotImplementedError

    def host_spec(self) -> tuple[tuple[int | None, ...], str]:
        """Returns shape (without the batch dimension) and dtype of one host output; None where the length varies."""
        raise NotImplementedError

    def frame_spec(self) -> dict[str, tuple[tuple[int | None, ...], str]]:
        """Returns shape and dtype of each value in the frame; where a first dimension varies, it is the host output's."""
        raise NotImplementedError

    def is_truncated(self, frame: Mapping[str, Any]) -> Any:
        """Tells, with TensorFlow ops, whether something of the example with this frame was cut off: a scalar."""
        return False

    def reading(self, feature: str) -> "Preprocessor":
        """Returns an equal preprocessor that reads and writes another feature, where each of two trunks has its own."""
        raise NotImplementedError

    def sample(self) -> bytes:
        """Returns a synthetic raw value, for warm-up requests."""
        raise NotImplementedError

    def host_settings(self) -> dict[str, Any]:
        """Returns those of `to_json`'s values that the host half depends on."""
        return self.to_json()

    def to_json(self) -> dict[str, Any]:
        """Returns plain values from which `from_json` makes an equal preprocessor."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Preprocessor":
        """Makes a preprocessor from what `to_json` returned."""
        raise NotImplementedError


def distinct(preprocessors: Mapping[str, Preprocessor]) -> list[Preprocessor]:
    """Returns one preprocessor a feature: the host prepares a feature once, for all trunks that read it.

    Args:
        preprocessors: by trunk name.

    Raises:
        UserError: two trunks want the same feature prepared differently by the host.
    """
    by_feature: dict[str, tuple[str, Preprocessor]] = {}
    for name, preprocessor in preprocessors.items():
        other, first = by_feature.setdefault(preprocessor.feature, (name, preprocessor))
        ours, theirs = preprocessor.host_settings(), first.host_settings()
        different = [key for key in ours if ours[key] != theirs.get(key)]
        if type(first) is not type(preprocessor) or different:
            raise UserError(
                f"--backbone: the trunks {other} and {name} want the same {preprocessor.feature} prepared differently "
                f"({', '.join(different) or 'another preprocessor'}); give both the same --input settings, or data with a "
                "feature for each."
            )
    return [preprocessor for _, preprocessor in by_feature.values()]
