"""Fine-tuned checkpoints: the trunk and the head together give the logits that Transformers gives.

The golden logits were made once with transformers 5.23 and torch 2.13 from the very folders that are written here, for the
token ids below.
"""

import json

import keras
import numpy as np
import pytest
from toys import transformers_folder

from tfpt.backbones.hf import Hf
from tfpt.errors import UserError
from tfpt.layers.dense_stack import activation, dense_stack

IDS = np.array([[2, 5, 6, 7, 3], [2, 8, 3, 1, 1]], np.int32)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)
ROBERTA = [[0.12836, -0.68045, -1.12693], [0.19863, -0.28740, -1.05656]]
OF_SEQUENCES = {
    "albert": [[-0.54872, -0.47322, 1.18555], [-0.55674, -0.41538, 1.18420]],
    "bert": [[-0.00604, -0.73622, -0.80124], [-0.05364, -1.06788, -0.65843]],
    "camembert": ROBERTA,
    "deberta-v2": [[-0.28573, -0.92352, 0.11466], [-0.60267, -1.23071, 0.22604]],
    "distilbert": [[1.52395, 0.60518, -1.95715], [1.80881, 0.42610, -2.79145]],
    "electra": [[-0.66769, 0.13932, 0.34725], [-0.71078, 0.14419, 0.32821]],
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
}
ROBERTA = [[-0.63229, -1.20857, 1.50599], [-0.64805, -1.08674, 1.61631]]
# Of the second token of each text.
OF_TOKENS = {
    "albert": [[1.47556, -0.37660, -0.69599], [1.57105, -0.15210, -0.79305]],
    "bert": [[-0.69523, -1.63430, 1.58272], [0.52138, -1.14178, 0.99104]],
    "camembert": ROBERTA,
    "deberta-v2": [[0.38352, -0.18767, 0.94836], [0.97231, 0.23007, 0.92443]],
    "distilbert": [[-0.82240, 1.08600, 0.41856], [1.33879, 0.41625, -0.44658]],
    "electra": [[-1.14872, -2.35429, 1.07052], [-1.26725, -2.18685, 1.10997]],
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
}


def logits(backbone):
    """Returns what the head gives on the trunk, as a task would put them together: from plain values, then the arrays."""
    network, head = backbone.build(8), backbone.head()
    plan = json.loads(json.dumps(head.plan()))
    vectors = network.output[head.endpoint]
    model = keras.Model(network.inputs, dense_stack(vectors, plan, dropout=0.5))
    head.load(model)
    fed = {"token_ids": IDS, "padding_mask": MASK, "segment_ids": np.zeros_like(IDS)}
    return model([fed[part.name] for part in network.inputs]).numpy()


@pytest.mark.parametrize("kind", sorted(OF_SEQUENCES))
def test_the_head_of_a_classifier_of_sequences(kind, tmp_path):
    backbone = Hf(str(transformers_folder.write_folder(tmp_path / kind, kind)))
    np.testing.assert_allclose(logits(backbone), OF_SEQUENCES[kind], atol=2e-5)
    head = backbone.head()
    assert (head.endpoint, head.classes, head.problem) == ("pooled", ("bad", "so-so", "good"), "single")
    (note,) = backbone.loading_notes()
    assert "left out" not in note and "4 into the head" in note
    assert len(backbone.loaded.used) + 4 == len(transformers_folder.shapes(kind, "SequenceClassification")) + (
        2 if kind in ("albert", "bert") else 0  # the pooler is read by both
    )


@pytest.mark.parametrize("kind", sorted(OF_TOKENS))
def test_the_head_of_a_classifier_of_tokens(kind, tmp_path):
    folder = transformers_folder.write_folder(tmp_path / kind, kind, "TokenClassification")
    backbone = Hf(str(folder))
    np.testing.assert_allclose(logits(backbone)[:, 1], OF_TOKENS[kind], atol=2e-5)
    assert (backbone.head().endpoint, backbone.head().problem) == ("sequence", "single")


def test_what_the_logits_mean(tmp_path):
    def problem(**changes):
        folder = transformers_folder.write_folder(tmp_path / str(len(list(tmp_path.iterdir()))), "bert", **changes)
        return Hf(str(folder)).head()

    assert problem(problem_type="multi_label_classification").problem == "multi"
    assert problem(problem_type="regression").problem == "regression"
    assert problem(id2label=None).classes == ("LABEL_0", "LABEL_1", "LABEL_2")
    arrays = transformers_folder.tensors("bert")
    one = {
        **arrays,
        "classifier.weight": arrays["classifier.weight"][:1],
        "classifier.bias": arrays["classifier.bias"][:1],
    }
    assert problem(arrays=one, id2label={"0": "stars"}).problem == "regression"
    assert problem(architectures=["BertForMaskedLM"]) is None
    assert problem(architectures=None) is None


def test_heads_that_cannot_be_taken_over(tmp_path):
    def message(pooling="auto", **changes):
        folder = transformers_folder.write_folder(tmp_path / str(len(list(tmp_path.iterdir()))), "bert", **changes)
        with pytest.raises(UserError) as raised:
            Hf(str(folder), Hf.Config(pooling=pooling)).head()
        return str(raised.value)

    arrays = transformers_folder.tensors("bert")
    assert "id2label" in message(id2label={"0": "a", "1": "b"})
    assert "id2label" in message(id2label={"0": "a", "1": "b", "2": "b"})
    assert "reads the first token; write auto or cls" in message(pooling="mean")
    assert "lacks the tensor classifier.bias" in message(
        arrays={name: values for name, values in arrays.items() if name != "classifier.bias"}
    )
    assert "do not fit each other" in message(arrays={**arrays, "classifier.weight": np.zeros((3, 5), np.float32)})


def test_activations_are_what_their_names_say():
    x = np.linspace(-3, 3, 7, dtype=np.float32)
    tanh = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(activation("gelu_tanh")(x), tanh, atol=1e-6)
    assert 1e-5 < np.abs(np.asarray(activation("gelu")(x)) - tanh).max() < 1e-3
    np.testing.assert_array_equal(activation("linear")(x), x)
