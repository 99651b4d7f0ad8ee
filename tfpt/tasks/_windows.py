"""Windows over the second of two texts, where both together are longer than the trunk reads."""

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Windows:
    """The windows of a batch of pairs: each holds the whole first text and a part of the second.

    Attributes:
        source: `[batch, windows, places]` int32: the token of the uncut pair at each place, -1 where there is none.
        inside: `[batch, windows, places]` bool: whether it is of the second text.
        present: `[batch, windows]` bool: whether the pair has so many windows; it has at least one.
        shift: `[batch, windows]` int32: token minus place, in the second text.
    """

    source: "tf.Tensor"
    inside: "tf.Tensor"
    present: "tf.Tensor"
    shift: "tf.Tensor"

    @classmethod
    def of(cls, second: "tf.Tensor", *, overlap: int) -> "Windows":
        """Lays windows from the beginning of the second text to its end.

        Args:
            second: `[batch, 4]` int32, as `preprocessors.text.Text` tells it: where the second text's tokens begin, how many
                there are, how many fit into a window, and how many tokens come after them.
            overlap: how many tokens two neighbours share; half of what fits into a window at most.
        """
        import tensorflow as tf

        # Not second[:, k, newaxis, newaxis]: where it comes from a stack, TensorFlow 2.21 optimises one newaxis away.
        begin, length, room, after = (tf.reshape(part, [-1, 1, 1]) for part in tf.unstack(second, axis=1))
        step = tf.maximum(1, room - tf.minimum(overlap, room // 2))
        count = 1 + tf.maximum(0, (length - room + step - 1) // step)
        windows = tf.range(tf.reduce_max(count))[:, tf.newaxis]
        place = tf.range(tf.maximum(1, tf.reduce_max(begin + tf.minimum(length, room) + after)))
        shift = windows * step
        end = begin + tf.clip_by_value(length - shift, 0, room)
        inside = (place >= begin) & (place < end)
        rest = tf.where(place < begin, place, tf.where(place < end + after, place - end + begin + length, -1))
        present = windows < count
        source = tf.where(present, tf.where(inside, place + shift, rest), -1)
        return cls(source, inside & present, present[..., 0], shift[..., 0])

    def take(self, values: "tf.Tensor") -> "tf.Tensor":
        """Returns what stands at each place, `[batch, windows, places, ...]`, zeros where there is nothing.

        Args:
            values: `[batch, tokens, ...]`, of the uncut pair.
        """
        import tensorflow as tf

        last = tf.shape(values)[1]
        padded = tf.pad(values, [[0, 0], [0, 1], *[[0, 0]] * (values.shape.rank - 2)])
        return tf.gather(padded, tf.where(self.source < 0, last, self.source), batch_dims=1)

    def places(self, token: "tf.Tensor") -> "tf.Tensor":
        """Returns the place of one token of each pair's second text, `[batch, windows]` int32; -1 where it is not."""
        import tensorflow as tf

        place = token[:, tf.newaxis] - self.shift
        there = tf.reduce_any(self.inside & (self.source == token[:, tf.newaxis, tf.newaxis]), axis=-1)
        return tf.where(there, place, -1)
