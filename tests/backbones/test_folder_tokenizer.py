"""Token ids of a Hugging Face folder are those of the `tokenizers` library that Transformers uses, on odd texts, too."""

import io
import json

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import models, normalizers, pre_tokenizers

from tfpt.backbones import _folder_tokenizer
from tfpt.errors import UserError

CORPUS = [
    "the cat sat on the mat, and the dog's don't care",
    "naïve café 中文 עולם مرحبا 👍🏽 1,234.5 he'll they've",
    "ﬁne ½ ① full-width ＡＢＣ",
]
TEXTS = [
    *CORPUS,
    *("", " ", "  two  spaces ", "\n\n \t tabs\tand\r\nlines\n", "nul\0in\0side", "👍🏽👩‍👩‍👧 ok", "שלום עולם مرحبا"),
    *("The CAT, İstanbul É Ünïcödé", "中文字典", "ﬁ ½ ①", "zzz 龘龘龘 qqq", "e\u0301 decomposed", "a\u200bb\u00a0c\u3000d", "<s> [CLS] </s>"),
    *("x" * 100_000, "the cat " * 12_500),
]  # fmt: skip


@pytest.fixture(scope="module")
def model():
    """A SentencePiece model with its usual normaliser, as bytes."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_writer=written,
        vocab_size=110,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return written.getvalue()


def converted(model, first, skipped, *, unknown, early=(), words=False):
    """Returns what Transformers' converter makes of a SentencePiece model (its convert_slow_tokenizer.py, SpmConverter).

    Args:
        model: the SentencePiece model.
        first: the special pieces that stand before the model's own.
        skipped: how many of the model's own are left out.
        unknown: index of the unknown piece.
        early: normalisers before the model's own.
        words: whether white space is split first, as older files have it.
    """
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    pieces = [(piece, 0.0) for piece in first] + [(p.piece, p.score) for p in proto.pieces[skipped:]]
    made = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=unknown, byte_fallback=False))
    steps = [
        *early,
        normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap),
        *([] if words else [normalizers.Strip(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]),
    ]
    made.normalizer = normalizers.Sequence(steps)
    space = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), space]) if words else space
    made.add_special_tokens([tokenizers.AddedToken(piece, special=True) for piece in first if "NOTUSED" not in piece])
    return made


def same_ids(found, expected, texts=TEXTS):
    ids = found.tokenizer.tokenize(tf.constant(texts)).ids.to_list()
    for text, ours, theirs in zip(texts, ids, expected.encode_batch(texts, add_special_tokens=False), strict=True):
        assert ours == theirs.ids, repr(text[:50])


PLAIN = [text for text in TEXTS if "<s>" not in text]  # names of special tokens in a text are text here


@pytest.mark.parametrize("words", [False, True])
def test_unigram_without_a_sentencepiece_file(model, words, tmp_path):
    expected = converted(model, ["<s>", "<pad>", "</s>", "<unk>"], 3, unknown=3, words=words)
    expected.save(str(tmp_path / "tokenizer.json"))
    found = _folder_tokenizer.read(tmp_path, {"model_type": "xlm-roberta"})
    same_ids(found, expected, PLAIN)
    assert (found.begin, found.end, found.padding) == (0, 2, 1)


@pytest.mark.parametrize(
    ("kind", "first", "skipped", "special"),
    [
        ("xlm-roberta", ["<s>", "<pad>", "</s>", "<unk>"], 3, (0, 2, 1)),
        ("camembert", ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"], 1, (5, 6, 1)),
        ("deberta-v2", [], 0, (1, 2, 0)),
    ],
)
def test_a_sentencepiece_file(model, kind, first, skipped, special, tmp_path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(model)
    found = _folder_tokenizer.read(tmp_path, {"model_type": kind})
    same_ids(found, converted(model, first, skipped, unknown=3 if first else 0), PLAIN)
    assert (found.begin, found.end, found.padding) == special


def test_alberts_texts_lose_case_and_accents(model, tmp_path):
    early = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    (tmp_path / "spiece.model").write_bytes(model)
    found = _folder_tokenizer.read(tmp_path, {"model_type": "albert"})
    same_ids(found, converted(model, [], 0, unknown=0, early=early), PLAIN)
    text = "  The CAFÉ, ½  İs\0 ﬁne"
    tokens = found.tokenizer.tokenize(tf.constant(["", text]))
    spans = list(zip(tokens.starts[1].numpy(), tokens.ends[1].numpy(), strict=True))
    covered = {k for start, end in spans for k in range(start, end)}
    assert {k for k, c in enumerate(text) if c not in "\0 "} <= covered
    assert np.all(np.diff([start for start, _ in spans]) >= 0)
    assert text[slice(*spans[-1])].strip() in "ﬁne"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    cased = _folder_tokenizer.read(tmp_path, {"model_type": "albert"})
    assert (
        cased.tokenizer.tokenize(tf.constant(["The"])).ids.to_list()
        != found.tokenizer.tokenize(tf.constant(["The"])).ids.to_list()
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "step Lowercase"),
        ({"pre_tokenizer": {"type": "ByteLevel"}}, "splits words by ByteLevel"),
        ({"pre_tokenizer": None}, "splits words by nothing"),
        ({"normalizer": None, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace"}]}}, "white space"),
        ({"byte_fallback": True}, "falls back to bytes"),
        ({"unk_id": None}, "no token for what it does not know"),
        ({"vocab": [["a"]]}, "cannot be read"),
    ],
)  # fmt: skip
def test_unigrams_that_sentencepiece_cannot_be(model, change, says, tmp_path):
    whole = json.loads(converted(model, ["<s>", "<pad>", "</s>", "<unk>"], 3, unknown=3).to_str())
    for name, value in change.items():
        (whole["model"] if name in ("byte_fallback", "unk_id", "vocab") else whole)[name] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(UserError, match=says) as raised:
        _folder_tokenizer.read(tmp_path, {"model_type": "xlm-roberta"})
    assert "tokenizer.json" in str(raised.value) and "spiece.model" in str(raised.value)


def test_other_mistakes_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="there is no vocabulary"):
        _folder_tokenizer.read(tmp_path, {"model_type": "bert"})
    (tmp_path / "spm.model").write_bytes(b"no model")
    with pytest.raises(UserError, match="no SentencePiece model"):
        _folder_tokenizer.read(tmp_path, {"model_type": "deberta-v2"})
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    with pytest.raises(UserError, match="changes case"):
        _folder_tokenizer.read(tmp_path, {"model_type": "deberta-v2"})


@pytest.mark.parametrize(
    ("config", "settings", "whole"),
    [
        ({"tokenizer_class": "XLMRobertaTokenizer"}, {}, False),  # multilingual MiniLM
        ({}, {"tokenizer_class": "XLMRobertaTokenizerFast"}, False),
        ({}, {"tokenizer_class": "PreTrainedTokenizerFast"}, True),
    ],
)
def test_ids_of_xlm_roberta_in_another_kind_of_folder(model, config, settings, whole, tmp_path):
    expected = converted(model, ["<s>", "<pad>", "</s>", "<unk>"], 3, unknown=3)
    (tmp_path / "sentencepiece.bpe.model").write_bytes(model)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    if whole:
        expected.save(str(tmp_path / "tokenizer.json"))
    found = _folder_tokenizer.read(tmp_path, {"model_type": "bert", **config})
    same_ids(found, expected, CORPUS)
    assert (found.begin, found.end, found.padding) == (0, 2, 1)


def test_a_sentencepiece_file_is_compared_with_tokenizer_json(model, tmp_path):
    (tmp_path / "spm.model").write_bytes(model)
    expected = converted(model, [], 0, unknown=0)
    expected.save(str(tmp_path / "tokenizer.json"))
    same_ids(_folder_tokenizer.read(tmp_path, {"model_type": "deberta-v2"}), expected, CORPUS)
    converted(model, ["<a>", "<unk>"], 3, unknown=1).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match=r"spm.model and the tokenizer.json beside it have other vocabularies"):
        _folder_tokenizer.read(tmp_path, {"model_type": "deberta-v2"})


VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "A", "é", "e"]
BERT = {"type": "BertNormalizer", "lowercase": False, "strip_accents": None, "handle_chinese_chars": True}
SPLIT = {"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"}


@pytest.mark.parametrize(
    ("normalizer", "ids"),
    [
        (None, [6, 7]),
        (BERT, [6, 7]),
        ({"type": "Sequence", "normalizers": [BERT]}, [6, 7]),
        ({"type": "Sequence", "normalizers": SPLIT}, [5, 8]),
        ({"type": "Sequence", "normalizers": [BERT, {"type": "NFKC"}]}, "BertNormalizer, NFKC"),
        ({"type": "Lowercase"}, "by Lowercase before"),
    ],
)
def test_the_normalizer_of_word_pieces(normalizer, ids, tmp_path):
    whole = {"model": {"type": "WordPiece", "vocab": {piece: k for k, piece in enumerate(VOCABULARY)}}}
    (tmp_path / "tokenizer.json").write_text(json.dumps({**whole, "normalizer": normalizer}))
    if isinstance(ids, str):
        with pytest.raises(UserError, match=ids):
            _folder_tokenizer.read(tmp_path, {})
    else:
        found = _folder_tokenizer.read(tmp_path, {}).tokenizer.tokenize(tf.constant(["A é"]))
        assert found.ids.to_list() == [ids]


def test_byte_pairs_with_a_normalizer_are_refused(tmp_path):
    whole = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}}
    (tmp_path / "tokenizer.json").write_text(json.dumps({**whole, "normalizer": None}))
    assert _folder_tokenizer.read(tmp_path, {}).tokenizer.tokenize(tf.constant(["ab"])).ids.to_list() == [[2]]
    (tmp_path / "tokenizer.json").write_text(json.dumps({**whole, "normalizer": {"type": "NFC"}}))
    with pytest.raises(UserError, match="changes texts by NFC before it splits them"):
        _folder_tokenizer.read(tmp_path, {})


def test_words_that_a_folder_adds_are_named(tmp_path):
    assert _folder_tokenizer.added_tokens(tmp_path) == []
    added = [
        {"id": 4, "content": "[MASK]", "special": True},
        {"id": 9, "content": "[E1]", "special": False},
        {"id": 10, "content": "[E2]", "special": True},
    ]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    settings = {"mask_token": "[MASK]", "additional_special_tokens": ["[E2]"]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[E3]": 11, "[MASK]": 4}))
    assert _folder_tokenizer.added_tokens(tmp_path) == ["[E1]", "[E2]", "[E3]"]
