import base64
import io
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tokenizers

from tfpt.errors import UserError
from tfpt.layers.byte_pairs import BytePairs, byte_characters
from tfpt.layers.hashed_words import HashedWords
from tfpt.layers.sentence_pieces import SentencePieces
from tfpt.layers.word_pieces import WordPieces
from tfpt.preprocessors.text import Text

PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##c", "cafe", "中", ",", "##b", "na", "##ive", "'", "t", "don")
CORPUS = [
    "the cat sat on the mat, and the dog's don't care",
    "naïve café 中文 עולם 👍🏽 1,234.5 he'll they've",
    "  two  spaces\n\nand\tlines ",
]
HOSTILE = [
    *("", " ", "\0", "nul\0in\0side \0", "👍🏽👩‍👩‍👧 ok", "שלום עולם مرحبا", "x" * 100_000, "word " * 20_000),
    *(b"\xff\xfe\x80 no utf-8", b"\xe4\xb8 cut", "é" * 101, "a" * 101, "\n\n  \t", "ünï\u00a0\u00a0x 中文字"),
]


@pytest.fixture(scope="module")
def byte_pairs():
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    model.train_from_iterator(CORPUS * 3, trainer)
    return model


def ours(model, *, prefix_space=False):
    values = json.loads(model.to_str())["model"]
    merges = tuple(" ".join(pair) for pair in values["merges"])
    return BytePairs(tuple(sorted(values["vocab"], key=values["vocab"].get)), merges, prefix_space)


@pytest.fixture(scope="module")
def sentence_pieces():
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_writer=written,
        vocab_size=80,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return written.getvalue()


@pytest.fixture(params=["word_pieces", "byte_pairs", "sentence_pieces", "hashed_words"])
def tokenizer(request):
    if request.param == "byte_pairs":
        return ours(request.getfixturevalue("byte_pairs"))
    if request.param == "sentence_pieces":
        return SentencePieces(base64.b64encode(request.getfixturevalue("sentence_pieces")).decode())
    return WordPieces(PIECES) if request.param == "word_pieces" else HashedWords(100, reserved=4)


def bert(size=16, **fields):
    return Text(size=size, tokenizer=WordPieces(PIECES), before=(2,), between=(3,), after=(3,), **fields)


def listed(tokens):
    """Returns ids, and pairs of start and end, of each text."""
    starts, ends = tokens.starts.to_list(), tokens.ends.to_list()
    pairs = [list(zip(start, end, strict=True)) for start, end in zip(starts, ends, strict=True)]
    return tokens.ids.to_list(), pairs


def as_lists(preprocessor, *raw):
    values, frame = preprocessor.host(*(tf.constant(text) for text in raw))
    return (values[:, 0].numpy() - 1).tolist(), values[:, 1].numpy().tolist(), frame


def test_one_text():
    ids, segments, frame = as_lists(bert(), "Naïve CAFÉ,bcb 中 don't zzz")
    assert ids == [2, 11, 12, 7, 9, 5, 6, 10, 8, 15, 13, 14, 1, 3]
    assert segments == [0] * len(ids)
    assert int(frame["tokens"]) == 14


def test_a_pair():
    pair = bert().for_features({"text", "text_pair", "label"})
    assert pair.raw_features == ("text", "text_pair")
    ids, segments, _ = as_lists(pair, "a bc", "b")
    assert ids == [2, 4, 5, 6, 3, 5, 3]
    assert segments == [0, 0, 0, 0, 0, 1, 1]
    assert pair.for_features({"text"}) == bert()
    assert bert().for_features({"question", "context"}).raw_features == ("question", "context")


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [(9, 9, (4, 5)), (9, 2, (7, 2)), (1, 9, (1, 8)), (5, 4, (5, 4)), (9, 4, (5, 4)), (4, 9, (4, 5)), (0, 99, (0, 9))],
)
def test_the_longer_text_is_cut_first(first, second, kept):
    """As the tokenizers package does it: truncate_encodings, LongestFirst."""
    ids, segments, frame = as_lists(bert(size=12).for_features({"text_pair"}), "a " * first, "b " * second)
    assert (ids.count(4), ids.count(5)) == kept
    assert int(frame["tokens"]) == first + second + 3
    assert (ids[0], ids[kept[0] + 1], ids[-1]) == (2, 3, 3)
    assert sum(segments) == kept[1] + 1


