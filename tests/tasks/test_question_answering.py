"""Answers as spans: targets in windows, the best span against all spans one by one, and when there is none."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpt.data import DataSource, Info
from tfpt.data._questions import SEPARATOR
from tfpt.errors import UserError
from tfpt.layers.hashed_words import HashedWords
from tfpt.preprocessors.text import Text
from tfpt.tasks.question_answering import QuestionAnswering

SIZE = 12
STATE = {"unanswerable": True, "threshold": 0.0}
LONG = "Zoë went 👍 to Köln and then, as far as one knows, to Bonn on the old Rhine"


def task(**config):
    return QuestionAnswering(config=QuestionAnswering.Config(**{"stride": 2, "max_answer_length": 3, **config}))


def prepared(one, *pairs, size=SIZE):
    """Returns tokens and frame of pairs of question and context; each word and each punctuation mark is a token."""
    plain = Text(size=size, tokenizer=HashedWords(1000, reserved=2), before=(0,), between=(1,), after=(1,))
    preprocessor = one.adapt_preprocessor(plain.for_features({"question", "context"}))
    values, frame = preprocessor.host_batch(*(tf.constant(texts) for texts in zip(*pairs, strict=True)))
    return values, {"text": frame}


def batch(one, values, frame, answers, *, training=True):
    """Returns the task's batch; answers are (text, start) each."""
    texts, starts = zip(*answers, strict=True)
    features = {"answer_text": tf.constant(texts), "answer_start": tf.constant(starts, tf.int64)}
    features |= {"text": values, "answers": tf.constant(texts), "weight": tf.ones([len(texts)])}
    return one.batch(features, frame, STATE, training)


def test_windows_that_hold_the_whole_answer_have_its_places_and_the_others_their_first_token():
    one = task()
    answers = [(text, LONG.find(text)) for text in ("Köln", "Köln and then", "👍", "nothing")]
    answers[3] = ("", -1)
    values, frame = prepared(one, *[("where to?", LONG)] * 4)
    made = batch(one, values, frame, answers)
    inputs, targets = made["inputs"].numpy(), {name: value.numpy() for name, value in made["targets"].items()}
    assert inputs.shape[2:] == (SIZE, 2) and set(targets) == {"start", "end", "possible", "counts"}
    assert targets["counts"].all()
    ids = values.numpy()[0, :, 0]
    offsets = frame["text"]["offsets"].numpy()[0]
    for k, (text, start) in enumerate(answers):
        tokens = [t for t, (a, b) in enumerate(offsets) if t > 4 and a < start + len(text) and b > start]
        held = False
        for window, first, last in zip(inputs[k], targets["start"][k], targets["end"][k], strict=True):
            row = window[:, 0].tolist()
            wanted = ids[tokens].tolist()
            whole = bool(wanted) and any(row[i : i + len(wanted)] == wanted for i in range(len(row)))
            assert (first > 0) == (last > 0) == whole
            if whole:
                assert row[first : last + 1] == wanted
            held |= whole
        assert held == (start >= 0)
    # what is chosen from: the first token, and the context behind the five tokens of the question, up to the last one
    lengths = (inputs[0, :, :, 0] > 0).sum(axis=1)
    for possible, length in zip(targets["possible"][0], lengths, strict=True):
        assert possible.tolist() == [1, 0, 0, 0, 0, *[1] * (length - 6), *[0] * (SIZE - length + 1)]


def test_texts_go_where_no_training_step_runs():
    one = task()
    values, frame = prepared(one, ("who", "Zoë"))
    assert "answers" in batch(one, values, frame, [("Zoë", 0)], training=False)["targets"]


def test_an_answer_behind_the_last_token_weighs_nothing():
    one = task()
    values, frame = prepared(one, ("who", "Zoë"), ("who", "Zoë  "))
    counts = batch(one, values, frame, [("Zoë", 0), (" ", 4)])["targets"]["counts"]
    assert counts.numpy().tolist() == [[1.0], [0.0]]


