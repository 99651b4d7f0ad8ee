"""Answers as spans of tokens in windows: where one stands, and the best one that a model sees."""

import dataclasses
from typing import TYPE_CHECKING, Any

from tfpt.tasks import Tensors
from tfpt.tasks._windows import Windows

if TYPE_CHECKING:
    import tensorflow as tf

NEVER = -1e9
"""The logit of a place where no answer can begin or end."""


def possible(frame: Tensors, windows: Windows) -> "tf.Tensor":
    """Returns where an answer can begin or end, `[batch, windows, places]` bool: at tokens of the context with characters.

    Args:
        frame: of question and context.
        windows: over the context.
    """
    offsets = windows.take(frame["offsets"])
    return windows.inside & (offsets[..., 1] > offsets[..., 0])


def targets(start: "tf.Tensor", text: "tf.Tensor", frame: Tensors, windows: Windows) -> dict[str, "tf.Tensor"]:
    """Returns where in each window the answer stands.

    Args:
        start: `[batch]`, its first character in the context; -1 for questions without an answer.
        text: `[batch]` strings.
        frame: of question and context.
        windows: over the context.

    Returns:
        `start` and `end` `[batch, windows]` int32, its first and last place, 0 in windows that do not hold all of it;
        `possible` `[batch, windows, places]` int32, what the model chooses from; `counts` `[batch, windows]` float32, 0 for
        windows that are not there, and for all of an answer that stands where the context was cut.
    """
    import tensorflow as tf

    start = tf.cast(start, tf.int32)[:, tf.newaxis]
    after = start + tf.strings.length(text, unit="UTF8_CHAR")[:, tf.newaxis]
    begins, ends = frame["offsets"][..., 0], frame["offsets"][..., 1]
    touched = (frame["part"] == 2) & (ends > begins) & (ends > start) & (begins < after) & (start >= 0)
    token = tf.range(tf.shape(touched)[1])
    first = tf.reduce_min(tf.where(touched, token, token.dtype.max), axis=1)
    last = tf.reduce_max(tf.where(touched, token, -1), axis=1)
    places = [windows.places(one) for one in (first, last)]
    whole = (places[0] >= 0) & (places[1] >= 0)
    known = (start < 0) | tf.reduce_any(touched, axis=1, keepdims=True)
    choices = tf.concat([windows.present[..., tf.newaxis], possible(frame, windows)[..., 1:]], axis=-1)
    return {
        "start": tf.where(whole, places[0], 0),
        "end": tf.where(whole, places[1], 0),
        "possible": tf.cast(choices, tf.int32),
        "counts": tf.cast(windows.present & known, tf.float32),
    }


@dataclasses.dataclass(frozen=True)
class BestSpan:
    """The best span of each example, `[batch]` each.

    Attributes:
        found: bool: whether there is a context to choose from.
        text: its characters.
        start: int32: the first of them in the context; `end` the one after the last.
        end: see `start`.
        score: float32: the probability of its start times that of its end.
        none_score: float32: likewise, for no answer.
        against: float32: how much higher the logits are for no answer than for this one.
    """

    found: "tf.Tensor"
    text: "tf.Tensor"
    start: "tf.Tensor"
    end: "tf.Tensor"
    score: "tf.Tensor"
    none_score: "tf.Tensor"
    against: "tf.Tensor"


def best_span(outputs: Any, frame: Tensors, windows: Windows, *, longest: int, unanswerable: bool) -> BestSpan:
    """Finds the span whose start and end logits have the highest sum, in any window.

    No answer has the logits of the first token, of the window where they are lowest (Devlin et al., 2019, section 4.3, and
    their code).

    Args:
        outputs: `[batch, windows, places, 2]`, logits of start and end; more of both than there are windows and places is padding.
        frame: of question and context.
        windows: over the context.
        longest: the most tokens of a span.
        unanswerable: whether no answer is among what the probabilities are shared between.
    """
    import tensorflow as tf

    from tfpt.layers.tokens import valid_utf8

    inside = possible(frame, windows)
    batch, count, width = tf.unstack(tf.shape(inside))
    outputs = outputs[:, :count, :width]
    logits = [tf.where(inside, outputs[..., k], NEVER) for k in range(2)]
    sums = tf.reshape(logits[0] + _highest_ahead(logits[1], longest), [batch, count * width])
    best, logit = tf.argmax(sums, axis=1, output_type=tf.int32), tf.reduce_max(sums, axis=1)
    found = tf.reduce_any(inside, axis=[1, 2])
    source = tf.reshape(windows.source, [batch, count * width])
    first = tf.where(found, tf.gather(source, best, batch_dims=1), 0)
    # Of the best start's window only: where its end is.
    ends = tf.pad(tf.gather(logits[1], best // width, batch_dims=1), [[0, 0], [0, longest]], constant_values=NEVER)
    ahead = tf.gather(ends, (best % width)[:, tf.newaxis] + tf.range(longest), batch_dims=1)
    last = tf.where(found, first + tf.argmax(ahead, axis=1, output_type=tf.int32), 0)
    offsets = tf.pad(frame["offsets"], [[0, 0], [0, 1], [0, 0]])
    begin = tf.where(found, tf.gather(offsets[..., 0], first, batch_dims=1), 0)
    after = tf.where(found, tf.gather(offsets[..., 1], last, batch_dims=1), 0)
    of_none = tf.where(windows.present[..., tf.newaxis], outputs[:, :, 0], -NEVER)
    lowest = tf.argmin(tf.reduce_sum(of_none, axis=-1), axis=1)
    none = tf.reduce_sum(tf.gather(of_none, lowest, batch_dims=1), axis=-1)
    chosen_from = [tf.reshape(values, [batch, count * width]) for values in logits]
    if unanswerable:
        chosen_from = [
            tf.concat([values, tf.where(windows.present, outputs[:, :, 0, k], NEVER)], axis=1)
            for k, values in enumerate(chosen_from)
        ]
    total = tf.add_n([tf.reduce_logsumexp(values, axis=1) for values in chosen_from])
    return BestSpan(
        found=found,
        text=tf.strings.substr(valid_utf8(frame["second_text"]), begin, after - begin, unit="UTF8_CHAR"),
        start=begin,
        end=after,
        score=tf.exp(logit - total),
        none_score=tf.where(found, tf.exp(none - total), 1.0),
        against=tf.where(found, none - logit, 0.0),
    )


def _highest_ahead(values: "tf.Tensor", reach: int) -> "tf.Tensor":
    """Returns the highest of each value and the `reach - 1` behind it, in memory that does not grow with `reach`.

    Args:
        values: `[batch, windows, places]`; beyond the last there is `NEVER`.
        reach: at least 1.
    """
    import tensorflow as tf

    width, covered = tf.shape(values)[2], 1
    while covered < reach:
        step = min(covered, reach - covered)
        later = tf.pad(values, [[0, 0], [0, 0], [0, step]], constant_values=NEVER)[..., step : step + width]
        values, covered = tf.maximum(values, later), covered + step
    return values
