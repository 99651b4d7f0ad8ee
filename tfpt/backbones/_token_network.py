"""What KerasHub's text networks have in common: inputs, pooling, groups of layers."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tfpt.errors import UserError

if TYPE_CHECKING:
    import keras

    from tfpt.backbones._folder_tokenizer import FolderTokenizer
    from tfpt.config import Input
    from tfpt.preprocessors import Preprocessor

POOLINGS = ("auto", "cls", "mean", "last", "pooler")
POOLING_HELP = (
    "From the tokens' vectors to one: cls (the first), mean, last, pooler (the checkpoint's own layer on the first), or "
    "auto (what the checkpoint was made for)."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """How a family of text networks is fed.

    Attributes:
        around: where special tokens go: `bert` ([CLS] a [SEP] b [SEP]), `roberta` (<s> a </s></s> b </s>), `t5` (a </s> b
            </s>), `xlnet` (a <sep> b <sep> <cls>) or `gpt` (<|endoftext|> a <|endoftext|>).
        segments: whether it tells the two texts of a pair apart.
        encoder: whether it is the encoder of a network that has a decoder, too.
        pooling: what `auto` means where the checkpoint does not say.
    """

    around: str
    segments: bool = False
    encoder: bool = False
    pooling: str = "cls"

    @property
    def inputs(self) -> dict[str, str]:
        """`ids`, `segments`, `mask` -> the network's name for it."""
        prefix = "encoder_" if self.encoder else ""
        names = {"ids": f"{prefix}token_ids", "mask": f"{prefix}padding_mask"}
        return {**names, "segments": "segment_ids"} if self.segments else names


_GPT = Family(around="gpt", pooling="last")
_BERT = Family(around="bert", segments=True)
_ROBERTA = Family(around="roberta")
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "AlbertBackbone": _BERT,
        "BartBackbone": Family(around="roberta", encoder=True, pooling="mean"),
        "BertBackbone": _BERT,
        "DebertaV3Backbone": Family(around="bert"),
        "DistilBertBackbone": Family(around="bert"),
        "ElectraBackbone": _BERT,
        "FNetBackbone": _BERT,
        "GPT2Backbone": _GPT,
        "OPTBackbone": _GPT,
        "RobertaBackbone": _ROBERTA,
        "T5Backbone": Family(around="t5", encoder=True, pooling="mean"),
        "XLMRobertaBackbone": _ROBERTA,
        "XLNetBackbone": Family(around="xlnet", segments=True, pooling="last"),
    }
)
"""KerasHub's class -> family, for those that are tested here."""


def around(
    family: Family, *, begin: int | None, end: int | None
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Returns the special tokens before, between and after the texts.

    Args:
        family: says where they go.
        begin: id of [CLS] or <s>; None where there is none.
        end: id of [SEP], </s> or <|endoftext|>; likewise.
    """
    first = () if begin is None else (begin,)
    last = () if end is None else (end,)
    if family.around == "t5":
        return (), last, last
    if family.around == "xlnet":
        return (), last, last + first
    if family.around == "roberta":
        return first, last + last, last
    return first, last, last


def text_preprocessor(
    family: Family,
    read: Callable[[], "FolderTokenizer"],
    options: "Input",
    *,
    size: int,
    positions: int | None,
    source: str,
) -> "Preprocessor":
    """Returns the preprocessor that feeds a text network.

    Args:
        family: of the network.
        read: reads the tokenizer; not called where the length is refused.
        options: says how long texts may be.
        size: the longest text in tokens that `auto` means.
        positions: the longest that the network can take; None: any.
        source: the backbone's name, for messages.

    Raises:
        UserError: the network has fewer positions than asked for.
    """
    from tfpt.preprocessors.text import Text

    size = size if options.max_length == "auto" else options.max_length
    if positions and size > positions:
        raise UserError(f"--input.max_length={size}: {source} has {positions} positions; write at most that.")
    found = read()
    before, between, after = around(family, begin=found.begin, end=found.end)
    return Text(
        size=size,
        tokenizer=found.tokenizer,
        before=before,
        between=between,
        after=after,
        inputs=family.inputs,
        padding=found.padding,
    )


def network(backbone: Any, family: Family, *, pooling: str, name: str) -> "keras.Model":
    """Returns the model from the family's inputs to `pooled` and `sequence`.

    Args:
        backbone: a KerasHub backbone.
        family: of it.
        pooling: `cls`, `mean`, `last` or `pooler`.
        name: of the backbone, for messages.

    Raises:
        UserError: the backbone has no pooler.
    """
    import keras

    from tfpt.layers.sequence_pooling import SequencePooling

    if type(backbone).__name__ == "XLNetBackbone":
        _mend_mask(backbone.get_layer("encoder_block_attn_mask_layer"))
    given = backbone.input
    inputs = {
        key: given[key] if key in given else keras.Input((None,), dtype="int32", name=key)  # FNet has no mask
        for key in family.inputs.values()
    }
    output = backbone.output
    outputs = output if isinstance(output, dict) else {"sequence_output": output}
    sequence = outputs["encoder_sequence_output" if family.encoder else "sequence_output"]
    if pooling == "pooler":
        if "pooled_output" not in outputs:
            raise UserError(f"--backbone.pooling=pooler: {name} has no pooler; write cls, mean or last.")
        pooled = outputs["pooled_output"]
    else:
        pooled = SequencePooling(pooling, name="pooled")(sequence, inputs[family.inputs["mask"]])
    return keras.Model(inputs, {"pooled": pooled, "sequence": sequence}, name=re.sub(r"\W", "_", name))


def _mend_mask(layer: Any) -> None:
    """Makes KerasHub's XLNet mask each text's own padding.

    KerasHub 0.32 reshapes the mask `[batch, length]` to `[length, batch]` where it means to transpose it, so texts of a
    batch get parts of each other's. What is handed over here comes out transposed.
    """
    from keras import ops

    call = layer.call
    layer.call = lambda mask, mlen=None: call(ops.reshape(ops.transpose(mask), ops.shape(mask)), mlen)


def groups(model: "keras.Model") -> list[list["keras.layers.Layer"]]:
    """Returns the embeddings, each transformer layer, and what comes after the last one."""
    first: list[Any] = []
    blocks: list[list[Any]] = []
    last: list[Any] = []
    for layer in model.layers:
        if not layer.weights:
            continue
        if _is_block(layer):
            blocks.append([layer])
        elif blocks and "embedding" not in layer.name:
            last.append(layer)
        else:
            first.append(layer)
    return [group for group in (first, *blocks, last) if group]


def _is_block(layer: Any) -> bool:
    """Tells whether a layer is one of the many equal ones: numbered, and made of layers."""
    inner = layer._flatten_layers(include_self=False, recursive=False)
    return bool(re.search(r"_\d+$", layer.name)) and any(part.weights for part in inner)
