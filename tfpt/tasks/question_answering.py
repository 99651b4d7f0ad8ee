"""Which part of a text answers a question: a linear layer on each token's vector for the answer's start and end.

Devlin et al., 2019 (arXiv:1810.04805), sections 4.2 and 4.3. A text that is longer than the trunk reads is cut into windows
that overlap, and the answer is the best span in any of them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfpt.config import check, setting
from tfpt.errors import UserError
from tfpt.tasks import Primary, State, Task, Tensors
from tfpt.untuned import untuned

if TYPE_CHECKING:
    import keras
    import numpy as np

    from tfpt.data import DataSource
    from tfpt.preprocessors import Preprocessor
    from tfpt.tasks._answer_spans import BestSpan
    from tfpt.tasks._windows import Windows

_PARTS = ("has_answer_exact_match", "has_answer_f1", "no_answer_accuracy")
"""Metrics of the questions with an answer, and of those without."""


class QuestionAnswering(Task):
    """Extractive answers; where training data has questions without an answer, it may say that there is none.

    The first token of each window stands for "no answer here".
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        """Flags of the group `task`."""

        max_question_length: int = setting(
            64, "Longest question in tokens; what is longer is cut, also to half of --input.max_length."
        )
        stride: int = setting(
            128, "Tokens that two windows of a long text share; half of what fits into a window at most."
        )
        max_answer_length: int = setting(30, "Longest answer in tokens.")
        unanswerable: str = setting(
            "auto",
            "Whether the model may say that a text holds no answer; auto: if training data has such questions.",
            choices=("auto", "yes", "no"),
        )
        dropout: float = setting(0.0, "Share of each token's vector that is dropped before the head in training.")

        def __post_init__(self) -> None:
            check(self.max_question_length >= 1, f"max_question_length: {self.max_question_length} is not at least 1")
            check(self.stride >= 0, f"stride: {self.stride} is negative")
            check(self.max_answer_length >= 1, f"max_answer_length: {self.max_answer_length} is not at least 1")
            check(0 <= self.dropout < 1, f"dropout: {self.dropout} is not at least 0 and below 1")

    primary = Primary("f1")
    proportions = ("exact_match",)
    endpoints = ("pooled", "sequence")
    modalities = ("text",)
    kept_answers = ("answer", "start", "end", "score")
    caches_features = False

    def adapt_preprocessor(self, preprocessor: "Preprocessor") -> "Preprocessor":
        """Asks for the whole context and the place of each token."""
        from tfpt.preprocessors.text import Text

        if not isinstance(preprocessor, Text):
            raise UserError(
                "--backbone: its tokenizer does not say where in a text each token is, which question_answering needs; "
                "take one of hf:, kerashub: or tiny:transformer."
            )
        if preprocessor.raw_features != ("question", "context"):
            raise UserError(
                "--task=question_answering needs data with question and context, such as --data=squad:PATH; this data "
                f"has {' and '.join(preprocessor.raw_features)}."
            )
        return preprocessor.with_whole_second(first_length=self.config.max_question_length)

    def adapt(self, source: "DataSource", train: "np.ndarray") -> State:
        """Looks for questions without an answer."""
        info = source.info()
        missing = [name for name in ("answer_text", "answer_start", "answers") if name not in info.features]
        if missing:
            raise UserError(
                f"--data: {info.origin or 'the source'} has no {missing[0]}, which question_answering needs; it has "
                f"{', '.join(info.features)}."
            )
        unanswerable = self.config.unanswerable
        may = _has_unanswerable(source, train) if unanswerable == "auto" else unanswerable == "yes"
        return {"unanswerable": may, "threshold": 0.0}

    def batch(self, features: Tensors, frame: Tensors, state: State, training: bool) -> dict[str, Any]:
        """Cuts the pairs into windows, `[batch, windows, places, 2]`; targets are where in each the answer begins and ends."""
        from tfpt.tasks._answer_spans import targets

        (told,) = frame.values()
        windows = self._windows(told)
        made: dict[str, Any] = {"inputs": windows.take(features["text"]), "weight": features.get("weight")}
        if "answer_start" in features:
            made["targets"] = targets(features["answer_start"], features["answer_text"], told, windows)
            if not training:  # texts cannot go where a step of training may run
                made["targets"]["answers"] = features["answers"]
        return made

    def build(self, trunks: Mapping[str, "keras.layers.Layer"], state: State) -> "keras.Model":
        """Runs the trunk over all windows and puts dropout and a linear layer on each token's vector."""
        import keras

        from tfpt.layers.windows import JoinWindows, SplitWindows

        (trunk,) = trunks.values()
        example = trunk.host_input()
        inputs = keras.Input((None, *example.shape[1:]), dtype=example.dtype, name=example.name)
        sequence = trunk(JoinWindows(name="join_windows")(inputs))["sequence"]
        dropped = keras.layers.Dropout(self.config.dropout, dtype="float32", name="head_dropout")(sequence)
        logits = keras.layers.Dense(2, kernel_initializer="zeros", dtype="float32", name="head")(dropped)
        return keras.Model(inputs, SplitWindows(name="split_windows")(logits, inputs), name="question_answering")

    def trunk_inputs(self, inputs: Any, names: Sequence[str]) -> dict[str, Any]:
        """Returns the first window."""
        return {names[0]: inputs[:, 0]}

    def predict(self, model: "keras.Model", inputs: Any) -> Any:
        """Returns the logits `[batch, windows, places, 2]`, one window at a time: memory does not grow with the text."""
        import tensorflow as tf

        by_window = tf.map_fn(
            lambda window: model(window[:, tf.newaxis], training=False)[:, 0],
            tf.transpose(inputs, [1, 0, 2, 3]),
            fn_output_signature=tf.TensorSpec([None, None, 2]),
            parallel_iterations=1,
        )
        return tf.transpose(by_window, [1, 0, 2, 3])

    def loss(self, model: "keras.Model", batch: Tensors, training: bool) -> tuple[Any, Any, Any]:
        """Returns the summed cross-entropy of the windows, in nats, the mean of start and end, and how many they are.

        A window without the answer has its first token for start and end.
        """
        import tensorflow as tf

        from tfpt.tasks._answer_spans import NEVER

        outputs = model(batch["inputs"], training=True) if training else self.predict(model, batch["inputs"])
        targets = batch["targets"]
        logits = tf.where(targets["possible"][..., tf.newaxis] > 0, outputs, NEVER)
        losses = [
            tf.nn.sparse_softmax_cross_entropy_with_logits(targets[name], logits[..., k])
            for k, name in enumerate(("start", "end"))
        ]
        counts = targets["counts"] * batch["weight"][:, tf.newaxis]
        return tf.reduce_sum(tf.add_n(losses) / 2 * counts), tf.reduce_sum(counts), outputs

    def decode(self, outputs: Any, frame: Tensors, state: State) -> dict[str, Any]:
        """Returns the `answer`, its characters in the raw context (`start`, and `end` behind it), and its `score`.

        The score is the probability of its start times that of its end, among all windows. No answer is "", from 0 to 0.
        """
        import tensorflow as tf

        best = self._best(outputs, frame, state)
        none = ~best.found | (state["unanswerable"] & (best.against > state["threshold"]))
        return {
            "answer": tf.where(none, "", best.text),
            "start": tf.where(none, 0, best.start),
            "end": tf.where(none, 0, best.end),
            "score": tf.where(none, best.none_score, best.score),
        }

    def statistics(self, outputs: Any, batch: Tensors, state: State) -> dict[str, Any]:
        """Returns the best span's `text`, what speaks `against` any answer, and all accepted `answers`."""
        best = self._best(outputs, batch["frame"], state)
        return {"text": best.text, "against": best.against, "answers": batch["targets"]["answers"]}

    def finish_statistics(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, "np.ndarray"]:
        """Compares texts: `exact_match` and `f1` of the best span, the same of `no_answer`, and `answerable`."""
        import numpy as np

        from tfpt.data._questions import SEPARATOR
        from tfpt.metrics.answers import exact_match, f1

        texts = [text.decode("utf-8", "replace") for text in statistics["text"]]
        accepted = [answers.decode("utf-8", "replace").split(SEPARATOR) for answers in statistics["answers"]]
        return {
            "exact_match": np.array([exact_match(*pair) for pair in zip(texts, accepted, strict=True)]),
            "f1": np.array([f1(*pair) for pair in zip(texts, accepted, strict=True)]),
            "no_answer": np.array([exact_match("", answers) for answers in accepted]),
            "answerable": np.array([answers != [""] for answers in accepted]),
            "against": statistics["against"],
        }

    def calibrates(self, state: State) -> bool:
        """Tells whether there may be no answer."""
        return bool(state["unanswerable"])

    def calibrate(self, statistics: Mapping[str, "np.ndarray"], state: State) -> State:
        """Chooses the threshold over which there is no answer, for the best F1."""
        return {**state, "threshold": _best_threshold(statistics)}

    def metrics(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, float]:
        """Returns exact match and F1; where the model may find no answer, also of questions with and without one."""
        import numpy as np

        none = (statistics["against"] > state["threshold"]) & state["unanswerable"]
        exact, f1 = (np.where(none, statistics["no_answer"], statistics[name]) for name in ("exact_match", "f1"))
        found = {"exact_match": float(exact.mean()), "f1": float(f1.mean())}
        if not state["unanswerable"]:
            return found
        answerable = statistics["answerable"]
        parts = (exact[answerable], f1[answerable], exact[~answerable])
        means = [float(part.mean()) if part.size else float("nan") for part in parts]
        return {**found, **dict(zip(_PARTS, means, strict=True))}

    def details(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, Any]:
        """Returns how many questions have an answer, the threshold, and how often an answer was given or none."""
        import numpy as np

        answerable = statistics["answerable"]
        counts = {"answerable": int(answerable.sum()), "unanswerable": int((~answerable).sum())}
        if not state["unanswerable"]:
            return counts
        given = statistics["against"] <= state["threshold"]
        confusion = [[int(np.sum(a & g)) for g in (given, ~given)] for a in (answerable, ~answerable)]
        names = ["an answer", "no answer"]
        return {**counts, "threshold": state["threshold"], "classes": names, "confusion": confusion}

    def metric_names(self) -> Sequence[str]:
        """Returns the names of what `metrics` may return."""
        return ("exact_match", "f1", *_PARTS)

    def metric_names_of(self, state: State) -> Sequence[str]:
        """Returns the names of what `metrics` returns."""
        return self.metric_names() if state["unanswerable"] else ("exact_match", "f1")

    def _windows(self, told: Tensors) -> "Windows":
        from tfpt.tasks._windows import Windows

        return Windows.of(told["second"], overlap=self.config.stride)

    def _best(self, outputs: Any, frame: Tensors, state: State) -> "BestSpan":
        from tfpt.tasks._answer_spans import best_span

        (told,) = frame.values()
        longest, unanswerable = self.config.max_answer_length, state["unanswerable"]
        return best_span(outputs, told, self._windows(told), longest=longest, unanswerable=unanswerable)


def _has_unanswerable(source: "DataSource", examples: "np.ndarray") -> bool:
    import tensorflow as tf

    starts = tf.data.Dataset.from_tensor_slices(examples).map(lambda k: source.example(k)["answer_start"])
    return any((start < 0).any() for start in untuned(starts.batch(1024)).as_numpy_iterator())


def _best_threshold(statistics: Mapping[str, "np.ndarray"]) -> float:
    """Returns what `against` must exceed for the F1 without these answers to be highest."""
    import numpy as np

    order = np.argsort(statistics["against"], kind="stable")
    against, f1, none = (statistics[name][order] for name in ("against", "f1", "no_answer"))
    # Entry k: the first k are answered.
    totals = np.concatenate([[0.0], np.cumsum(f1)]) + np.concatenate([np.cumsum(none[::-1])[::-1], [0.0]])
    bounds = np.concatenate([[against[0] - 1], (against[:-1] + against[1:]) / 2, [against[-1] + 1]])
    splits = np.concatenate([[True], against[:-1] < against[1:], [True]])
    return float(bounds[np.argmax(np.where(splits, totals, -1.0))])