@pytest.mark.parametrize("pair", [False, True])
def test_a_batch_equals_its_examples(tokenizer, pair):
    preprocessor = Text(size=20, tokenizer=tokenizer, before=(0,), between=(1,), after=(1, 2), offsets=True)
    texts = [HOSTILE] if not pair else [HOSTILE, HOSTILE[::-1]]
    preprocessor = preprocessor.for_features({"text", "text_pair"} if pair else {"text"})
    values, frame = preprocessor.host_batch(*(tf.constant(column) for column in texts))
    singles = tf.data.Dataset.from_tensor_slices(tuple(texts)).map(preprocessor.host)
    assert singles.element_spec[0].shape.as_list() == list(preprocessor.host_spec()[0])
    for k, (value, framed) in enumerate(singles.as_numpy_iterator()):
        length = len(value)
        assert (4 if pair else 3) <= length <= 20
        assert value[:, 0].min() > 0
        np.testing.assert_array_equal(values[k, :length], value)
        assert not values[k, length:].numpy().any()
        assert set(framed) == set(frame) == set(preprocessor.frame_spec())
        np.testing.assert_array_equal(frame["offsets"][k, :length], framed["offsets"])
        assert frame["tokens"][k] == framed["tokens"]


def test_offsets_are_characters_of_the_raw_text(tokenizer):
    text = "Naïve\0 👍🏽 café, 中文 x"
    preprocessor = Text(size=64, tokenizer=tokenizer, before=(0,), after=(1,)).with_offsets()
    _, frame = preprocessor.host(tf.constant(text))
    offsets, part = frame["offsets"].numpy(), frame["part"].numpy()
    assert part.tolist() == [0, *[1] * (len(part) - 2), 0]
    inside = offsets[part == 1]
    assert np.all(np.diff(inside[:, 0]) >= 0)
    assert np.all((inside >= 0) & (inside <= len(text)))
    covered = {k for start, end in inside for k in range(start, end)}
    assert {k for k, c in enumerate(text) if c not in "\0 "} <= covered
    assert text[inside[-1][0] : inside[-1][1]].strip() == "x"


def test_tokens_know_their_words(tokenizer):
    texts = ["Naïve\0 👍🏽 (café), 中文  x \t", "", " \n"]
    preprocessor = Text(size=64, tokenizer=tokenizer, before=(0,), after=(1,)).with_words()
    _, frame = preprocessor.host_batch(tf.constant(texts))
    assert frame["words"].numpy().tolist() == [7, 0, 2]
    for k, text in enumerate(texts):
        words = text.split(" ")
        for (start, end), word, punctuation, part in zip(
            *(frame[name][k].numpy().tolist() for name in ("offsets", "word", "punctuation", "part")), strict=True
        ):
            token = text[start:end]
            if not token:
                assert (word, punctuation) == (0, 0)
                continue
            assert part == 1 and not token[0].isspace()
            first = len(" ".join(words[: word - 1])) + (word > 1)
            assert first <= start < first + len(words[word - 1])
            if token in "(),":
                assert punctuation == 1
            if any(c.isalnum() for c in token):
                assert punctuation == 0
    assert {1, 2, 3, 4, 6} <= set(frame["word"][0].numpy().tolist())


