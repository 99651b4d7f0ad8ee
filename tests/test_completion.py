"""What a shell offers for the word that is being written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tfpt import completion, programs


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tr"], ["train"]),
        (["find"], ["find-lr"]),
        (["train", "--optim.lea"], ["--optim.learning_rate="]),
        (["train", "--offl"], ["--offline"]),
        (["train", "--optim.schedule=c"], ["--optim.schedule=cosine", "--optim.schedule=constant"]),
        (["train", "--optim.schedule=cosine"], []),
        (["train", "--export.publish="], ["--export.publish=true", "--export.publish=false"]),
        (["train", "--input.image_size=a"], ["--input.image_size=auto"]),
        (["train", "--task=image_c"], ["--task=image_classification"]),
        (["train", "--backbone=efficientnet_lite:lite1"], []),
        (["train", "--backbone=efficientnet_lite:"], [f"--backbone=efficientnet_lite:lite{k}" for k in range(3)]),
        (["train", "--data=digits", "--data.delim"], []),
        (["train", "--data=csv:x.csv", "--data.delim"], ["--data.delimiter="]),
        (["train", "--data=absent:x", "--optim.clip"], ["--optim.clip_norm="]),
        (["sweep", "--sweep.sh"], ["--sweep.shard="]),
        (["train", "--sweep.sh"], []),
        (["predict", "photo"], []),
        (["no_such", "--tr"], []),
        (["train", "--no_such=x"], []),
    ],
)  # fmt: skip
def test_candidates(words, expected):
    assert completion.candidates(words) == expected


def test_every_program_is_offered():
    offered = completion.candidates([""])
    assert {name.replace("_", "-") for name in programs.descriptions()} <= set(offered)


@pytest.fixture
def path(tmp_path):
    """A PATH on which `tfpt` is this one."""
    (tmp_path / "tfpt").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tfpt "$@"\n')
    (tmp_path / "tfpt").chmod(0o755)
    root = Path(completion.__file__).parent.parent
    return os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(root)}


def bash(line, environment):
    """Returns what bash would insert for the last word of a line, as readline cuts it."""
    words, word = [], ""
    for character in line:
        if character in " =:":
            words += [word] if word else []
            words += [character] if character != " " else []
            word = ""
        else:
            word += character
    words.append(word)
    if not word and words[-2:-1] in (["="], [":"]):  # readline gives the separator itself as the word
        words.pop()
    script = (
        'source <(tfpt completion bash); COMP_LINE=$1; COMP_POINT=${#1}; shift; COMP_WORDS=("$@"); '
        'COMP_CWORD=$(($# - 1)); compopt() { :; }; _tfpt; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script, "-", line, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.split()


def test_bash_takes_words_with_separators_apart_and_together(path):
    assert bash("tfpt tr", path) == ["train"]
    assert bash("tfpt train --optim.sch", path) == ["--optim.schedule="]
    assert bash("tfpt train --optim.schedule=li", path) == ["linear"]
    assert bash("tfpt train --backbone=efficientnet_lite:lite", path) == ["lite0", "lite1", "lite2"]
    assert bash("tfpt train --backbone=efficientnet_lite:", path) == ["lite0", "lite1", "lite2"]


@pytest.mark.parametrize("shell", completion.SCRIPTS)
def test_scripts_are_printed(shell, capsys):
    with pytest.raises(SystemExit) as ended:
        completion.main([shell])
    assert not ended.value.code
    assert capsys.readouterr().out == completion.SCRIPTS[shell]
    installed = shutil.which(shell)
    if installed:
        subprocess.run([installed, "-n", "-c", completion.SCRIPTS[shell]], check=True)


def test_another_shell_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        completion.main(["tcsh"])
    assert ended.value.code == 2
    assert "tfpt completion bash|zsh|fish" in capsys.readouterr().err
