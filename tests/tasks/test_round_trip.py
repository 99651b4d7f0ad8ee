"""What real texts hold (umlauts, emoji, other scripts, letters that lower-casing makes longer) comes back as it went in:
spans and answers that a model is certain of are the characters that the data says."""

import base64
import io
import string

import numpy as np
import pytest
import tensorflow as tf

from tfpt.data._tagged import TaggedBuilder
from tfpt.evaluation.tagged import true_spans
from tfpt.layers.byte_pairs import BytePairs, byte_characters
from tfpt.layers.hashed_words import HashedWords
from tfpt.layers.sentence_pieces import SentencePieces
from tfpt.layers.word_pieces import WordPieces
from tfpt.preprocessors.text import Text
from tfpt.tasks._tagging import TagSet
from tfpt.tasks.question_answering import QuestionAnswering
from tfpt.tasks.token_classification import TokenClassification

WORDS = (
    *("Zoë", "Köln", "naïve", "straße", "e\u0301tude", "İzmir", "ﬁnal", "Ⅳ", "ǅ", "ω", "Ω"),
    *("👍🏽", "👩‍👩‍👧", "🇩🇪", "中文字", "日本", "עולם", "مرحبا", "नमस्ते", "ไทย"),
    *("U.S.", "O'Neil", "(", ")", "...", "--", "$5.00", "C++", "a\u00a0b", "x" * 12, "1,234.5", "@", "’s", "“"),
)
TAGS = ("O", "B-A", "I-A", "B-B", "I-B")
BATCH = 24


def _sentence_pieces():
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS)] * 20), model_writer=written, vocab_size=180, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    return SentencePieces(base64.b64encode(written.getvalue()).decode())


def _word_pieces():
    letters = string.ascii_lowercase + string.digits
    return WordPieces(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), "中", "."))


@pytest.fixture(scope="module", params=["word_pieces", "byte_pairs", "sentence_pieces", "hashed_words"])
def tokenizer(request):
    if request.param == "byte_pairs":
        return BytePairs(tuple(sorted(byte_characters())), (), False)
    return {"word_pieces": _word_pieces, "sentence_pieces": _sentence_pieces}.get(
        request.param, lambda: HashedWords(1000, reserved=2)
    )()


def text(tokenizer, size):
    return Text(size=size, tokenizer=tokenizer, before=(0,), between=(1,), after=(1,))


def test_spans_are_those_of_the_tags(tokenizer):
    random, one, builder = np.random.default_rng(0), TokenClassification(), TaggedBuilder()
    state = {"classes": list(TAGS)}
    for row in range(BATCH):
        words = random.choice(WORDS, random.integers(1, 9)).tolist()
        tags = [TAGS[k] for k in random.integers(len(TAGS), size=len(words))]
        builder.add(words, tags, file=0, line=row)
    made = builder.build((), ())
    assert made.classes == TAGS
    examples = list(tf.data.Dataset.range(BATCH).map(made.example))
    texts = [example["text"].numpy().decode() for example in examples]
    preprocessor = one.adapt_preprocessor(text(tokenizer, 2000))
    values, told = preprocessor.host_batch(tf.constant(texts))
    tags = tf.ragged.stack([example["tags"] for example in examples]).to_tensor()
    batch = one.batch({"text": values, "tags": tags}, {"text": told}, state, False)
    targets = {name: value.numpy() for name, value in batch["targets"].items()}
    logits = np.zeros((*values.shape[:2], len(TAGS)), np.float32)
    for row, of_text in enumerate(texts):
        for word in range(len(of_text.split(" "))):
            assert targets["position"][row, word] > 0, of_text.split(" ")[word]
            tag = targets["tags"][row, word] - 1
            inside = np.flatnonzero(told["word"].numpy()[row] == word + 1)
            logits[row, inside, TAGS.index(TAGS[tag].replace("B-", "I-"))] = 5.0
            logits[row, targets["position"][row, word] - 1] = np.eye(len(TAGS))[tag] * 9
    found = {name: value.numpy() for name, value in one.decode(tf.constant(logits), {"text": told}, state).items()}
    for row, (of_text, example) in enumerate(zip(texts, examples, strict=True)):
        spans = zip(*(found[name][row].tolist() for name in ("start", "end", "label")), strict=True)
        wanted = true_spans(of_text, example["tags"].numpy().tolist(), TagSet.of(TAGS)).values()
        assert [s for s in spans if s[2]] == [(s.start, s.end, s.label.encode()) for s in wanted]
    counts = one.statistics(tf.constant(logits), batch, state)
    assert one.metrics({name: value.numpy() for name, value in counts.items()}, state)["f1"] == 1.0


def test_answers_are_the_characters_of_the_context(tokenizer):
    random, state = np.random.default_rng(1), {"unanswerable": True, "threshold": 0.0}
    one = QuestionAnswering(config=QuestionAnswering.Config(max_answer_length=150, stride=150))
    contexts, answers, starts = [], [], []
    for _ in range(BATCH):
        words = random.choice(WORDS, random.integers(3, 120)).tolist()
        first = int(random.integers(len(words) - 2))
        between = random.choice([" ", "\n", "  "])
        contexts.append(between.join(words))
        start, end = len(between.join([*words[:first], ""])), len(between.join(words[: first + 2]))
        starts.append(start)
        answers.append(contexts[-1][start:end])
    preprocessor = one.adapt_preprocessor(text(tokenizer, 320).for_features({"question", "context"}))
    values, told = preprocessor.host_batch(tf.constant(["who?"] * BATCH), tf.constant(contexts))
    features = {"text": values, "answer_text": tf.constant(answers), "answer_start": tf.constant(starts, tf.int64)}
    features |= {"answers": tf.constant(answers), "weight": tf.ones([BATCH])}
    batch = one.batch(features, {"text": told}, state, False)
    targets = batch["targets"]
    logits = tf.stack([tf.one_hot(targets[name], batch["inputs"].shape[2]) for name in ("start", "end")], axis=-1) * 9.0
    # A window without the answer says that there is none.
    found = one.decode(logits, {"text": told}, state)
    assert [answer.decode() for answer in found["answer"].numpy()] == answers
    assert found["start"].numpy().tolist() == starts
    assert batch["inputs"].shape[1] > 1 or not isinstance(tokenizer, BytePairs)