def test_the_loss_is_the_mean_of_both_cross_entropies_over_what_is_possible():
    one = task()
    values, frame = prepared(one, ("who", "Zoë went"), ("who", LONG))
    made = batch(one, values, frame, [("went", 4), ("", -1)])
    windows = made["inputs"].shape[1]
    inputs = keras.Input((None, None, 2), dtype="int32")
    outputs = tf.random.stateless_normal([2, windows, SIZE, 2], [0, 1])
    model = keras.Model(inputs, keras.layers.Lambda(lambda _: outputs)(inputs))
    loss, weight, _ = one.loss(model, made, True)
    targets = {name: value.numpy() for name, value in made["targets"].items()}
    total = 0.0
    for k, w in np.argwhere(targets["counts"] > 0):
        for side, name in enumerate(("start", "end")):
            chosen = outputs[k, w, :, side].numpy()
            possible = chosen[targets["possible"][k, w] > 0]
            total += (np.log(np.exp(possible).sum()) - chosen[targets[name][k, w]]) / 2
    assert float(weight) == 1 + windows
    assert float(loss) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("unanswerable", [True, False])
@pytest.mark.parametrize("context", [LONG, "Köln", "", " ", "a . b"])
def test_the_best_span_is_that_of_trying_all(unanswerable, context):
    one, state = task(), {**STATE, "unanswerable": unanswerable}
    values, frame = prepared(one, ("where to?", context), ("where?", "in Bonn " * 5))
    inputs = one.batch({"text": values}, frame, state, False)["inputs"]
    for seed in range(20):
        outputs = tf.random.stateless_normal([*inputs.shape[:3], 2], [seed, 0], stddev=2.0)
        if seed % 2:  # no answer
            outputs += tf.one_hot([0], SIZE, 9.0)[0, :, tf.newaxis]
        found = {name: value.numpy()[0] for name, value in one.decode(outputs, frame, state).items()}
        starts, ends, spans, none = [], [], {}, []
        offsets = frame["text"]["offsets"].numpy()[0]
        part, ids = frame["text"]["part"].numpy()[0], values.numpy()[0, :, 0]
        tokens = np.flatnonzero(part == 2)
        for window in range(inputs.shape[1]):
            row, logits = inputs.numpy()[0, window, :, 0], outputs.numpy()[0, window]
            if not row.any():
                continue
            none.append(tuple(logits[0]))
            places = [p for p in range(5, 11) if p - 5 + 4 * window < len(tokens)]  # room for 6, 2 shared
            first = {p: tokens[p - 5 + 4 * window] for p in places}
            assert [row[p] for p in places] == [ids[first[p]] for p in places]
            starts += [logits[p, 0] for p in places]
            ends += [logits[p, 1] for p in places]
            spans |= {
                (int(offsets[first[a]][0]), int(offsets[first[b]][1]), window): logits[a, 0] + logits[b, 1]
                for a in places
                for b in places
                if a <= b < a + 3
            }
        lowest = min(none, key=sum)
        best = max(spans, key=spans.get, default=None)
        answerable = best is not None and not (unanswerable and sum(lowest) > spans[best])
        assert found["answer"].decode() == (context[best[0] : best[1]] if answerable else "")
        assert (found["start"], found["end"]) == (best[:2] if answerable else (0, 0))
        if best is None:
            assert found["score"] == 1.0
            continue
        if unanswerable:
            starts, ends = ([*side, *(pair[k] for pair in none)] for k, side in enumerate((starts, ends)))
        total = np.log(np.exp(starts).sum()) + np.log(np.exp(ends).sum())
        logit = spans[best] if answerable else sum(lowest)
        assert found["score"] == pytest.approx(np.exp(logit - total), rel=1e-4)


def test_windows_one_at_a_time_are_all_windows():
    from tfpt.layers.token_inputs import TokenInputs
    from tfpt.layers.trunk import Trunk

    given = keras.Input((None,), dtype="int32", name="ids")
    vectors = keras.layers.Embedding(1000, 6)(given)
    network = keras.Model({"ids": given}, {"pooled": vectors[:, 0], "sequence": vectors})
    trunk = Trunk(
        network, TokenInputs(inputs={"ids": "ids"}), endpoints=("sequence",), shape=(None, 2), dtype_in="int32"
    )
    one = task()
    model = one.build({"trunk": trunk}, STATE)
    model.get_layer("head").kernel.assign(tf.random.stateless_normal([6, 2], [0, 0]))
    values, frame = prepared(one, ("where to?", LONG), ("who", "Zoë"))
    inputs = one.batch({"text": values}, frame, STATE, False)["inputs"]
    assert inputs.shape[1] > 2 and model.output_shape == (None, None, None, 2)
    np.testing.assert_allclose(one.predict(model, inputs), model(inputs), rtol=1e-5, atol=1e-6)
    assert one.trunk_inputs(inputs, ["trunk"])["trunk"].shape == (2, SIZE, 2)