def test_the_second_text_can_be_whole():
    pair = bert(size=9).for_features({"question", "context"}).with_whole_second(first_length=2)
    questions, contexts = ["a a a a", "a", ""], ["b " * 12, "", "c"]
    values, frame = pair.host_batch(tf.constant(questions), tf.constant(contexts))
    ids = [[k - 1 for k in row if k] for row in values[..., 0].numpy().tolist()]
    assert ids == [[2, 4, 4, 3, *[5] * 12, 3], [2, 4, 3, 3], [2, 3, 1, 3]]
    assert frame["second"].numpy().tolist() == [[4, 12, 4, 1], [3, 0, 5, 1], [2, 1, 6, 1]]
    assert frame["second_text"].numpy().tolist() == [text.encode() for text in contexts]
    truncated = [pair.is_truncated({name: value[k] for name, value in frame.items()}) for k in range(3)]
    assert [bool(one) for one in truncated] == [True, False, False]
    assert pair.host(tf.constant("a"), tf.constant("b"))[0].shape == (5, 2)
    short = bert(size=6).for_features({"question", "context"}).with_whole_second(first_length=64)
    assert short.host(tf.constant("a a a a"), tf.constant("b b"))[1]["second"].numpy().tolist() == [3, 2, 2, 1]
    assert Text.from_json(json.loads(json.dumps(pair.to_json()))) == pair


def test_a_whole_second_text_has_a_bound(monkeypatch):
    monkeypatch.setattr("tfpt.preprocessors.text.MOST_TOKENS", 7)
    pair = bert(size=9).for_features({"question", "context"}).with_whole_second(first_length=2)
    _, frame = pair.host(tf.constant("a"), tf.constant("b " * 12))
    assert frame["second"].numpy().tolist() == [3, 7, 5, 1] and bool(pair.is_truncated(frame))


def test_one_text_has_no_whole_second():
    with pytest.raises(ValueError, match="for pairs"):
        bert().with_whole_second(first_length=2)


def test_word_pieces_are_those_of_bert():
    settings = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None}
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
    model |= {"max_input_chars_per_word": 100, "vocab": {piece: k for k, piece in enumerate(PIECES)}}
    characters = [chr(k) for k in (*range(0x21, 0x250), *range(0x370, 0x500), *range(0x2000, 0x2100), 0x1F44D, 0xFFFD)]
    vocabulary = (*PIECES, *(c for c in characters if c not in PIECES), *(f"##{c}" for c in characters))
    texts = [*(f"a{c}b {c}c" for c in characters), *(t for t in HOSTILE if isinstance(t, str) and len(t) < 1000)]
    for lowercase in (True, False):
        model["vocab"] = {piece: k for k, piece in enumerate(dict.fromkeys(vocabulary))}
        theirs = tokenizers.Tokenizer.from_str(
            json.dumps(
                {
                    "version": "1.0",
                    "added_tokens": [],
                    "normalizer": {**settings, "lowercase": lowercase},
                    "pre_tokenizer": {"type": "BertPreTokenizer"},
                    "post_processor": None,
                    "decoder": None,
                    "truncation": None,
                    "padding": None,
                    "model": model,
                }
            )
        )
        made = WordPieces(tuple(model["vocab"]), lowercase).tokenize(tf.constant(texts))
        for text, ids, offsets, expected in zip(texts, *listed(made), theirs.encode_batch(texts), strict=True):
            assert ids == expected.ids, repr(text)
            assert offsets == expected.offsets, repr(text)


@pytest.mark.parametrize("prefix_space", [False, True])
def test_byte_pairs_are_those_of_gpt2(byte_pairs, prefix_space):
    byte_pairs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    random = np.random.default_rng(0)
    mixed = ["".join(random.choice(list("ab 's\n\t.1é中\u00a0 "), random.integers(0, 30))) for _ in range(300)]
    texts = [*CORPUS, *mixed, *(t for t in HOSTILE if isinstance(t, str) and len(t) < 1000), "aaaaaaa aaa a"]
    made = ours(byte_pairs, prefix_space=prefix_space).tokenize(tf.constant(texts))
    for text, ids, offsets, expected in zip(texts, *listed(made), byte_pairs.encode_batch(texts), strict=True):
        assert ids == expected.ids, repr(text)
        if not prefix_space:  # where there is no such space in the text, offsets are a matter of taste
            assert offsets == expected.offsets, repr(text)


def test_every_byte_has_a_character():
    assert len(set(byte_characters())) == 256
    assert (byte_characters()[ord(" ")], byte_characters()[ord("!")]) == ("Ġ", "!")


