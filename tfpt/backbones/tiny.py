"""Networks that train from random numbers in seconds, for pictures and for texts: for small data, first tries and tests."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfpt.backbones import Backbone, Spec
from tfpt.errors import UserError

if TYPE_CHECKING:
    import keras

    from tfpt.config import Input
    from tfpt.preprocessors import Preprocessor

# Channels and stride of each convolution.
_CONVOLUTIONS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2))
_SIZE = 32
# The transformer: words are hashed into buckets, of which the first two are the tokens around a text.
_BUCKETS, _BEGIN, _END = 4096, 0, 1
_LENGTH, _WIDTH, _HEADS, _BLOCKS = 128, 64, 4, 2
_SPECS = {
    "conv": Spec(
        modality="image",
        size=_SIZE,
        value_range=(-1.0, 1.0),
        endpoints={"pooled": (_CONVOLUTIONS[-1][0],), "levels": (None, None, None)},
        parameters=144624,
        licence="Apache-2.0",
        origin="tfpt, random start",
    ),
    "transformer": Spec(
        modality="text",
        size=_LENGTH,
        value_range=(0.0, _BUCKETS - 1.0),
        endpoints={"pooled": (_WIDTH,), "sequence": (None, _WIDTH)},
        licence="Apache-2.0",
        origin="tfpt, random start",
    ),
}


class Tiny(Backbone):
    """`tiny:conv`: six convolutions, each with batch normalisation and ReLU. `tiny:transformer`: two transformer blocks on
    hashed lower-cased words. No pretrained weights.

    The random start comes from Keras' seed (`keras.utils.set_random_seed`).
    """

    def __init__(self, argument: str = "", config: Any = None) -> None:
        super().__init__(argument or "conv", config)
        if self.argument not in _SPECS:
            raise UserError(f"--backbone=tiny:{argument}: there are only tiny:conv and tiny:transformer.")

    @classmethod
    def variants(cls) -> Sequence[str]:
        """Returns `conv` and `transformer`."""
        return tuple(_SPECS)

    def spec(self) -> Spec:
        """Answers from constants."""
        return _SPECS[self.argument]

    def preprocessor(self, options: "Input") -> "Preprocessor":
        """Returns the preprocessor: pixels to -1 ... 1, or words to numbers."""
        if self.argument == "transformer":
            from tfpt.layers.hashed_words import HashedWords
            from tfpt.preprocessors.text import Text

            size = _LENGTH if options.max_length == "auto" else options.max_length
            tokenizer = HashedWords(buckets=_BUCKETS, reserved=_END + 1)
            return Text(size=size, tokenizer=tokenizer, before=(_BEGIN,), between=(_END,), after=(_END,))
        from tfpt.preprocessors.image import Image

        size = _SIZE if options.image_size == "auto" else options.image_size
        return Image(size=size, resize=options.resize, scale=(1 / 127.5,) * 3, offset=(-1.0,) * 3)

    def build(self, size: int) -> "keras.Model":
        """Builds the network for `size` x `size` pixels, or for up to `size` tokens."""
        return _transformer(size) if self.argument == "transformer" else _conv(size)

    def groups(self, model: "keras.Model") -> list[list["keras.layers.Layer"]]:
        """Returns each convolution with its normalisation; or the embeddings, each block, and the last normalisation."""
        prefixes = ["embedding", *(f"block{k}_" for k in range(len(_CONVOLUTIONS))), "last"]
        found = [[layer for layer in model.layers if layer.weights and layer.name.startswith(p)] for p in prefixes]
        return [group for group in found if group]

    def cuts(self, model: "keras.Model") -> list[str]:
        """Returns the end of each block of convolutions; the transformer has none, as its mask goes past every block."""
        return [] if self.argument == "transformer" else [f"block{k}_relu" for k in range(len(_CONVOLUTIONS))]


def _conv(size: int) -> "keras.Model":
    import keras

    x = inputs = keras.Input((size, size, 3), name="image", dtype="float32")
    maps = []
    for k, (channels, stride) in enumerate(_CONVOLUTIONS):
        if stride > 1:
            maps.append(x)
        x = keras.layers.Conv2D(channels, 3, stride, padding="same", use_bias=False, name=f"block{k}_conv")(x)
        # A short training needs statistics that follow quickly: Keras' own 0.99 is made for long ones.
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"block{k}_bn")(x)
        x = keras.layers.ReLU(name=f"block{k}_relu")(x)
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(inputs, {"pooled": pooled, "levels": [*maps[2:], x]}, name="tiny_conv")


def _transformer(size: int) -> "keras.Model":
    """Builds the encoder of Vaswani et al., 2017 (arXiv:1706.03762), with normalisation before each half of a block (Xiong
    et al., 2020, arXiv:2002.04745), which trains without warm-up."""
    import keras

    from tfpt.layers.learned_positions import LearnedPositions
    from tfpt.layers.sequence_pooling import SequencePooling

    inputs = {
        name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "segment_ids", "padding_mask")
    }
    words = keras.layers.Embedding(_BUCKETS, _WIDTH, name="embedding_words")(inputs["token_ids"])
    texts = keras.layers.Embedding(2, _WIDTH, name="embedding_texts")(inputs["segment_ids"])
    x = LearnedPositions(size, name="embedding_positions")(keras.layers.add([words, texts]))
    mask = inputs["padding_mask"][:, None, :]
    for k in range(_BLOCKS):
        normal = keras.layers.LayerNormalization(name=f"block{k}_attention_norm")(x)
        attend = keras.layers.MultiHeadAttention(_HEADS, _WIDTH // _HEADS, name=f"block{k}_attention")
        x = keras.layers.add([x, attend(normal, normal, attention_mask=mask)])
        normal = keras.layers.LayerNormalization(name=f"block{k}_dense_norm")(x)
        wide = keras.layers.Dense(4 * _WIDTH, activation="gelu", name=f"block{k}_wide")(normal)
        x = keras.layers.add([x, keras.layers.Dense(_WIDTH, name=f"block{k}_narrow")(wide)])
    sequence = keras.layers.LayerNormalization(name="last_norm")(x)
    pooled = SequencePooling("mean", name="pooled")(sequence, inputs["padding_mask"])
    return keras.Model(inputs, {"pooled": pooled, "sequence": sequence}, name="tiny_transformer")
