import json

import pytest

from tfpt import list as list_program
from tfpt import registry


def run(capsys, *argv):
    with pytest.raises(SystemExit) as ended:
        list_program.main(argv)
    return ended.value.code, *capsys.readouterr()


@pytest.mark.parametrize("kind", ["tasks", "task", "data", "backbones", "backbone", "augment"])
def test_every_component_of_a_kind_is_listed(capsys, kind):
    code, out, _ = run(capsys, kind)
    registered = {"tasks": "task", "backbones": "backbone"}.get(kind, kind)
    names = [line.strip().partition(":")[0] for line in out.splitlines() if line.startswith("  ") and line[2] != " "]
    assert (code, names) == (0, registry.names(registered))


def test_variants_and_json(capsys):
    _, out, _ = run(capsys, "backbones")
    assert "lite0, lite1, lite2" in out
    _, out, _ = run(capsys, "weights", "backbones", "--json")
    listed = json.loads(out)
    assert list(listed) == ["weights", "backbones"]
    assert {"efficientnet_lite:lite0"} <= {row["name"] for row in listed["weights"]}
    assert all(row["about"] for rows in listed.values() for row in rows)


def test_an_unknown_kind(capsys):
    code, _, err = run(capsys, "modles")
    assert (code, err) == (
        2,
        "tfpt: modles: there is no such kind; there are tasks, data, backbones, augment, trackers, formats, compressions, weights.\n",
    )
