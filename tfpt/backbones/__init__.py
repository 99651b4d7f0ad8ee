"""Pretrained trunks, one file each. This file holds the signature every backbone has."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import numpy as np

    from tfpt.config import Input
    from tfpt.preprocessors import Preprocessor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """What is known of a trunk before any weight is loaded.

    Attributes:
        modality: `image`, `text` or `audio`.
        size: the default side in pixels, or the longest text in tokens.
        value_range: the smallest and largest value that the network expects to be fed.
        endpoints: output name -> shape without the batch dimension, None where it depends on the size of the input.
        parameters: number of parameters; 0 when only building would tell.
        licence: of the weights.
        origin: where architecture and weights come from, for the model card.
    """

    modality: str
    size: int
    value_range: tuple[float, float]
    endpoints: Mapping[str, tuple[int | None, ...]]
    parameters: int = 0
    licence: str = "unknown"
    origin: str = "unknown"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointHead:
    """The head that a fine-tuned checkpoint brings along: dense layers from one of the trunk's endpoints to logits.

    Attributes:
        layers: kernel `[in, out]`, bias `[out]` and activation (a name that `tfpt.layers.dense_stack` knows) of each.
        endpoint: what the first layer reads: `pooled` or `sequence`.
        classes: what each output means, in order.
        problem: `single` (softmax over the outputs), `multi` (a sigmoid each) or `regression` (the outputs themselves).
    """

    layers: tuple[tuple["np.ndarray", "np.ndarray", str], ...]
    endpoint: str
    classes: tuple[str, ...]
    problem: str

    def plan(self) -> list[dict[str, Any]]:
        """Returns `units` and `activation` of each layer: plain values for a task's state, which `dense_stack` takes."""
        return [{"units": int(kernel.shape[1]), "activation": activation} for kernel, _, activation in self.layers]

    def load(self, model: "keras.Model") -> None:
        """Assigns the arrays to the layers that `dense_stack(..., plan)` made in a model."""
        from tfpt.layers.dense_stack import load_dense_stack

        load_dense_stack(model, [(kernel, bias) for kernel, bias, _ in self.layers])


class Backbone:
    """A pretrained trunk: what it expects, its preprocessor, its network."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        """Flags of the group `backbone`."""

    def __init__(self, argument: str = "", config: Any = None) -> None:
        self.argument = argument
        self.config: Any = config if config is not None else self.Config()

    @classmethod
    def variants(cls) -> Sequence[str]:
        """Returns the arguments that exist, for `tfpt list backbones`; empty when they are open (a path, a URL)."""
        return ()

    def identity(self) -> bytes:
        """Returns what tells an object that was given in Python from another one with its settings."""
        return self.argument.encode(errors="replace")

    def spec(self) -> Spec:
        """Answers without loading weights, and without TensorFlow where that is possible."""
        raise NotImplementedError

    def preprocessor(self, options: "Input") -> "Preprocessor":
        """Returns the preprocessor that makes this network's inputs, at `options.image_size` or the trunk's own size."""
        raise NotImplementedError

    def build(self, size: int) -> "keras.Model":
        """Builds the network and loads its weights.

        Args:
            size: the side in pixels or the length in tokens that it will be fed.

        Returns:
            A Keras model from the preprocessor's device output to a dictionary of endpoints (`pooled` `[batch, width]`,
            `sequence` `[batch, length, width]`, `levels` a list of `[batch, height, width, channels]`, finest first).
        """
        raise NotImplementedError

    def groups(self, model: "keras.Model") -> list[list["keras.layers.Layer"]]:
        """Returns the layers with weights from shallow to deep: the steps of `--train.unfreeze=last:N` and of layer-wise
        rates. Every layer with weights is in exactly one group."""
        raise NotImplementedError

    def cuts(self, model: "keras.Model") -> list[str]:
        """Returns names of layers after which a frozen prefix may end; empty means whole or nothing."""
        return []

    def weight_files(self) -> Sequence[str]:
        """Returns the catalogue names (`efficientnet_lite:lite0`) that `tfpt fetch` brings for this backbone."""
        return ()

    def spec_files(self) -> Sequence[str]:
        """Returns those of `weight_files` that even `spec` and `preprocessor` read; a run brings them before it asks."""
        return ()

    def head(self) -> CheckpointHead | None:
        """Returns the head that the checkpoint was fine-tuned with; None when it has none.

        Raises:
            UserError: it has one that cannot be taken over.
        """
        return None

    def loading_notes(self) -> Sequence[str]:
        """Returns, after `build`, sentences on how the weights fitted the network, for the user."""
        return ()
