"""Texts, or pairs of texts, to tokens: split, cut to length, special tokens around."""

import dataclasses
import importlib
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tfpt.errors import UserError
from tfpt.preprocessors import Preprocessor

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tfpt.layers.tokens import Tokenizer

_TOKENIZERS = MappingProxyType(
    {
        "byte_pairs": "BytePairs",
        "hashed_words": "HashedWords",
        "sentence_pieces": "SentencePieces",
        "word_pieces": "WordPieces",
    }
)
"""File in `tfpt/layers/` -> class."""
INPUTS = MappingProxyType({"ids": "token_ids", "segments": "segment_ids", "mask": "padding_mask"})
"""What BERT-like networks of KerasHub call their inputs."""
MOST_TOKENS = 16384
"""Of a second text that is not cut to `size`: a bound on what one example may cost."""
_SAMPLE = b"A synthetic sentence, for warm-up."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text(Preprocessor):
    """Makes `before text after`, or `before text between other text after`, in numbers.

    Attributes:
        size: the most tokens, special ones included.
        tokenizer: splits a text.
        before: ids of special tokens at the beginning.
        between: ids between the texts of a pair; they belong to the first.
        after: ids at the end.
        inputs: `ids`, `segments`, `mask` -> the network's name for it.
        padding: the id that the network is fed where there is no token.
        features: what it reads from a raw example: one text, or two.
        feature: what it writes to the prepared one.
        offsets: whether the frame says where in the raw text each token is.
        words: whether it also says in which word.
        first_length: the most tokens of the first of two texts, the second being whole; 0: the longer of both is cut.
    """

    size: int
    tokenizer: "Tokenizer"
    before: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    inputs: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict(INPUTS), hash=False)
    padding: int = 0
    features: tuple[str, ...] = ("text",)
    feature: str = "text"
    offsets: bool = False
    words: bool = False
    first_length: int = 0

    def __post_init__(self) -> None:
        if len(self.features) not in (1, 2):
            raise ValueError(f"features: {self.features} is not one or two names")
        if self.first_length and len(self.features) == 1:
            raise ValueError(f"first_length: {self.first_length} is for pairs of texts")
        if self.size <= self._special + len(self.features) - 1:
            raise UserError(
                f"--input.max_length={self.size}: that leaves no room for the text beside {self._special} special tokens."
            )

    @property
    def raw_features(self) -> tuple[str, ...]:
        """The one text, or the two."""
        return self.features

    @property
    def libraries(self) -> tuple[str, ...]:
        """Modules whose ops the tokenizer uses."""
        return self.tokenizer.libraries

    @property
    def _special(self) -> int:
        return len(self.before) + len(self.after) + (len(self.between) if len(self.features) == 2 else 0)

    def for_features(self, features: Collection[str]) -> "Text":
        """Returns the preprocessor for data with these raw features: a pair where `text_pair` is among them (or
        `question` and `context`), else a single text."""
        if "question" in features and "context" in features:
            return dataclasses.replace(self, features=("question", "context"))
        pair = f"{self.feature}_pair"
        return dataclasses.replace(self, features=(self.feature, pair) if pair in features else (self.feature,))

    def with_offsets(self) -> "Text":
        """Returns an equal preprocessor whose frame has `offsets` and `part`."""
        return dataclasses.replace(self, offsets=True)

    def with_words(self) -> "Text":
        """Returns an equal preprocessor whose frame has `offsets`, `part`, `word`, `punctuation` and `words`."""
        return dataclasses.replace(self, offsets=True, words=True)

    def with_whole_second(self, *, first_length: int) -> "Text":
        """Returns an equal preprocessor of pairs that makes rows longer than `size`, to be cut into windows.

        The frame has `offsets`, `part`, `second` and `second_text`.

        Args:
            first_length: the most tokens of the first text; it also leaves half of `size` to the second.
        """
        return dataclasses.replace(self, offsets=True, first_length=first_length)

    def host(self, *raw: "tf.Tensor") -> tuple["tf.Tensor", dict[str, "tf.Tensor"]]:
        """Prepares one example.

        Args:
            *raw: scalar string tensors, in the order of `raw_features`. Bytes that are no UTF-8 do no harm.

        Returns:
            `[length, 2]` int32, length up to `size`: id + 1 and segment (0, or 1 for the second text); and the frame:
            `tokens`, scalar int32, is how many there would be if nothing had been cut off. With `offsets`, `offsets` is
            `[length, 2]` int32, the first character and the one after the last in the raw text that the token is from,
            white space before it left out, combining marks behind it included, and `part` `[length]` int32 is 1 for the first text, 2 for the second, 0 for
            special tokens. With `words`, `word` `[length]` int32 is the number, from 1, of the word between spaces that
            the token begins in (0 for special tokens), `punctuation` `[length]` int32 is 1 where it is nothing else, and
            `words`, scalar int32, how many words the text has. With `first_length`, `second` `[4]` int32 is where the
            second text's tokens begin, how many there are (`MOST_TOKENS` at most), how many would fit into `size`, and
            how many special ones come after them, and `second_text` is that text, a scalar string.
        """
        import tensorflow as tf

        return tf.nest.map_structure(lambda rows: rows[0], self._ragged([value[tf.newaxis] for value in raw]))

    def host_batch(self, *raw: "tf.Tensor") -> tuple["tf.Tensor", dict[str, "tf.Tensor"]]:
        """Prepares a batch, `[batch]` strings each; lengths are padded with zeros to the longest."""
        import tensorflow as tf

        values, frame = self._ragged(list(raw))
        dense = {name: part.to_tensor() if isinstance(part, tf.RaggedTensor) else part for name, part in frame.items()}
        return values.to_tensor(), dense

    def _ragged(self, raw: list["tf.Tensor"]) -> tuple["tf.RaggedTensor", dict[str, Any]]:
        import tensorflow as tf

        from tfpt.layers.characters import Characters

        batch = tf.size(raw[0])
        parts = [self.tokenizer.tokenize(texts) for texts in raw]
        lengths = [tf.cast(part.ids.row_lengths(), tf.int32) for part in parts]
        kept = self._kept(lengths)
        characters = [Characters.of(texts) for texts in raw] if self.offsets else []
        width = 2 + 3 * self.offsets + 2 * self.words
        columns = []  # (length of each row, values: id + 1, segment, start, end, part, word, punctuation)

        def special(ids: tuple[int, ...], segment: int) -> None:
            rows = [[k + 1, segment, *[0] * (width - 2)] for k in ids]
            values = tf.tile(tf.constant(rows, tf.int32, [len(ids), width]), [batch, 1])
            columns.append((tf.fill([batch], len(ids)), values))

        special(self.before, 0)
        for k, (part, length) in enumerate(zip(parts, kept, strict=True)):
            if k:
                special(self.between, 0)
            row, position = part.ids.value_rowids(), tf.ragged.range(part.ids.row_lengths()).flat_values
            inside = tf.cast(position, tf.int32) < tf.gather(length, row)
            values = [part.ids.flat_values + 1, tf.fill(tf.shape(row), k)]
            if self.offsets:
                starts, ends = characters[k].trimmed(part.starts, part.ends), part.ends
                complete = characters[k].completed(starts, ends)
                values += [starts.flat_values, complete.flat_values, tf.fill(tf.shape(row), k + 1)]
            if self.words:
                values += [tell(starts, ends).flat_values for tell in (characters[k].words, characters[k].punctuation)]
            columns.append((length, tf.boolean_mask(tf.stack(values, axis=1), inside)))
        special(self.after, len(raw) - 1)
        ragged = [tf.RaggedTensor.from_row_lengths(values, length, validate=False) for length, values in columns]
        rows = tf.concat(ragged, axis=1)
        frame = {"tokens": tf.add_n(lengths) + self._special}
        if self.offsets:
            frame |= {"offsets": rows[..., 2:4], "part": rows[..., 4]}
        if self.words:
            frame |= {"word": rows[..., 5], "punctuation": rows[..., 6], "words": characters[0].word_counts()}
        if self.first_length:
            begin = len(self.before) + kept[0] + len(self.between)
            after = tf.fill([batch], len(self.after))
            frame["second"] = tf.stack([begin, kept[1], self.size - self._special - kept[0], after], axis=1)
            frame["second_text"] = raw[1]
        return rows[..., :2], frame

    def _kept(self, lengths: list["tf.Tensor"]) -> list["tf.Tensor"]:
        """Returns how many tokens of each text are kept."""
        import tensorflow as tf

        room = self.size - self._special
        if self.first_length:
            first, second = lengths
            return [tf.minimum(first, min(self.first_length, room // 2)), tf.minimum(second, MOST_TOKENS)]
        return _longest_first(lengths, room)

    def device(self) -> "keras.layers.Layer":
        """Returns the layer from `[batch, length, 2]` int32 to what the network is fed."""
        from tfpt.layers.token_inputs import TokenInputs

        return TokenInputs(inputs=self.inputs, padding=self.padding)

    def host_spec(self) -> tuple[tuple[int | None, ...], str]:
        """Returns shape and dtype of the tokens; their number varies."""
        return (None, 2), "int32"

    def frame_spec(self) -> dict[str, tuple[tuple[int | None, ...], str]]:
        """Returns shape and dtype of the frame's values."""
        frame: dict[str, tuple[tuple[int | None, ...], str]] = {"tokens": ((), "int32")}
        if self.offsets:
            frame |= {"offsets": ((None, 2), "int32"), "part": ((None,), "int32")}
        if self.words:
            frame |= {"word": ((None,), "int32"), "punctuation": ((None,), "int32"), "words": ((), "int32")}
        if self.first_length:
            frame |= {"second": ((4,), "int32"), "second_text": ((), "string")}
        return frame

    def is_truncated(self, frame: Mapping[str, Any]) -> Any:
        """Tells whether tokens were cut off."""
        kept = frame["second"][0] + frame["second"][1] + len(self.after) if self.first_length else self.size
        return frame["tokens"] > kept

    def reading(self, feature: str) -> "Text":
        """Returns an equal preprocessor for another feature."""
        features = (feature,) if len(self.features) == 1 else (feature, f"{feature}_pair")
        return dataclasses.replace(self, feature=feature, features=features)

    def sample(self) -> bytes:
        """Returns a sentence."""
        return _SAMPLE

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, the vocabulary among them: nothing but a bundle is needed to answer."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        kind = type(self.tokenizer).__module__.rpartition(".")[2]
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {**plain, "inputs": dict(self.inputs), "tokenizer": [kind, self.tokenizer.to_json()]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Text":
        """Makes an equal preprocessor from what `to_json` returned."""
        kind, settings = values["tokenizer"]
        tokenizer = getattr(importlib.import_module(f"tfpt.layers.{kind}"), _TOKENIZERS[kind])
        plain = {**_tuples(values), "tokenizer": tokenizer(**_tuples(settings))}
        return cls(**plain)


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _longest_first(lengths: list["tf.Tensor"], room: int) -> list["tf.Tensor"]:
    """Returns how much of each text is kept: the longer of two is shortened until both fit or are equally long."""
    import tensorflow as tf

    if len(lengths) == 1:
        return [tf.minimum(lengths[0], room)]
    first, second = lengths
    shorter = tf.minimum(tf.minimum(first, second), room // 2)
    longer = tf.minimum(tf.maximum(first, second), room - shorter)
    return [tf.where(first > second, longer, shorter), tf.where(first > second, shorter, longer)]
