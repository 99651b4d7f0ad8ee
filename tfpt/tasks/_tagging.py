"""Words with tags, and the spans that they make."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

_IOB2 = re.compile(r"O|[BI]-.+", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class TagSet:
    """What the tags mean, one entry a tag each but for `types`.

    Tags in IOB2 make spans of the types behind the hyphen. Any other tags (parts of speech, for one) are types
    themselves, and each word is a span.

    Attributes:
        types: the types of spans, in order.
        kinds: index into `types`; -1 for the tag that is in no span.
        begins: whether the tag begins a span, whatever comes before it.
        outside: index of the tag that is in no span; -1 when there is none.
    """

    types: tuple[str, ...]
    kinds: tuple[int, ...]
    begins: tuple[bool, ...]
    outside: int

    @classmethod
    def of(cls, tags: Sequence[str]) -> "TagSet":
        """Reads the tags' names."""
        if not all(map(_IOB2.fullmatch, tags)):
            return cls(tuple(tags), tuple(range(len(tags))), (True,) * len(tags), -1)
        types = tuple(dict.fromkeys(tag[2:] for tag in tags if tag != "O"))
        kinds = tuple(-1 if tag == "O" else types.index(tag[2:]) for tag in tags)
        begins = tuple(tag.startswith("B-") for tag in tags)
        return cls(types, kinds, begins, tags.index("O") if "O" in tags else -1)

    def spans(self, tags: "tf.Tensor") -> "Spans":
        """Returns the spans that tags make.

        A span begins at B, and at I where no span of its type goes on, as in conlleval (Tjong Kim Sang and De Meulder,
        2003) and as seqeval reads tags by default.

        Args:
            tags: `[batch, words]` int32, indices of tags; -1 is in no span.
        """
        import tensorflow as tf

        # The entry in front is for -1.
        kinds = tf.gather(tf.constant([-1, *self.kinds]), tags + 1)
        begins = tf.gather(tf.constant([False, *self.begins]), tags + 1)
        before = tf.pad(kinds, [[0, 0], [1, 0]], constant_values=-1)[:, :-1]
        starts = (kinds >= 0) & (begins | (kinds != before))
        goes_on = (kinds >= 0) & ~starts
        rows, words = tf.unstack(tf.shape(tags))
        # Each run of a first word and those that go on has a number of its own.
        run = tf.cumsum(tf.cast(~goes_on, tf.int32), axis=1) + (words + 1) * tf.range(rows)[:, tf.newaxis]
        length = tf.gather(tf.math.unsorted_segment_sum(tf.ones_like(run), run, rows * (words + 1)), run)
        return Spans(kinds, starts, length, run)


@dataclasses.dataclass(frozen=True)
class Spans:
    """The spans of a batch of texts, told at their words.

    Attributes:
        kinds: `[batch, words]` int32: type of the span that the word is in, -1 for none.
        starts: `[batch, words]` bool: whether a span begins here.
        length: `[batch, words]` int32: how many words the span has.
        run: `[batch, words]` int32: a number that only the words of one span share, below batch * (words + 1).
    """

    kinds: "tf.Tensor"
    starts: "tf.Tensor"
    length: "tf.Tensor"
    run: "tf.Tensor"

    def counts(self, which: "tf.Tensor", types: int) -> "tf.Tensor":
        """Returns how many spans of each type there are, `[batch, types]` int32.

        Args:
            which: `[batch, words]` bool: the spans that count, told at their first words.
            types: how many there are.
        """
        import tensorflow as tf

        of_type = tf.one_hot(tf.where(which & self.starts, self.kinds, -1), types, dtype=tf.int32)
        return tf.reduce_sum(of_type, axis=1)

    def mean(self, values: "tf.Tensor") -> "tf.Tensor":
        """Returns the mean over the words of each word's span, `[batch, words]`."""
        import tensorflow as tf

        rows, words = tf.unstack(tf.shape(values))
        total = tf.math.unsorted_segment_sum(values, self.run, rows * (words + 1))
        return tf.gather(total, self.run) / tf.cast(self.length, values.dtype)

    def also_in(self, other: "Spans") -> "tf.Tensor":
        """Returns whether the span that begins at a word is in the other ones, too: `[batch, words]` bool."""
        return self.starts & other.starts & (self.kinds == other.kinds) & (self.length == other.length)


def label_positions(word: "tf.Tensor", punctuation: "tf.Tensor", words: "tf.Tensor") -> "tf.Tensor":
    """Returns which token of each word has its label: the first one that is no punctuation, or else the first.

    Words of prepared data are mostly split at punctuation. In a text as people write it, "(Paris)." is one word, and what
    it is called for is not at its beginning.

    Args:
        word: `[batch, length]` int32: number of each token's word from 1; 0 for tokens of none.
        punctuation: `[batch, length]` int32: 1 for tokens that are nothing else.
        words: scalar int32.

    Returns:
        `[batch, words]` int32; -1 for words without tokens and those that were cut off.
    """
    import tensorflow as tf

    length = tf.shape(word)[1]
    order = tf.range(length) + length * punctuation
    first = of_words(tf.math.unsorted_segment_min, order, word, words)
    return tf.where(first < 2 * length, first % tf.maximum(length, 1), -1)


def of_words(
    reduce: Callable[..., "tf.Tensor"], values: "tf.Tensor", word: "tf.Tensor", words: "tf.Tensor"
) -> "tf.Tensor":
    """Reduces values of tokens, `[batch, length]`, to values of words, `[batch, words]`.

    Args:
        reduce: an unsorted segment reduction; its own values stand for words without tokens.
        values: of tokens.
        word: `[batch, length]` int32: number of each token's word from 1; 0 for tokens of none.
        words: scalar int32.
    """
    import tensorflow as tf

    rows = tf.shape(word)[0]
    segment = tf.where(word <= words, word, 0) + (words + 1) * tf.range(rows)[:, tf.newaxis]
    return tf.reshape(reduce(values, segment, rows * (words + 1)), [rows, words + 1])[:, 1:]
