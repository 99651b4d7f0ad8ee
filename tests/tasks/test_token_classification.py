"""Tags of words: targets, loss, and spans of characters."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpt.data import DataSource, Info
from tfpt.errors import UserError
from tfpt.layers.hashed_words import HashedWords
from tfpt.preprocessors.image import Image
from tfpt.preprocessors.text import Text
from tfpt.tasks.token_classification import TokenClassification

TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
STATE = {"classes": list(TAGS)}
TASK = TokenClassification()


def prepared(*texts, size=16):
    """Returns tokens and frame of texts; each word and each punctuation mark is a token."""
    preprocessor = Text(size=size, tokenizer=HashedWords(100, reserved=2), before=(0,), after=(1,))
    values, frame = TASK.adapt_preprocessor(preprocessor).host_batch(tf.constant(texts))
    return values, {"text": frame}


def logits(*tags, height=4.0):
    """Returns logits of the tokens; a tag a token, special ones included."""
    longest = max(map(len, tags))
    numbers = [[TAGS.index(tag) for tag in row] + [0] * (longest - len(row)) for row in tags]
    return height * tf.one_hot(numbers, len(TAGS))


def batch(texts, tags, **options):
    values, frame = prepared(*texts, **options)
    longest = max(map(len, tags))
    numbers = tf.constant([[TAGS.index(tag) for tag in row] + [0] * (longest - len(row)) for row in tags], tf.int64)
    features = {"text": values, "tags": numbers, "weight": tf.ones([len(texts)])}
    return TASK.batch(features, frame, STATE, True)


def spans(outputs, frame):
    found = {name: value.numpy() for name, value in TASK.decode(outputs, frame, STATE).items()}
    rows = zip(found["label"], found["start"], found["end"], strict=True)
    return [[(label.decode(), int(a), int(b)) for label, a, b in zip(*row, strict=True)] for row in rows], found[
        "score"
    ]


def test_each_word_has_its_tag_at_its_first_token_that_is_no_punctuation():
    made = batch(["in (Graburg) , \x01 Anna", "so"], [["O", "B-LOC", "O", "O", "B-PER"], ["O"]])
    assert made["targets"]["tags"].numpy().tolist() == [[1, 2, 1, 1, 4], [1, 0, 0, 0, 0]]
    # [in] ( [graburg] ) [,] [anna]; the fourth word is a control character, which no token is made of
    assert made["targets"]["position"].numpy().tolist() == [[2, 4, 6, 0, 7], [2, 0, 0, 0, 0]]


def test_words_that_were_cut_off_weigh_nothing_in_the_loss_and_count_as_outside():
    made = batch(["a b Anna Vogt", "c"], [["O", "O", "B-PER", "I-PER"], ["O"]], size=5)
    assert made["targets"]["position"].numpy().tolist() == [[2, 3, 4, 0], [2, 0, 0, 0]]
    inputs = keras.Input((5,), dtype="int32")
    outputs = logits(["O", "O", "O", "B-PER", "O"], ["O"] * 5)
    model = keras.Model(inputs, keras.layers.Lambda(lambda _: outputs)(inputs))
    for weights, words in (([1.0, 1.0], 4), ([1.0, 0.0], 3)):
        one = {"inputs": tf.zeros([2, 5], tf.int32), "targets": made["targets"], "weight": tf.constant(weights)}
        loss, weight, _ = TASK.loss(model, one, False)
        assert float(weight) == words
        assert float(loss) == pytest.approx(words * np.log(1 + 4 * np.exp(-4)), rel=1e-5)
    # A batch that is made of kept features may have more padding.
    targets = {name: tf.pad(value, [[0, 0], [0, 3]]) for name, value in made["targets"].items()}
    found = {name: value.numpy() for name, value in TASK.statistics(outputs, {"targets": targets}, STATE).items()}
    assert found["true"].tolist() == [[0, 1], [0, 0]] and found["predicted"].tolist() == [[0, 1], [0, 0]]
    assert not found["correct"].any()  # one word of the name is missing
    assert (found["words"].tolist(), found["right"].tolist(), found["cut_off"].tolist()) == ([4, 1], [3, 1], [1, 0])


def test_spans_are_characters_of_the_raw_text():
    text = "Zoë Vogt, of  (Graburg)."
    _, frame = prepared(text, "👍 Anna", "", "nobody")
    # [begin] zoe vogt , of ( graburg ) . [end]
    outputs = logits(
        ["O", "B-PER", "I-PER", "O", "O", "O", "B-LOC", "O", "O", "O"],
        ["O", "O", "B-PER", "O"],
        ["O", "O"],
        ["O", "O", "O"],
    )
    found, score = spans(outputs, frame)
    assert found[0] == [("PER", 0, 8), ("LOC", 15, 22)]
    assert (text[0:8], text[15:22]) == ("Zoë Vogt", "Graburg")
    assert found[1:] == [[("PER", 2, 6), ("", 0, 0)], [("", 0, 0)] * 2, [("", 0, 0)] * 2]
    certain = np.exp(4) / (np.exp(4) + 4)
    np.testing.assert_allclose(score, [[certain, certain], [certain, 0], [0, 0], [0, 0]], rtol=1e-5)


def test_punctuation_stays_where_the_model_says_that_it_belongs_to_the_name():
    _, frame = prepared("the U.S. and", "Mr. (x")
    # [begin] the u . s . and [end]
    outputs = logits(["O", "O", "B-LOC", "O", "O", "I-LOC", "O", "O"], ["O", "B-PER", "I-PER", "I-PER", "I-PER", "O"])
    assert spans(outputs, frame)[0] == [[("LOC", 4, 8)], [("PER", 0, 6)]]


def test_a_batch_without_spans_has_none():
    _, frame = prepared("", " ")
    found = TASK.decode(logits(["O", "O"], ["O", "O"]), frame, STATE)
    assert all(value.shape == (2, 0) for value in found.values())


def test_a_batch_of_examples_that_could_not_be_read_is_answered():
    frame = {
        "text": {
            **{name: tf.zeros([2, 0], tf.int32) for name in ("word", "punctuation", "part")},
            "offsets": tf.zeros([2, 0, 2], tf.int32),
            "words": tf.zeros([2], tf.int32),
        }
    }
    found = TASK.decode(tf.zeros([2, 1, len(TAGS)]), frame, STATE)
    assert all(value.shape == (2, 0) for value in found.values())


@pytest.mark.parametrize(
    ("features", "classes", "says"),
    [
        ({"text": "text", "label": "class"}, ("a", "b"), "the texts has no tags, which token_classification needs"),
        ({"text": "text", "tags": "tags"}, ("O",), "the texts has no other tag than O"),
    ],
)
def test_data_without_tags_is_refused(features, classes, says):
    class Source(DataSource):
        def info(self):
            return Info(features=features, classes=classes, origin="the texts")

    with pytest.raises(UserError, match=says):
        TASK.adapt(Source(), np.arange(3))


def test_a_tokenizer_that_does_not_tell_places_is_refused():
    with pytest.raises(UserError, match="does not say where in a text"):
        TASK.adapt_preprocessor(Image(size=8))
