"""Writes Hugging Face folders of made-up checkpoints, without Transformers."""

import json
from pathlib import Path

import numpy as np

WIDTH, NARROW, WIDE, LAYERS, POSITIONS, WORDS, CLASSES = 8, 4, 12, 2, 24, 30, 3
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##c", "d", "é", "e", ",", "D", "##d", "x"]

_SIZES = {
    "vocab_size": WORDS,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": WIDE,
    "max_position_embeddings": POSITIONS,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "layer_norm_eps": 1e-7,
    "type_vocab_size": 2,
    "pad_token_id": 1,
}
CONFIGS = {
    "albert": {**_SIZES, "embedding_size": NARROW, "num_hidden_groups": 1, "inner_group_num": 1, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.02},
    "bert": _SIZES,
    "camembert": {**_SIZES, "type_vocab_size": 1},
    "deberta-v2": {
        **_SIZES, "type_vocab_size": 0, "relative_attention": True, "position_buckets": 6, "norm_rel_ebd": "layer_norm",
        "share_att_key": True, "pos_att_type": "p2c|c2p", "position_biased_input": False, "pooler_hidden_act": "gelu",
        "pooler_hidden_size": WIDTH, "pooler_dropout": 0, "max_relative_positions": -1,
    },
    "distilbert": {
        "vocab_size": WORDS, "dim": WIDTH, "n_layers": LAYERS, "n_heads": 2, "hidden_dim": WIDE, "dropout": 0.1,
        "max_position_embeddings": POSITIONS, "activation": "gelu", "pad_token_id": 1,
    },
    "electra": {**_SIZES, "embedding_size": NARROW},
    "roberta": {**_SIZES, "type_vocab_size": 1},
    "xlm-roberta": {**_SIZES, "type_vocab_size": 1},
}  # fmt: skip
_CLASSES = {
    "albert": "Albert", "bert": "Bert", "camembert": "Camembert", "deberta-v2": "DebertaV2", "distilbert": "DistilBert",
    "electra": "Electra", "roberta": "Roberta", "xlm-roberta": "XLMRoberta",
}  # fmt: skip


def shapes(kind, head):
    """Returns name -> shape of a checkpoint: `head` is SequenceClassification or TokenClassification."""
    found = {}

    def linear(name, outputs, inputs):
        found.update({f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)})

    def norm(name, width=WIDTH):
        found.update({f"{name}.weight": (width,), f"{name}.bias": (width,)})

    base = {"deberta-v2": "deberta", "camembert": "roberta", "xlm-roberta": "roberta"}.get(kind, kind)
    narrow = NARROW if kind in ("albert", "electra") else WIDTH
    tables = {"word": WORDS, "position": POSITIONS, "token_type": 1 if base == "roberta" else 2}
    if kind == "deberta-v2":
        tables = {"word": WORDS}
    if kind == "distilbert":
        del tables["token_type"]
    for table, rows in tables.items():
        found[f"{base}.embeddings.{table}_embeddings.weight"] = (rows, narrow)
    norm(f"{base}.embeddings.LayerNorm", narrow)
    if kind == "albert":
        linear("albert.encoder.embedding_hidden_mapping_in", WIDTH, NARROW)
        layer = "albert.encoder.albert_layer_groups.0.albert_layers.0"
        for part in ("query", "key", "value", "dense"):
            linear(f"{layer}.attention.{part}", WIDTH, WIDTH)
        norm(f"{layer}.attention.LayerNorm")
        linear(f"{layer}.ffn", WIDE, WIDTH)
        linear(f"{layer}.ffn_output", WIDTH, WIDE)
        norm(f"{layer}.full_layer_layer_norm")
    if kind == "electra":
        linear("electra.embeddings_project", WIDTH, NARROW)
    if kind == "deberta-v2":
        found["deberta.encoder.rel_embeddings.weight"] = (2 * CONFIGS[kind]["position_buckets"], WIDTH)
        norm("deberta.encoder.LayerNorm")
    for k in range(0 if kind == "albert" else LAYERS):
        if kind == "distilbert":
            layer = f"distilbert.transformer.layer.{k}"
            for part in ("q_lin", "k_lin", "v_lin", "out_lin"):
                linear(f"{layer}.attention.{part}", WIDTH, WIDTH)
            norm(f"{layer}.sa_layer_norm")
            linear(f"{layer}.ffn.lin1", WIDE, WIDTH)
            linear(f"{layer}.ffn.lin2", WIDTH, WIDE)
            norm(f"{layer}.output_layer_norm")
            continue
        layer, suffix = f"{base}.encoder.layer.{k}", "_proj" if kind == "deberta-v2" else ""
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}{suffix}", WIDTH, WIDTH)
        linear(f"{layer}.attention.output.dense", WIDTH, WIDTH)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", WIDE, WIDTH)
        linear(f"{layer}.output.dense", WIDTH, WIDE)
        norm(f"{layer}.output.LayerNorm")
    for name, outputs in _head(kind, base, head):
        linear(name, outputs, WIDTH)
    return found


def _head(kind, base, head):
    if head == "TokenClassification":
        return [("classifier", CLASSES)]
    first = {
        "albert": "albert.pooler",
        "bert": "bert.pooler.dense",
        "deberta-v2": "pooler.dense",
        "distilbert": "pre_classifier",
    }
    if kind in first:
        return [(first[kind], WIDTH), ("classifier", CLASSES)]
    return [("classifier.dense", WIDTH), ("classifier.out_proj", CLASSES)]


def tensors(kind, head="SequenceClassification"):
    """Returns name -> array, the same at each call."""
    made = {}
    for k, (name, shape) in enumerate(shapes(kind, head).items()):
        values = np.random.default_rng(k).standard_normal(shape) * 0.4
        made[name] = (values + ("orm.weight" in name)).astype(np.float32)
    return made


def config(kind, head="SequenceClassification", **changes):
    """Returns what config.json says."""
    labels = {str(k): name for k, name in enumerate(["bad", "so-so", "good"])}
    whole = {"model_type": kind, "architectures": [f"{_CLASSES[kind]}For{head}"], "id2label": labels, **CONFIGS[kind]}
    return {**whole, "label2id": {name: int(k) for k, name in labels.items()}, **changes}


def write_safetensors(path, arrays):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, values in arrays.items():
        end = len(data) + values.nbytes
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [len(data), end]}
        data += np.ascontiguousarray(values).tobytes()
    text = json.dumps(header).encode()
    Path(path).write_bytes(len(text).to_bytes(8, "little") + text + data)


def write_folder(folder, kind, head="SequenceClassification", *, arrays=None, **changes):
    """Writes config.json, vocab.txt and model.safetensors into a new folder, and returns it."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config(kind, head, **changes)), encoding="utf-8")
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in VOCABULARY), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}), encoding="utf-8")
    write_safetensors(folder / "model.safetensors", tensors(kind, head) if arrays is None else arrays)
    return folder