def test_sentence_pieces_are_the_packages(sentence_pieces):
    import sentencepiece

    package = sentencepiece.SentencePieceProcessor(model_proto=sentence_pieces)
    content = base64.b64encode(sentence_pieces).decode()
    made = SentencePieces(content).tokenize(tf.constant(CORPUS))
    fairseq = SentencePieces(content, shift=1, unknown=3).tokenize(tf.constant(["the 龘"]))
    for k, text in enumerate(CORPUS):
        assert made.ids[k].numpy().tolist() == package.encode(text)
    expected = package.encode("the 龘")
    assert package.unk_id() in expected
    assert fairseq.ids[0].numpy().tolist() == [3 if k == package.unk_id() else k + 1 for k in expected]


def test_json_is_all_that_is_needed(tokenizer):
    preprocessor = Text(
        size=9,
        tokenizer=tokenizer,
        before=(0,),
        after=(1,),
        inputs={"ids": "token_ids"},
        features=("a", "b"),
        feature="a",
    )
    again = Text.from_json(json.loads(json.dumps(preprocessor.to_json())))
    assert again == preprocessor
    np.testing.assert_array_equal(
        again.host_batch(tf.constant(CORPUS), tf.constant(CORPUS))[0],
        preprocessor.host_batch(tf.constant(CORPUS), tf.constant(CORPUS))[0],
    )


def test_device_feeds_what_the_network_names():
    inputs = {"ids": "encoder_token_ids", "mask": "encoder_padding_mask"}
    layer = bert(inputs=inputs, padding=7).device()
    fed = layer(tf.constant([[[3, 0], [5, 1], [0, 0]]]))
    assert {name: value.numpy().tolist() for name, value in fed.items()} == {
        "encoder_token_ids": [[2, 4, 7]],
        "encoder_padding_mask": [[1, 1, 0]],
    }


def test_too_short_for_the_special_tokens():
    with pytest.raises(UserError, match=r"--input\.max_length=3.*2 special tokens|--input\.max_length=2"):
        bert(size=2)
    with pytest.raises(UserError, match=r"--input\.max_length=3"):
        bert(size=3).for_features({"text_pair"})


def test_the_feature_can_have_another_name():
    assert bert().reading("title").raw_features == ("title",)
    assert bert().for_features({"text_pair"}).reading("title").raw_features == ("title", "title_pair")


@pytest.mark.parametrize("extra", ["tensorflow_text", ""])
def test_a_process_without_tfpt_answers(extra, byte_pairs, sentence_pieces, tmp_path):
    """The tokenizer in the served graph holds no table that would have to be tracked, and needs tensorflow_text at most."""
    made = {"hashed_words": HashedWords(100, reserved=4)}
    if extra:
        content = base64.b64encode(sentence_pieces).decode()
        made = {"bytes": ours(byte_pairs), "sentences": SentencePieces(content), "words": WordPieces(PIECES)}
    preprocessors = {name: Text(size=20, tokenizer=one, before=(0,), after=(1,)) for name, one in made.items()}
    module = tf.Module()
    module.answer = tf.function(
        lambda text: {name: one.host_batch(text)[0] for name, one in preprocessors.items()},
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )
    tf.saved_model.save(module, str(tmp_path / "saved"))
    raw = [text if isinstance(text, bytes) else text.encode() for text in HOSTILE]
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import json
import sys
import tensorflow as tf
{f"import {extra}" if extra else ""}
answers = tf.saved_model.load("saved").answer(tf.constant({raw!r}))
assert not ({{"tfpt", "keras_hub", "tensorflow_text"}} - {{{extra!r}}}) & set(sys.modules)
open("answers", "w").write(json.dumps({{name: value.numpy().tolist() for name, value in answers.items()}}))
"""
    )
    subprocess.run([sys.executable, program], check=True, capture_output=True, cwd=tmp_path)
    answers = json.loads((tmp_path / "answers").read_text())
    assert answers == {
        name: one.host_batch(tf.constant(raw))[0].numpy().tolist() for name, one in preprocessors.items()
    }
