"""The quickstart's text half, with a tiny trunk and few sentences; its image half is run by `make quickstart`."""

import hashlib
from types import MappingProxyType

import pytest

from tfpt import quickstart
from tfpt.weights import catalogue
from tfpt.weights.catalogue import Entry


def test_text(tmp_path, monkeypatch, capsys):
    pairs = [("gorgeous", "2"), ("dull", "-1.5")] * 40
    rows = [f"{k}\t{rating}\ta {word} film, number {k}\r\n" for k, (word, rating) in enumerate(pairs, 1)]
    (tmp_path / "reviews.txt").write_bytes("".join(rows).encode())
    digest = f"sha256:{hashlib.sha256((tmp_path / 'reviews.txt').read_bytes()).hexdigest()}"
    made = Entry(
        name="movie_reviews", filename="reviews.txt", sources=(), licence="", origin="", digest=digest, room="data"
    )
    monkeypatch.setattr(catalogue, "CATALOGUE", MappingProxyType({made.name: made}))
    monkeypatch.setenv("TFPT_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TFPT_OFFLINE", "0")  # --offline sets it, for the other tests of this process as well
    monkeypatch.chdir(tmp_path)
    small = {**quickstart.SETTINGS["text"], "backbone": "tiny:transformer", "max_length": 16, "epochs": 3}
    monkeypatch.setattr(quickstart, "SETTINGS", {"text": {**small, "learning_rate": 1e-2}})

    with pytest.raises(SystemExit) as exit:
        quickstart.main(["--quickstart.kind=text", "--offline"])

    out = capsys.readouterr().out
    assert not exit.value.code, out
    assert "text    a gorgeous, witty film: positive " in out
    assert '--model=saved_models/quickstart-text --text="a gorgeous, witty film"' in out
    assert (tmp_path / "saved_models" / "quickstart-text" / "1" / "saved_model.pb").is_file()


@pytest.mark.parametrize("flag", ["--train.epochs=2", "--data=digits"])
def test_its_settings_are_its_own(flag, capsys):
    with pytest.raises(SystemExit) as exit:
        quickstart.main([flag])
    assert exit.value.code == 2 and "the quickstart has settings of its own" in capsys.readouterr().err
