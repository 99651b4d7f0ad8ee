"""docs/from_transformers.md names flags that exist, and its commands are commands."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from tfpt import config, flags, registry

PAGE = (Path(__file__).parents[1] / "docs" / "from_transformers.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(command.replace("\\\n", " "))
    for command in re.findall(r"^    (tfpt train (?:.*\\\n)*.*)$", PAGE, flags=re.MULTILINE)
]


def fields(group, cls):
    return {f"{group}.{field.name}" for field in dataclasses.fields(cls)}


def test_the_flags_exist():
    known = set(config.KINDS) | {"model", "text", "offline", "checkpoint.pair"}
    for group, cls in config.GROUPS.items():
        known |= fields(group, cls)
    for kind in config.KINDS:
        for name in registry.names(kind):
            known |= fields(kind, registry.find(kind, name).Config)
    ours = PAGE.replace("python run_", "\npython run_")
    ours = re.sub(r"^ *python run_(?:.*\\\n)*.*$", "", ours, flags=re.MULTILINE)
    table = [line.split("|")[2] if line.startswith("|") else line for line in ours.splitlines()]
    named = set(re.findall(r"--([a-z]+\.[a-z_]+)", "\n".join(table)))
    assert len(named) > 25
    assert named <= known


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[2])
def test_the_commands_are_commands(command):
    experiment = flags.parse(command[2:], program="train").experiment
    assert str(experiment.backbone["trunk"]).startswith("hf:")
    assert experiment.train.head_epochs == 0


def test_there_is_a_command_for_each_script():
    assert len(COMMANDS) == 3