def finished(one, texts, answers, against):
    statistics = {"text": np.array(texts, object), "answers": np.array(answers, object)}
    return one.finish_statistics({**statistics, "against": np.array(against, np.float32)}, STATE)


def test_metrics_are_those_of_squad_2():
    one = task()
    both = f"Köln{SEPARATOR}in Köln".encode()
    found = finished(
        one, [b"the Rhine", "in Köln am Rhein".encode(), b"Bonn", b"Bonn"], [b"Rhine", both, b"", b""], [-1, -2, -3, 4]
    )
    metrics = one.metrics(found, STATE)
    partly = 2 * (2 / 4) / (2 / 4 + 1)
    assert metrics == pytest.approx(
        {
            "exact_match": 2 / 4,
            "f1": (1 + partly + 0 + 1) / 4,
            "has_answer_exact_match": 1 / 2,
            "has_answer_f1": (1 + partly) / 2,
            "no_answer_accuracy": 1 / 2,
        }
    )
    always = one.metrics(found, {**STATE, "unanswerable": False})
    assert always == pytest.approx({"exact_match": 1 / 4, "f1": (1 + partly) / 4})
    assert set(metrics) == set(one.metric_names_of(STATE)) and set(always) < set(metrics)
    assert one.details(found, STATE) == {
        "answerable": 2, "unanswerable": 2, "threshold": 0.0, "classes": ["an answer", "no answer"],
        "confusion": [[2, 0], [1, 1]],
    }  # fmt: skip
    assert one.details(found, {**STATE, "unanswerable": False}) == {"answerable": 2, "unanswerable": 2}
    assert np.isnan(one.metrics({name: v[:2] for name, v in found.items()}, STATE)["no_answer_accuracy"])


def test_the_threshold_is_the_best_of_all():
    one, random = task(), np.random.default_rng(0)
    for _ in range(20):
        count = int(random.integers(1, 30))
        right = random.random(count) < 0.6
        answers = np.where(random.random(count) < 0.5, b"", b"x")
        against = np.round(random.normal(size=count), 1) + np.where(answers == b"", 1.0, -1.0)  # some are equal
        found = finished(one, np.where(right, b"x", b"y").tolist(), answers.tolist(), against)
        state = one.calibrate(found, STATE)
        best = max(one.metrics(found, {**STATE, "threshold": t})["f1"] for t in (*against, *(against - 1e-3)))
        assert one.metrics(found, state)["f1"] == pytest.approx(best)
        assert isinstance(state["threshold"], float)
    never = {**STATE, "unanswerable": False}
    assert one.calibrates(STATE) and not one.calibrates(never)


class Asked(DataSource):
    def __init__(self, starts, **features):
        super().__init__()
        self.starts = starts
        self.features = dict.fromkeys(("answer_text", "answer_start", "answers"), "text") | features

    def info(self):
        return Info(features=self.features, origin="the questions")

    def example(self, k):
        return {"answer_start": tf.gather(tf.constant(self.starts, tf.int64), k)}


def test_whether_there_may_be_no_answer_is_seen_in_training_data():
    source = Asked([3, -1, 5])
    for config, train, may in (
        ({}, [0, 2], False), ({}, [0, 1], True), ({"unanswerable": "yes"}, [0], True), ({"unanswerable": "no"}, [1], False),
    ):  # fmt: skip
        assert task(**config).adapt(source, np.array(train)) == {"unanswerable": may, "threshold": 0.0}


def test_other_data_is_refused():
    with pytest.raises(UserError, match=r"needs data with question and context, .* this data has text"):
        task().adapt_preprocessor(Text(size=9, tokenizer=HashedWords(9), before=(0,)))
    source = Asked([1])
    del source.features["answers"]
    with pytest.raises(UserError, match="the questions has no answers, which question_answering needs"):
        task().adapt(source, np.arange(1))
