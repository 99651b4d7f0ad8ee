"""Which spans of a text are what (names, places, ...): a linear layer on each token's vector."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfpt.config import check, setting
from tfpt.errors import UserError
from tfpt.layers.dense_stack import dense_stack
from tfpt.tasks import Primary, State, Task, Tensors
from tfpt.tasks._checkpoint_head import head_setting

if TYPE_CHECKING:
    import keras
    import numpy as np

    from tfpt.backbones import CheckpointHead
    from tfpt.data import DataSource
    from tfpt.preprocessors import Preprocessor


class TokenClassification(Task):
    """A tag for each word of a text; tags in IOB2 are read as spans.

    A word's tag is that of its first token that is no punctuation. One that was cut off, or that has no token, counts as
    tagged O.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        """Flags of the group `task`."""

        head: str = head_setting()
        dropout: float = setting(0.0, "Share of each token's vector that is dropped before the head in training.")

        def __post_init__(self) -> None:
            check(0 <= self.dropout < 1, f"dropout: {self.dropout} is not at least 0 and below 1")

    primary = Primary("f1")
    endpoints = ("pooled", "sequence")
    modalities = ("text",)
    kept_answers = ("start", "end", "label", "score")

    def adapt_preprocessor(self, preprocessor: "Preprocessor") -> "Preprocessor":
        """Asks for the word and the place of each token."""
        from tfpt.preprocessors.text import Text

        if not isinstance(preprocessor, Text):
            raise UserError(
                "--backbone: its tokenizer does not say where in a text each token is, which token_classification needs; "
                "take one of hf:, kerashub: or tiny:transformer."
            )
        return preprocessor.with_words()

    def adapt(self, source: "DataSource", train: "np.ndarray") -> State:
        """Takes the tags from the source."""
        info = source.info()
        if "tags" not in info.features:
            raise UserError(
                f"--data: {info.origin or 'the source'} has no tags, which token_classification needs; it has "
                f"{', '.join(info.features)}."
            )
        if len(info.classes) < 2:
            raise UserError(f"--data: {info.origin or 'the source'} has no other tag than {', '.join(info.classes)}.")
        return {"classes": list(info.classes)}

    def batch(self, features: Tensors, frame: Tensors, state: State, training: bool) -> dict[str, Any]:
        """Takes the tokens as input; targets are each word's `tags` and `position`, the token that has it, both plus 1.

        So 0 is padding, as everywhere, and the position of a word without a token.
        """
        import tensorflow as tf

        from tfpt.tasks._tagging import label_positions

        made: dict[str, Any] = {"inputs": features["text"], "weight": features.get("weight")}
        if "tags" in features:
            tags, (told,) = tf.cast(features["tags"], tf.int32), frame.values()
            words = tf.shape(tags)[1]
            position = label_positions(told["word"], told["punctuation"], words)
            there = tf.sequence_mask(told["words"], words)
            made["targets"] = {"tags": tf.where(there, tags + 1, 0), "position": position + 1}
        return made

    def build(self, trunks: Mapping[str, "keras.layers.Layer"], state: State) -> "keras.Model":
        """Puts dropout and a linear layer on each token's vector; the layer starts at zero, so all tags start equal."""
        import keras

        (trunk,) = trunks.values()
        inputs = trunk.host_input()
        sequence = trunk(inputs)["sequence"]
        if "head" in state:
            logits = dense_stack(sequence, state["head"], dropout=self.config.dropout)
            return keras.Model(inputs, logits, name="token_classification")
        dropped = keras.layers.Dropout(self.config.dropout, dtype="float32", name="head_dropout")(sequence)
        head = keras.layers.Dense(len(state["classes"]), kernel_initializer="zeros", dtype="float32", name="head")
        return keras.Model(inputs, head(dropped), name="token_classification")

    def take_head(self, head: "CheckpointHead", state: State | None = None) -> State:
        """Takes over the tags of a token classifier."""
        if head.endpoint != "sequence":
            raise UserError(
                "--task.head=checkpoint: the checkpoint's head answers whole texts; choose --task=text_classification."
            )
        return {**(state or {"classes": list(head.classes)}), "head": head.plan()}

    def loss(self, model: "keras.Model", batch: Tensors, training: bool) -> tuple[Any, Any, Any]:
        """Returns the summed cross-entropy of the labelled tokens, in nats, their number, and the logits."""
        import tensorflow as tf

        outputs = model(batch["inputs"], training=training)
        tags, position = _targets(batch)
        logits = tf.gather(outputs, tf.maximum(position, 0), batch_dims=1)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(tags, 0), logits)
        counts = tf.cast((tags >= 0) & (position >= 0), tf.float32) * batch["weight"][:, tf.newaxis]
        return tf.reduce_sum(losses * counts), tf.reduce_sum(counts), outputs

    def decode(self, outputs: Any, frame: Tensors, state: State) -> dict[str, Any]:
        """Returns the spans in their order.

        `start` and `end` `[batch, spans]` int32 are the first character and the one after the last in the raw text,
        `label` the type, and `score` the mean probability of the words' tags. Texts with fewer spans than others have
        the label "" behind them.
        """
        import tensorflow as tf

        from tfpt.tasks._tagging import TagSet, label_positions, of_words

        tag_set = TagSet.of(state["classes"])
        (told,) = frame.values()
        word, punctuation, offsets = told["word"], told["punctuation"], told["offsets"]
        words = tf.reduce_max(tf.concat([tf.reshape(word, [-1]), [0]], axis=0))
        position = label_positions(word, punctuation, words)
        scores = tf.nn.softmax(outputs)
        tag_of_token = tf.argmax(scores, axis=-1, output_type=tf.int32)[:, : tf.shape(word)[1]]
        spans = tag_set.spans(_tags(outputs, position, tag_set.outside))
        # Punctuation at the edges of a word belongs to the span only if the model says so.
        bare = (punctuation == 1) & (tag_of_token == tag_set.outside)
        inside = tf.where(bare, 0, word)
        first = of_words(tf.math.unsorted_segment_min, offsets[..., 0], inside, words)
        after = of_words(tf.math.unsorted_segment_max, offsets[..., 1], inside, words)
        of_tag = tf.reduce_max(tf.gather(scores, tf.maximum(position, 0), batch_dims=1), axis=-1)
        last = tf.minimum(tf.range(words) + spans.length - 1, words - 1)

        def listed(values: Any) -> Any:
            return tf.ragged.boolean_mask(values, spans.starts).to_tensor()

        types = tf.constant(["", *tag_set.types])
        return {
            "start": listed(first),
            "end": listed(tf.gather(after, last, batch_dims=1)),
            "label": listed(tf.gather(types, spans.kinds + 1)),
            "score": listed(spans.mean(of_tag)),
        }

    def statistics(self, outputs: Any, batch: Tensors, state: State) -> dict[str, Any]:
        """Returns counts of each text: `true`, `predicted` and `correct` spans by type, `words`, `right` and `cut_off` ones."""
        import tensorflow as tf

        from tfpt.tasks._tagging import TagSet

        tag_set = TagSet.of(state["classes"])
        tags, position = _targets(batch)
        there = tags >= 0
        found = tf.where(there, _tags(outputs, position, tag_set.outside), -1)
        true, predicted = tag_set.spans(tags), tag_set.spans(found)
        types = len(tag_set.types)

        def count(which: Any) -> Any:
            return tf.reduce_sum(tf.cast(which, tf.int32), axis=1)

        return {
            "true": true.counts(true.starts, types),
            "predicted": predicted.counts(predicted.starts, types),
            "correct": true.counts(true.also_in(predicted), types),
            "words": count(there),
            "right": count(there & (found == tags)),
            "cut_off": count(there & (position < 0)),
        }

    def metrics(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, float]:
        """Returns precision, recall and F1 over all spans (micro average), the share of words with the right tag, and the
        share of words that were cut off."""
        true, predicted, correct = (int(statistics[name].sum()) for name in ("true", "predicted", "correct"))
        words = max(1, int(statistics["words"].sum()))
        return {
            **_precision_recall_f1(true, predicted, correct),
            "word_accuracy": float(statistics["right"].sum() / words),
            "cut_off": float(statistics["cut_off"].sum() / words),
        }

    def details(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, Any]:
        """Returns precision, recall and F1 of each type."""
        from tfpt.tasks._tagging import TagSet

        types = TagSet.of(state["classes"]).types
        counts = zip(*(statistics[name].sum(axis=0).tolist() for name in ("true", "predicted", "correct")), strict=True)
        rows = [
            {"class": name, **_precision_recall_f1(*found), "support": found[0]}
            for name, found in zip(types, counts, strict=True)
        ]
        return {"classes": list(types), "per_class": rows, "counted": "spans"}

    def metric_names(self) -> Sequence[str]:
        """Returns the names of what `metrics` returns."""
        return ("precision", "recall", "f1", "word_accuracy", "cut_off")


def _targets(batch: Tensors) -> tuple[Any, Any]:
    """Returns tag and position of each word, `[batch, words]` int32 each, -1 where there is none."""
    return batch["targets"]["tags"] - 1, batch["targets"]["position"] - 1


def _tags(outputs: Any, position: Any, outside: int) -> Any:
    """Returns the most probable tag of each word, `[batch, words]` int32; `outside` where there is no token."""
    import tensorflow as tf

    logits = tf.gather(outputs, tf.maximum(position, 0), batch_dims=1)
    return tf.where(position >= 0, tf.argmax(logits, axis=-1, output_type=tf.int32), outside)


def _precision_recall_f1(true: int, predicted: int, correct: int) -> dict[str, float]:
    return {
        "precision": correct / max(1, predicted),
        "recall": correct / max(1, true),
        "f1": 2 * correct / max(1, true + predicted),
    }
