"""Whole runs at toy size: trunks of KerasHub and of a Hugging Face folder, from raw data to a bundle proven equal."""

import numpy as np
import pytest
from test_kerashub import IMAGE, TEXT, save, write_tokenizer
from toys import transformers_folder

from tfpt.serving.servable import Servable


@pytest.fixture
def sentences(tmp_path):
    random = np.random.default_rng(0)
    rows = []
    for k in range(48):
        words = ["x" if k % 2 else "d", *random.choice(["a", "b", "e", ","], 4)]
        rows.append(f"{'yes' if k % 2 else 'no'}\t{' '.join(random.permutation(words))} {k}\n")
    (tmp_path / "data.tsv").write_text("label\ttext\n" + "".join(rows))
    return tmp_path / "data.tsv"


SMALL = {"task": "text_classification", "max_length": 16, "learning_rate": 3e-3, "epochs": 2}


@pytest.mark.slow
def test_a_text_trunk_of_kerashub(fit, sentences, tmp_path):
    save(tmp_path / "bert", "Bert", TEXT["Bert"][1])
    write_tokenizer(tmp_path / "bert", "Bert", "words")
    run = fit(tmp_path, data=f"csv:{sentences}", backbone=f"kerashub:{tmp_path / 'bert'}", **SMALL)
    assert run.metrics["parity"]["passed"]
    answer = Servable.load(run.model_folder).predict({"text": [b"the cat, \xff\xf0\x9f\x91\x8d", b""]})
    assert answer["scores"].shape == (2, 2)


@pytest.mark.slow
def test_a_picture_trunk_of_kerashub(fit, pictures, tmp_path):
    import keras_hub

    save(tmp_path / "vit", "ViT", IMAGE["ViT"])
    converter = keras_hub.layers.ImageConverter(image_size=(32, 32), scale=1 / 127.5, offset=-1.0)
    converter.save_to_preset(str(tmp_path / "vit"))
    run = fit(tmp_path, data=f"folder:{pictures}", backbone=f"kerashub:{tmp_path / 'vit'}", image_size=32)
    assert run.metrics["parity"]["passed"]
    assert run.predict([next((pictures / "red").iterdir())])["scores"].shape == (1, 3)


@pytest.mark.slow
def test_a_hugging_face_folder(fit, sentences, tmp_path):
    folder = transformers_folder.write_folder(tmp_path / "bert", "bert")
    run = fit(tmp_path, data=f"csv:{sentences}", backbone=f"hf:{folder}", **SMALL)
    assert run.metrics["parity"]["passed"]
    log = (run.folder / "log.txt").read_text(encoding="utf-8")
    assert "39 tensors loaded into the backbone; left out: classifier.weight, classifier.bias." in log
