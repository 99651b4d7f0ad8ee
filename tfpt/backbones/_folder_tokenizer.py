"""The tokenizer of a Hugging Face folder, from vocab.txt, vocab.json with merges.txt, a SentencePiece model, or
tokenizer.json."""

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tfpt.errors import UserError

if TYPE_CHECKING:
    from tfpt.layers.tokens import Tokenizer

_SENTENCE_PIECES = ("spiece.model", "sentencepiece.bpe.model", "spm.model", "tokenizer.model")
# Models trained with fairseq: by how much the SentencePiece model's own ids are moved, and special tokens that have others.
FAIRSEQ: Mapping[str, tuple[int, Mapping[str, int]]] = MappingProxyType(
    {
        "camembert": (4, MappingProxyType({"<s>": 5, "<pad>": 1, "</s>": 6, "<unk>": 3})),
        "xlm-roberta": (1, MappingProxyType({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3})),
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderTokenizer:
    """A tokenizer with its special tokens' ids; None where there is no such token."""

    tokenizer: "Tokenizer"
    begin: int | None
    end: int | None
    padding: int


def read(folder: Path, config: Mapping[str, Any]) -> FolderTokenizer:
    """Reads the tokenizer of a folder.

    Args:
        folder: holds tokenizer files.
        config: what config.json says.

    Raises:
        UserError: files are missing, or ask for something that has no TensorFlow ops here.
    """
    settings = read_json(folder / "tokenizer_config.json", {})
    whole = read_json(folder / "tokenizer.json", {})
    kind = whole.get("model", {}).get("type", "")
    model = next((folder / name for name in _SENTENCE_PIECES if (folder / name).is_file()), None)
    named = str(settings.get("tokenizer_class") or config.get("tokenizer_class"))
    kind_of_model = "xlm-roberta" if "XLMRoberta" in named else config.get("model_type", "")
    if (folder / "vocab.txt").is_file() or kind == "WordPiece":
        tokenizer, ids = _word_pieces(folder, settings, whole, config)
    elif (folder / "merges.txt").is_file() or kind == "BPE":
        tokenizer, ids = _byte_pairs(folder, settings, whole)
    elif model is not None:
        lowercase = _lowercase(folder, settings, config)
        content, fairseq = model.read_bytes(), FAIRSEQ.get(kind_of_model)
        if kind == "Unigram":
            fairseq = _moved_as(_names(content, str(model)), whole, fairseq, str(model))
        tokenizer, ids = sentence_pieces(content, str(model), fairseq=fairseq, lowercase=lowercase)
    elif kind == "Unigram":
        tokenizer, ids = _unigram(folder, whole)
    else:
        raise UserError(
            f"--backbone=hf:{folder}: there is no vocabulary; it needs vocab.txt, vocab.json with merges.txt, "
            f"tokenizer.json or one of {', '.join(_SENTENCE_PIECES)}."
        )
    ids |= {token["content"]: token["id"] for token in whole.get("added_tokens", [])}
    return with_special(tokenizer, ids, {**read_json(folder / "special_tokens_map.json", {}), **settings})


def with_special(tokenizer: "Tokenizer", ids: Mapping[str, int], named: Mapping[str, Any]) -> FolderTokenizer:
    """Finds the special tokens.

    Args:
        tokenizer: the tokenizer.
        ids: piece -> id.
        named: `cls_token`, `bos_token`, ... -> piece, where the folder says so.
    """

    def special(*roles: str, usual: Sequence[str]) -> int | None:
        names = (*(_content(named.get(role)) for role in roles), *usual)
        return next((ids[name] for name in names if name in ids), None)

    padding = special("pad_token", usual=("[PAD]", "<pad>"))
    return FolderTokenizer(
        tokenizer=tokenizer,
        begin=special("cls_token", "bos_token", usual=("[CLS]", "<cls>", "<s>", "<|endoftext|>")),
        end=special("sep_token", "eos_token", usual=("[SEP]", "<sep>", "</s>", "<|endoftext|>")),
        padding=0 if padding is None else padding,
    )


def added_tokens(folder: Path) -> list[str]:
    """Returns the words that a folder adds to its vocabulary, such as marks of entities: Transformers never splits them."""
    settings = {
        **read_json(folder / "special_tokens_map.json", {}),
        **read_json(folder / "tokenizer_config.json", {}),
    }
    whole = read_json(folder / "tokenizer.json", {})
    roles = {_content(token) for role, token in settings.items() if role.endswith("_token")}
    in_text = {_content(token) for token in settings.get("additional_special_tokens") or []}
    found = [token["content"] for token in whole.get("added_tokens", []) if not token.get("special")]
    found += [*in_text, *read_json(folder / "added_tokens.json", {})]
    return sorted(set(found) - roles - {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"})


def read_json(path: Path, default: Any = None) -> Any:
    """Returns the content of a JSON file, or the default where there is no file.

    Raises:
        UserError: the file is damaged; or missing, and there is no default.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if default is None:
            raise UserError(f"{path}: there is no such file; a Hugging Face folder has one.") from error
        return default
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: the file cannot be read as JSON ({error}); fetch it again.") from error


def _word_pieces(
    folder: Path, settings: Mapping[str, Any], whole: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple["Tokenizer", dict[str, int]]:
    from tfpt.layers.word_pieces import WordPieces

    if (folder / "vocab.txt").is_file():
        text = (folder / "vocab.txt").read_text(encoding="utf-8")
        vocabulary = tuple(line.rstrip("\r") for line in text.removesuffix("\n").split("\n"))
    else:
        vocabulary = _in_order(whole["model"]["vocab"])
    normalizer = _word_piece_normalizer(whole, f"hf:{folder}")
    # As Transformers does it: what tokenizer_config.json says goes before tokenizer.json, and BERT is lower-cased.
    lowercase = _first(settings.get("do_lower_case"), normalizer.get("lowercase"), config.get("do_lower_case"), True)
    strips = _first(settings.get("strip_accents"), normalizer.get("strip_accents"), lowercase)
    apart = _first(settings.get("tokenize_chinese_chars"), normalizer.get("handle_chinese_chars"), True)
    if strips != lowercase or not apart:
        raise UserError(
            f"--backbone=hf:{folder}: its tokenizer keeps accents in lower case, strips them in mixed case or joins Chinese "
            "characters, which tfpt cannot do; choose another model."
        )
    unknown = _content(settings.get("unk_token")) or "[UNK]"
    if unknown not in vocabulary:
        raise UserError(f"--backbone=hf:{folder}: the vocabulary has no {unknown}; fetch it again.")
    ids = {piece: k for k, piece in enumerate(vocabulary)}
    return WordPieces(vocabulary=vocabulary, lowercase=bool(lowercase), unknown=unknown), ids


def _word_piece_normalizer(whole: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """Returns what tokenizer.json says of case and accents, in the words of BertNormalizer; nothing where it says nothing.

    Raises:
        UserError: it changes texts in another way.
    """
    if "normalizer" not in whole:
        return {}
    steps = _steps(whole)
    kinds = [step.get("type", "BertNormalizer") for step in steps]
    if not steps:
        return {"lowercase": False}
    if kinds == ["BertNormalizer"]:
        return steps[0]
    if set(kinds) == {"NFD", "Lowercase", "StripAccents"}:
        return {"lowercase": True}
    raise UserError(
        f"--backbone={source}: its tokenizer.json changes texts by {', '.join(kinds)} before it splits them, and of WordPiece tokenizers "
        "tfpt knows BertNormalizer; choose another model."
    )


def _steps(whole: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the steps of tokenizer.json's normaliser."""
    given = whole.get("normalizer")
    return given["normalizers"] if given and given.get("type") == "Sequence" else [given] if given else []


def _byte_pairs(
    folder: Path, settings: Mapping[str, Any], whole: Mapping[str, Any]
) -> tuple["Tokenizer", dict[str, int]]:
    pre = whole.get("pre_tokenizer") or {"type": "ByteLevel"}
    if pre.get("type") != "ByteLevel" or not pre.get("use_regex", True):
        raise UserError(
            f"--backbone=hf:{folder}: its tokenizer.json splits words by rules of its own, and tfpt knows only those of "
            "GPT-2 and RoBERTa; choose another model."
        )
    if changes := [step["type"] for step in _steps(whole)]:
        raise UserError(
            f"--backbone=hf:{folder}: its tokenizer.json changes texts by {', '.join(changes)} before it splits them, which those of GPT-2 "
            "and RoBERTa do not; choose another model."
        )
    if (folder / "merges.txt").is_file():
        ids = read_json(folder / "vocab.json")
        merges = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    else:
        ids = whole["model"]["vocab"]
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in whole["model"]["merges"]]
    prefix = _first(settings.get("add_prefix_space"), pre.get("add_prefix_space"), False)
    return byte_pairs(ids, merges, prefix_space=bool(prefix), source=f"hf:{folder}")


def byte_pairs(
    ids: Mapping[str, int], lines: Sequence[str], *, prefix_space: bool, source: str
) -> tuple["Tokenizer", dict[str, int]]:
    """Returns a byte-level BPE tokenizer and its pieces' ids.

    Args:
        ids: piece -> id.
        lines: the merges, as merges.txt has them.
        prefix_space: whether a text is read as if a space stood before it.
        source: for the message.

    Raises:
        UserError: merges and vocabulary do not agree.
    """
    from tfpt.layers.byte_pairs import BytePairs

    merges = tuple(line.rstrip("\r") for line in lines if line and not line.startswith("#version"))
    pairs = [line.split(" ") for line in merges]
    if not all(len(pair) == 2 and {*pair, "".join(pair)} <= set(ids) for pair in pairs):
        raise UserError(f"--backbone={source}: its merges and its vocabulary do not agree; fetch it again.")
    return BytePairs(vocabulary=_in_order(ids), merges=merges, prefix_space=prefix_space), dict(ids)


def _unigram(folder: Path, whole: Mapping[str, Any]) -> tuple["Tokenizer", dict[str, int]]:
    from tfpt.backbones._unigram import sentence_piece_model

    file = folder / "tokenizer.json"
    try:
        content = sentence_piece_model(whole)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{file}: it cannot be read as a SentencePiece model ({error}); put the model's own "
            f"{' or '.join(_SENTENCE_PIECES)} beside it."
        ) from error
    return sentence_pieces(content, str(file))


def _lowercase(folder: Path, settings: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Tells whether text loses case and accents before SentencePiece sees it, as for ALBERT."""
    albert = config.get("model_type") == "albert"
    lowercase = bool(settings.get("do_lower_case", albert))
    if lowercase and (not albert or settings.get("keep_accents")):
        raise UserError(
            f"--backbone=hf:{folder}: its tokenizer changes case before SentencePiece and keeps accents, which tfpt cannot "
            "do; choose another model."
        )
    return lowercase


def sentence_pieces(
    content: bytes, source: str, *, fairseq: tuple[int, Mapping[str, int]] | None = None, lowercase: bool = False
) -> tuple["Tokenizer", dict[str, int]]:
    """Returns a SentencePiece tokenizer and its pieces' ids.

    Args:
        content: the model file's.
        source: the file, for the message.
        fairseq: one of `FAIRSEQ`; None: ids are the model's own.
        lowercase: whether letters lose case and accents first.

    Raises:
        UserError: it is no such file.
    """
    from tfpt.layers.sentence_pieces import SentencePieces

    names = _names(content, source)
    model = base64.b64encode(content).decode("ascii")
    if fairseq is not None:
        shift, special = fairseq
        return SentencePieces(model=model, shift=shift, unknown=special["<unk>"], lowercase=lowercase), dict(special)
    return SentencePieces(model=model, lowercase=lowercase), {name: k for k, name in enumerate(names)}


def _names(content: bytes, source: str) -> list[str]:
    """Returns the pieces of a SentencePiece model.

    Raises:
        UserError: it is none.
    """
    import tensorflow_text

    try:
        reader = tensorflow_text.SentencepieceTokenizer(content)
        return [name.decode() for name in reader.id_to_string(range(int(reader.vocab_size()))).numpy()]
    except Exception as error:  # whatever the op makes of a foreign file
        raise UserError(f"{source}: this is no SentencePiece model; fetch it again.") from error


def _moved_as(
    names: Sequence[str], whole: Mapping[str, Any], usual: tuple[int, Mapping[str, int]] | None, source: str
) -> tuple[int, Mapping[str, int]] | None:
    """Returns how ids differ from a SentencePiece model's own, by the vocabulary of the tokenizer.json beside it.

    Args:
        names: the model's pieces.
        whole: what tokenizer.json says.
        usual: one of `FAIRSEQ`, or None, by what the folder calls its model.
        source: the model's file, for the message.

    Raises:
        UserError: the two do not agree.
    """
    vocabulary = [piece for piece, *_ in whole["model"]["vocab"]]
    special = 3  # the first are control and unknown, which have other names and places
    for moved in (usual, None, *FAIRSEQ.values()):
        shift = moved[0] if moved else 0
        if vocabulary[special + shift : len(names) + shift] == names[special:]:
            return moved
    raise UserError(
        f"{source} and the tokenizer.json beside it have other vocabularies; remove the one that is not the model's."
    )


def _in_order(ids: Mapping[str, int]) -> tuple[str, ...]:
    """Returns the pieces by id; an id that nobody has is an empty piece."""
    pieces = [""] * (max(ids.values()) + 1)
    for piece, k in ids.items():
        pieces[k] = piece
    return tuple(pieces)


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, Mapping) else token


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)
